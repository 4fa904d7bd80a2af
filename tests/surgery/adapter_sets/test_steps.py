"""Steps are read from the names that trainers give, and from a file that may hold anything."""

import json

import pytest

from surgery.adapter_sets import open_set
from tests.helpers.adapter_folders import factors, write_adapter_at


@pytest.fixture
def saved(tmp_path):
    """A function that saves a small adapter at a path below the folder, with a trainer's state where one is given."""

    def save(name, state=None):
        write_adapter_at(tmp_path / name, factors(2, layers=1))
        if state is not None:
            (tmp_path / name / "trainer_state.json").write_bytes(state)
        return tmp_path

    return save


def steps(root):
    return {member.name: member.step for member in open_set(root).members}


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("run/checkpoint-500", 500),
        ("run/global_step_20/actor/lora_adapter", 20),
        ("run/step_7", 7),
        ("run/checkpoint-best", None),
        ("run/my-checkpoint-5", None),
        ("run/checkpoint-²", None),
        ("run/checkpoint-1234567890123", None),
    ],
)
def test_a_folder_called_as_trainers_call_it_tells_its_step(saved, name, step):
    assert steps(saved(name)) == {name: step}


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (b'{"global_step": 40}', 40),
        (b'{"global_step": true}', None),
        (b'{"global_step": -1}', None),
        (b'{"global_step": 1e3}', None),
        (b'{"global_step": 99999999999999999999999}', None),
        (b'{"global_step": "40"}', None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
        (b'{"other": 1}', None),
    ],
)
def test_a_trainers_state_tells_a_step_or_nothing(saved, state, step):
    assert steps(saved("final", state)) == {"final": step}


def test_checkpoints_and_what_lies_above_them_are_one_training_in_the_order_of_steps(saved):
    for at in (10, 100, 20):
        saved(f"run/checkpoint-{at}")
    root = saved("run", json.dumps({"global_step": 120}).encode())
    saved("other/checkpoint-5")
    saved("alone")
    found = open_set(root)
    assert {name: [each.step for each in members] for name, members in found.trainings.items()} == {
        "run/*": [10, 20, 100, 120]
    }
    assert [each.name for each in found.members] == [
        "alone",
        "other/checkpoint-5",
        "run/checkpoint-10",
        "run/checkpoint-20",
        "run/checkpoint-100",
        "run",
    ]


def test_the_last_checkpoint_saved_once_more_above_is_no_further_step(saved):
    saved("run/checkpoint-10")
    saved("run/checkpoint-20")
    root = saved("run", b'{"global_step": 20}')
    (members,) = open_set(root).trainings.values()
    assert [each.name for each in members] == ["run/checkpoint-10", "run/checkpoint-20"]
