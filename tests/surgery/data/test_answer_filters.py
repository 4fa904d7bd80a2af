"""Filters of answers: held against lm-eval's own filters and metric, and bounded where a person's expression is run."""

import random

import pytest

from surgery.data import AnswerFilters
from surgery.errors import DataError
from tests.helpers.lm_eval_reference import DATA, plan
from tests.helpers.refusals import refusal

# what gsm8k's definition says of its exact match: parts that do not count, and case
IGNORED = ["lower", "remove: ,", r"remove: \$", "remove: (?s).*#### ", r"remove: \.$"]
STRICT = [r"regex: #### (\-?[0-9\.\,]+)", *IGNORED]
FLEXIBLE = ["regex-last: (-?[$0-9.,]{2,})|(-?[0-9]+)", *IGNORED]


@pytest.mark.parametrize(
    ("filters", "text", "left"),
    [
        ([], "  A b. ", "A b."),
        (["strip"], " x\n", "x"),
        (["lower"], "ÄB", "äb"),
        (["no-punctuation"], "don't, (really)!", "dont really"),
        (["number"], "$1,200.50", "1200.5"),
        (["number"], "12.", "12"),
        (["number"], "-0.0", "0"),
        (["number"], "1e3", "1000"),
        (["number"], "twelve", "twelve"),
        (["number"], "1e999999999", "1e999999999"),
        (["regex: = (\\d+)"], "1 = 2 = 3", "2"),
        (["regex-last: = (\\d+)"], "1 = 2 = 3", "3"),
        (["regex: (a)|(b)"], "xb", "b"),
        (["regex: \\d"], "none", None),
        (["remove: \\s+"], "a b\nc", "abc"),
        (["regex: (?i)answer: (.*)", "lower", "no-punctuation"], "So.\nANSWER: Blue!", "blue"),
    ],
)
def test_filters_leave_what_counts(filters, text, left):
    assert AnswerFilters(filters)(text) == left


@pytest.mark.parametrize("text", ["upper", "regex:", "regex: (", "lower: x", "", "regex: (a{5000}){5000}"])
def test_what_is_no_filter_is_refused(text):
    refusal(DataError, AnswerFilters, [text])


def test_an_expression_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr("surgery.data.answer_filters._SECONDS", 0.1)
    assert "0.1 s" in refusal(DataError, AnswerFilters(["regex: ^(?:x|xx)+$"]), "x" * 60 + "!")


@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not on this machine")
def test_right_and_wrong_are_lm_evals_own_strict_and_flexible_match_on_gsm8k():
    from surgery.evaluation.lm_eval import load_task

    (task,) = load_task(plan("gsm8k", limit=30)).tasks.values()
    rng = random.Random(4)
    theirs, ours = [], []
    for instance in task.instances:
        reference = instance.doc["answer"]
        number = reference.rpartition("#### ")[2]
        wrong = f"{rng.randint(2, 999)}"
        said = [
            reference,
            f"It is ${number}.",
            f"#### {number}.",
            f"so {number} apples",
            f"#### {wrong}",
            "I do not know",
        ]
        instance.resps = [rng.choice([*said, f"{reference}\n{wrong} more"])]
        instance.filtered_resps = {}
        ours.append([_right(filters, instance.resps[0], reference) for filters in (STRICT, FLEXIBLE)])
    task.apply_filters()
    for instance in task.instances:
        names = ("strict-match", "flexible-extract")
        found = [
            task.process_results(instance.doc, [instance.filtered_resps[name]])["exact_match"] for name in names
        ]
        theirs.append([bool(value) for value in found])
    assert ours == theirs
    assert {tuple(each) for each in theirs} >= {(True, True), (False, True), (False, False)}


def _right(filters: list[str], answer: str, reference: str) -> bool:
    compared = AnswerFilters(filters)
    return compared(answer) is not None and compared(answer) == compared(reference)
