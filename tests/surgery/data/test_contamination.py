"""Examples that two slices share, by what they say."""

from typing import Any

from surgery.data import Row, refuse_seen_keys, seen_keys, shared_examples, task_document
from surgery.errors import DataError
from tests.helpers.refusals import refusal


def test_documents_that_share_a_topic_or_hold_numbers_alone_are_not_the_same():
    def sample(index: int, document: dict[str, Any], question: str) -> Any:
        return task_document(document, task="t", index=index, prompt=question, target="", question=question)

    topic = "how to remove ice from a car"
    about = [
        sample(
            i, {"topic": topic, "raw": f"[step] {i}"}, f"{topic}: a sentence, number {i}, made of it by the task"
        )
        for i in (1, 2)
    ]
    assert shared_examples(about[:1], about[1:]) == []
    numbers = [sample(i, {"a": i, "b": 2}, f"{i} + 2 =") for i in (1, 2)]
    assert shared_examples(numbers[:1], numbers[1:]) == []
    again = sample(7, {"b": "x", "text": f"{topic} 1"}, f"{topic}  1")
    assert len(shared_examples([again], [sample(8, {"other": f"{topic} 1 "}, f"Q: {topic} 1")])) == 1


def test_rows_and_documents_are_known_again_by_digests_without_their_texts():
    seen = Row("What is the capital of France?", "Paris")
    keys = frozenset(seen_keys(seen))
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)
    refuse_seen_keys([Row("What is the capital of Spain?", "Madrid")], keys, "mine")
    refuse_seen_keys([Row(seen.prompt, "Lyon")], keys, "mine")
    spaced = Row(f" {seen.prompt}\n", "Paris ")
    said = refusal(DataError, refuse_seen_keys, [spaced, Row("a", "b")], keys, "mine")
    assert "1 of 2 evaluation rows were used for calibration or tuning of 'mine'" in said
    document = task_document(
        {"question": seen.prompt, "answer": "Paris"},
        task="t",
        index=0,
        prompt=f"Q: {seen.prompt} A:",
        target="Paris",
        question=seen.prompt,
    )
    assert "1 of 1" in refusal(DataError, refuse_seen_keys, [document], keys, "mine")
    other = task_document(
        {"question": "And of Italy?"}, task="t", index=1, prompt="p", target="Rome", question="And of Italy?"
    )
    refuse_seen_keys([other], keys, "mine")


def test_texts_without_a_prompt_are_the_same_by_what_they_say():
    question = "How many eggs are left after breakfast?"
    document = task_document({"q": question}, task="t", index=0, prompt=question, target="4", question=question)
    text, other = Row("", f"{question}\nFour are left."), Row("", "Once upon a time there was a hen.")
    assert shared_examples([text], [other]) == []
    assert shared_examples([other], [document]) == []
    assert [shared.first for shared in shared_examples([other, text], [document])] == ["row 1"]
    assert len(shared_examples([text], [Row("", f" {text.answer}")])) == 1
