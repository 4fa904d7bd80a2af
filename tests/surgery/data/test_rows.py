"""Rows and what they are known by."""

from surgery.data import Message, Row


def test_a_conversation_is_a_row_of_its_last_answer_and_the_texts_before_it():
    system, asked, answer = Message("system", "Be brief."), Message("user", "2 + 2?"), Message("assistant", "4")
    row = Row.of([system, asked, answer])
    assert row == Row("Be brief.\n2 + 2?", "4", (system, asked, answer))
    assert Row.of([asked, answer]).messages == (asked, answer)


def test_a_conversation_is_known_by_its_roles_and_contents():
    asked, answer = Message("user", " 2 + 2?\n"), Message("assistant", "4")
    assert Row.of([asked, answer]).key == Row("2 + 2?", "4").key
    others = [
        [asked, answer],
        [Message("system", "2 + 2?"), answer],
        [Message("system", ""), asked, answer],
        [Message("system", "Be brief."), asked, answer],
        [Message("user", "Be brief."), asked, answer],
        [asked, answer, asked, answer],
    ]
    assert len({Row.of(messages).key for messages in others}) == len(others)
