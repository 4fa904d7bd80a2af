"""Names of lm-eval: found without its slow index, and the one that was meant is offered."""

import pytest

from surgery.evaluation.lm_eval import TaskPlan, load_task
from surgery.evaluation.lm_eval.catalogue import close_names, collection_names, entries, task_files


def test_the_quick_look_finds_every_name_of_lm_eval_s_own_index():
    found = {*task_files(), *collection_names()}
    assert set(entries()) <= found
    assert len(found) - len(entries()) < 10
    assert {"mmlu", "bbh", "ai2_arc"} <= collection_names()


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
    assert close_names(written, [*task_files(), *collection_names()])[0] == meant
    assert close_names("nothing_of_this_name", task_files()) == []
    with pytest.raises(Exception, match=f"did you mean {meant}"):
        load_task(TaskPlan(written))
