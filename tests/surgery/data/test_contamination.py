"""Examples that two slices share, by what they say."""

from typing import Any

from surgery.data import shared_examples, task_document


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
