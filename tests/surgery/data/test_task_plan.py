"""A task's settings as a recipe keeps them, and which are refused before anything is loaded."""

import json

import pytest

from surgery.data import TaskPlan
from surgery.errors import DataError

FULL = TaskPlan(
    "gsm8k",
    limit=8,
    seed=1,
    data_files={"test": "a.jsonl"},
    chat_template=True,
    include_path="own",
    system="Be brief.",
    template_args='{"enable_thinking": true}',
    think_end="</think>",
)


def test_a_plan_survives_a_recipe():
    assert TaskPlan.of(json.loads(json.dumps(FULL.values()))) == FULL
    # what earlier versions wrote, and how
    assert TaskPlan("ifeval").values() == {"name": "ifeval"}


@pytest.mark.parametrize(
    "values",
    [
        {"name": "a", "limt": 1},
        {"name": "a", "limit": "3"},
        {"limit": 1},
        {"name": "a", "data_files": 3},
        {"name": "a", "system": 3},
        {"name": "a", "think_end": 1.5},
        {"name": "a", "think_end": True},
        {"name": "a", "chat_template": True, "template_args": {"enable_thinking": False}},
        {"name": "a", "chat_template": True, "template_args": "thinking"},
        {"name": "a", "chat_template": True, "template_args": "[1]"},
        {"name": "a", "chat_template": None},
        {"name": "a", "trust_task_code": True},
    ],
)
def test_a_record_of_anything_else_is_refused(values):
    with pytest.raises(DataError) as caught:
        TaskPlan.of(values)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": 0},
        {"offset": -1},
        {"fewshot": -1},
        {"name": " "},
        {"template_args": '{"mood": "calm"}'},
        {"chat_template": True, "template_args": '{"tokenize": true}'},
        {"chat_template": True, "template_args": '{"enable_thinking": true}'},
    ],
)
def test_settings_that_mean_nothing_together_are_refused(changes):
    with pytest.raises(DataError) as caught:
        TaskPlan(**{"name": "a", **changes})
    assert caught.value.remedy


def test_a_task_names_whose_tokenizer_reads_it_where_that_is_not_the_adapters() -> None:
    assert TaskPlan("gsm8k").values() == {"name": "gsm8k"}
    plan = TaskPlan("gsm8k", tokenizer="base")
    assert plan.values() == {"name": "gsm8k", "tokenizer": "base"}
    assert TaskPlan.of(plan.values()) == plan
    with pytest.raises(DataError, match="adapter or base"):
        TaskPlan("gsm8k", tokenizer="mine")
