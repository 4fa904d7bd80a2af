"""Conversations: which turns are scored, and what is no conversation of text alone."""

import pytest

from surgery.data import Message, Row, RowFields, UnusableRow, conversations

TALK = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
MESSAGES = tuple(Message(role, text) for role, text in TALK)
OPENAI = [{"role": role, "content": text} for role, text in TALK]
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text} for role, text in TALK]
LAST, ALL = RowFields(format="messages"), RowFields(format="messages", turns="all")


@pytest.mark.parametrize(
    "record",
    [
        {"messages": OPENAI},
        {"conversations": SHAREGPT, "id": "x"},
        {"conversations": OPENAI},
        {"messages": SHAREGPT},
        {"conversation": OPENAI},
        {"system": "s", "conversations": SHAREGPT[1:], "tools": "[]"},
        {"messages": [{**each, "tool_calls": None, "function_call": {"name": None}} for each in OPENAI]},
        {"messages": [{**each, "content": [{"type": "text", "text": each["content"]}]} for each in OPENAI]},
    ],
)
def test_a_conversation_is_scored_on_its_last_answer_or_on_every_one(record):
    last = Row("s\na\nb\nc", "d", MESSAGES[:5])
    assert LAST.rows(record) == [last]
    assert ALL.rows(record) == [Row("s\na", "b", MESSAGES[:3]), last]
    assert RowFields(turns="all").rows(record) == ALL.rows(record)


def test_an_answer_without_a_question_before_it_is_part_of_later_prompts_only():
    greeted = [Message("assistant", "Hello"), *MESSAGES[1:3]]
    for turns in ("last", "all"):
        assert conversations.conversation_rows(greeted, turns) == [Row.of(greeted)]


def test_of_a_prompt_and_a_completion_only_the_completion_is_scored():
    record = {"prompt": OPENAI[:4], "completion": OPENAI[4:5]}
    for turns in ("last", "all"):
        (row,) = RowFields(turns=turns).rows(record)
        assert row == Row.of(MESSAGES[:5])
    record = {"prompt": OPENAI[:2], "completion": OPENAI[2:5]}
    assert RowFields(turns="all").rows(record) == [Row.of(MESSAGES[:3]), Row.of(MESSAGES[:5])]
    assert RowFields().rows(record) == [Row.of(MESSAGES[:5])]
    assert RowFields().rows({"prompt": "The sky is", "completion": " blue."}) == [Row("The sky is", " blue.")]


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER], "no assistant's turn"),
        ([ANSWER, USER], "no assistant's turn"),
        ([USER, {"role": "critic", "content": "x"}, ANSWER], "unknown role"),
        ([USER, {"role": {"a": 1}, "content": "x"}, ANSWER], "unknown role"),
        ([USER, {"role": "tool", "content": "x"}, ANSWER], "with tools"),
        ([USER, {"from": "function_call", "value": "x"}, ANSWER], "with tools"),
        ([USER, {**ANSWER, "tool_calls": [{"name": "f"}]}], "with tools"),
        ([USER, {**ANSWER, "reasoning_content": "hm"}], "more than text"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}, ANSWER], "more than text"),
        ([{"role": "user", "content": None}, ANSWER], "more than text"),
        ([USER, {"role": "assistant", "content": " \n"}], "empty answer"),
        ([{"role": "user", "content": ""}, ANSWER], "empty prompt"),
        ([USER, {"role": "assistant", "content": "\ud800"}], "unreadable"),
        ([USER, {"content": "b"}], "unreadable"),
        ([USER, "b"], "unreadable"),
        ([], "unreadable"),
        ("a", "unreadable"),
        (None, "missing field"),
    ],
)
@pytest.mark.parametrize("fields", [LAST, ALL])
def test_a_conversation_that_is_no_text_says_why(messages, reason, fields):
    with pytest.raises(UnusableRow) as caught:
        fields.rows({"messages": messages})
    assert caught.value.reason == reason


def test_tools_beside_a_conversation_were_part_of_what_was_trained():
    with pytest.raises(UnusableRow) as caught:
        LAST.rows({"messages": [USER, ANSWER], "tools": [{"name": "f"}]})
    assert caught.value.reason == "with tools"


def test_a_conversation_without_end_is_too_long_for_a_row_of_every_answer():
    long = {"messages": [USER, ANSWER] * 20_000}
    assert len(LAST.rows(long)[0].messages) == 40_000
    with pytest.raises(UnusableRow) as caught:
        ALL.rows(long)
    assert caught.value.reason == "too long"


def test_every_turn_of_a_conversation_has_a_key_of_its_own():
    assert len({row.key for row in ALL.rows({"messages": OPENAI})}) == 2
