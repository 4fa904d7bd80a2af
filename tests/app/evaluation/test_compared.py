"""Answers compared and searched."""

import numpy as np

from app.evaluation.compared import compared, searched
from surgery.evaluation import BASELINE, Evaluation, Metric, Sample, Scores
from surgery.experiments import EDIT
from tests.app.evaluation.conftest import proof


def test_answers_are_told_apart_by_what_became_of_them_and_found_by_their_words() -> None:
    table = compared(proof(), EDIT)
    assert [int(table[kind].sum()) for kind in ("changed", "gained", "lost", "all")] == [40, 8, 0, 40]
    assert compared(proof(gained=-3), EDIT)["lost"].sum() == 3
    assert list(searched(table, "QUESTION 17")["question"]) == ["question 17"]
    assert list(searched(table, "7 reference 1")["reference"]) == ["reference 17"]
    assert searched(table, "nothing like it").empty
    assert searched(table.head(0), "a").empty
    assert len(searched(table, "  ")) == 40
    # what is searched is text: a pattern is no pattern
    assert searched(table, ".*").empty


def test_a_group_s_answers_tell_their_task_and_a_cut_prompt_what_it_lost() -> None:
    scores = {name: Scores({"acc": np.zeros(2)}, ("a", "b")) for name in (BASELINE, EDIT)}
    samples = (Sample("0", "asked", "a", "colours"), Sample("1", "the end", "b", "words", 12))
    table = compared(Evaluation(scores, samples, (Metric("acc", "acc", True, True),)), EDIT)
    assert table["task"].tolist() == ["colours", "words"]
    assert table["tokens cut"].tolist() == [0, 12]
    assert not {"task", "tokens cut"} & set(compared(proof(), EDIT).columns)
