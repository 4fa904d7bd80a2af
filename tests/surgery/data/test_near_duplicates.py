"""Near-duplicates of held-out rows: found in whatever dress, and not where rows merely share a template."""

import json
import random
import time

import pytest

from surgery.data import NearDuplicatesError, Row, near_duplicates, read_source, task_document
from tests.helpers.lm_eval_reference import DATA

WORDS = [f"{a}{b}" for a in ("ba", "de", "fi", "go", "lu", "ma", "ne", "po", "ri", "su") for b in "klmnprstvz"]
SENTENCE = "The baker sold 12 loaves on Monday and twice as many on Tuesday; how many did she sell in all?"


def text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def found(held: list[str], seen: list[str]) -> list[tuple[str, str]]:
    rows = [[Row(prompt, f"answer {n}") for n, prompt in enumerate(texts)] for texts in (held, seen)]
    return [(pair.held, pair.seen) for pair in near_duplicates(*rows, "calibration")]


@pytest.mark.parametrize(
    "dressed",
    [
        SENTENCE.replace("?", "."),
        SENTENCE.upper(),
        SENTENCE.replace(";", "").replace("?", ""),
        f"  {SENTENCE.replace(' ', '   ')}\n",
        f"Question: {SENTENCE}",
        f"Q3) {SENTENCE}\nAnswer:",
        f"“{SENTENCE}”",
        SENTENCE.replace("sold 12 loaves", "sold  12 loaves").replace("The", "THE"),
    ],
)
def test_a_row_in_another_dress_is_the_same_row(dressed):
    others = [text(20, seed) for seed in range(5)]
    assert found([others[0], dressed], [text(20, 9), SENTENCE]) == [("row 1", "calibration row 1")]


def test_what_means_something_in_a_formula_tells_rows_apart():
    for one, other in [
        ("7 - 3 =", "7 + 3 ="),
        ("3.5 * 2 =", "35 * 2 ="),
        ("5! =", "5 ="),
        ("2 * (3 + 4)", "2 * 3 + 4"),
    ]:
        assert found([one], [other]) == []
    assert found(["Is 7 > 3?"], ["is 7 > 3"]) == [("row 0", "calibration row 0")]


def test_a_long_row_with_a_few_other_words_is_found_and_one_with_many_is_not():
    words = text(60, 1).split()
    few = [*words[:20], "instead", *words[21:40], "also", *words[41:]]
    many = [word if n % 6 else f"other{n}" for n, word in enumerate(words)]
    (pair,) = near_duplicates([Row(" ".join(few), "a")], [Row(text(60, 2), "b"), Row(" ".join(words), "c")])
    assert (pair.held, pair.seen) == ("row 0", "calibration row 1")
    assert pair.overlap == pytest.approx(58 / 60)
    assert found([" ".join(many)], [" ".join(words)]) == []


def test_a_question_inside_a_longer_text_is_found():
    question = text(30, 3)
    assert found([question], [f"{text(40, 4)} {question} {text(100, 5)}"]) == [("row 0", "calibration row 0")]


@pytest.mark.parametrize("count", [4, 40, 400])
def test_rows_that_share_an_instruction_are_not_the_same(count):
    instruction = text(25, 6)
    held = [f"{instruction} {text(6, 1000 + n)}" for n in range(count)]
    seen = [f"{instruction} {text(6, 5000 + n)}" for n in range(count)]
    assert found(held, seen) == []
    assert found([*held, seen[1].upper()], seen) == [(f"row {count}", "calibration row 1")]


def test_rows_of_one_prompt_are_told_apart_by_their_answers():
    held = [Row("Write a story.", text(30, n)) for n in range(30)]
    seen = [Row("Write a story.", text(30, 100 + n)) for n in range(30)]
    assert near_duplicates(held, seen) == []
    again = Row("Write a story.", held[4].answer.replace(" ", "  "))
    assert [pair.held for pair in near_duplicates(held, [*seen, again])] == ["row 4"]
    alone = [Row("", row.answer) for row in seen]
    assert [pair.seen for pair in near_duplicates([Row("", alone[7].answer + ".")], alone)] == [
        "calibration row 7"
    ]


def test_a_question_that_many_seen_rows_ask_is_found_whatever_they_answer():
    seen = [Row(SENTENCE, text(10, n)) for n in range(9)] + [Row(text(10, 50 + n), "x") for n in range(3)]
    held = [Row(text(10, 70 + n), "x") for n in range(3)]
    (pair,) = near_duplicates([*held, Row(f"Q: {SENTENCE}", "36")], seen)
    assert (pair.held, pair.seen) == ("row 3", "calibration row 0")


def test_scripts_without_spaces_are_compared_sign_by_sign():
    sentence = "小明有十二个苹果他给了小红三个又买了五个请问他现在一共有多少个苹果"
    assert found([f"{sentence}。"], [sentence]) == [("row 0", "calibration row 0")]
    assert found([sentence.replace("十二", "二十")], [f"题目如下{sentence}谢谢"]) == [
        ("row 0", "calibration row 0")
    ]
    assert found([sentence], ["今天的天气很好我们一起去公园散步然后在湖边的餐厅里吃了一顿很丰盛的午饭"]) == []


def test_documents_of_a_task_are_compared_by_what_they_ask():
    def document(question: str) -> object:
        asked = f"Question: {question}\nAnswer:"
        return task_document(
            {"question": question, "answer": "30"}, task="t", index=7, prompt=asked, target="30", question=asked
        )

    seen = [Row(SENTENCE.upper(), "36"), Row(text(20, 8), "1")]
    (pair,) = near_duplicates([document(SENTENCE)], seen)
    assert (pair.held, pair.seen, pair.overlap) == ("t 7", "calibration row 0", 1)
    assert near_duplicates([document(text(20, 10))], seen) == []


def test_the_refusal_says_how_many_which_and_the_way_out():
    pairs = near_duplicates([Row(SENTENCE, "36"), Row("x", "y")], [Row(SENTENCE.upper(), "36")])
    told = str(NearDuplicatesError(pairs, 2))
    assert told.startswith("1 of 2 held-out examples is nearly the same")
    assert "row 0" in told
    assert "--allow-near-duplicates" in told
    assert len(told.splitlines()) == 1
    assert NearDuplicatesError(pairs, 2).pairs == tuple(pairs)


@pytest.mark.parametrize("demo", ["kinship", "arithmetic"])
def test_the_demos_own_slices_are_clean(demo):
    slices = {name: read_source(f"demo:{demo}/{name}").rows for name in ("calibration", "tuning", "test")}
    assert near_duplicates(slices["test"], slices["calibration"]) == []
    assert near_duplicates(slices["test"], slices["tuning"]) == []


@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not on this machine")
def test_two_real_splits_are_compared_in_seconds():
    train, test = (
        [Row(each["question"], each["answer"]) for each in map(json.loads, text.splitlines())]
        for text in ((DATA / f"gsm8k/{name}.jsonl").read_text() for name in ("train", "test"))
    )
    begun = time.process_time()
    pairs = near_duplicates(test, train)
    assert time.process_time() - begun < 20
    assert len(pairs) == 1
    assert "same rate, how many additional hours" in pairs[0].held_text
    assert "same rate, how many additional hours" in pairs[0].seen_text
    dressed = [Row(f"Q: {row.prompt.lower()}!", row.answer) for row in train[::700]]
    assert len(near_duplicates([*test[:200], *dressed], train)) == len(dressed)
