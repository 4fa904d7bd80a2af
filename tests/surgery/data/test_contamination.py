"""Examples that two slices share, by what they say."""

from typing import Any

from surgery.data import Row, shared_examples, task_document


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


def test_texts_without_a_prompt_are_the_same_by_what_they_say():
    question = "How many eggs are left after breakfast?"
    document = task_document({"q": question}, task="t", index=0, prompt=question, target="4", question=question)
    text, other = Row("", f"{question}\nFour are left."), Row("", "Once upon a time there was a hen.")
    assert shared_examples([text], [other]) == []
    assert shared_examples([other], [document]) == []
    assert [shared.first for shared in shared_examples([other, text], [document])] == ["row 1"]
    assert len(shared_examples([text], [Row("", f" {text.answer}")])) == 1
