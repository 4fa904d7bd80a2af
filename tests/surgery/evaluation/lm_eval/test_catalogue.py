"""Names of lm-eval: found without its slow index, and the one that was meant is offered."""

import pytest

from surgery.data import TaskPlan
from surgery.evaluation.lm_eval import catalogue, load_task


def test_the_quick_look_finds_every_name_of_lm_eval_s_own_index():
    found = {*catalogue.task_files(), *catalogue.collection_names()}
    assert set(catalogue.entries()) <= found
    assert len(found) - len(catalogue.entries()) < 10
    assert {"mmlu", "bbh", "ai2_arc"} <= catalogue.collection_names()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MMLU", "mmlu"),
        ("mmul", "mmlu"),
        ("gsm9k", "gsm8k"),
        ("commonsenseqa", "commonsense_qa"),
        ("if_eval", "ifeval"),
        ("hellaswg", "hellaswag"),
        ("mmlu_anatmy", "mmlu_anatomy"),
    ],
)
def test_a_slip_of_the_pen_is_answered_with_the_name_that_was_meant(written, meant):
    assert catalogue.close_names(written, [*catalogue.task_files(), *catalogue.collection_names()])[0] == meant
    assert catalogue.close_names("nothing_of_this_name", catalogue.task_files()) == []
    with pytest.raises(Exception, match=f"did you mean {meant}"):
        load_task(TaskPlan(written))
