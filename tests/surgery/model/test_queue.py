"""The queue of requests: order, and what prompts have in common."""

import pytest

from surgery.model import (
    common_prefix,
    queue,
)
from surgery.progress import Control


@pytest.mark.parametrize(
    ("prompts", "common"),
    [
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2), (1, 2, 4)], 1),
        ([(1, 2, 3)], 0),
        ([(5,), (6, 1)], 0),
        ([(1, 2, 3, 9), (1, 2, 3, 4), (1, 2, 7, 7)], 2),
        ([], 0),
    ],
)
def test_the_shared_prefix_leaves_every_prompt_a_token_of_its_own(prompts, common):
    assert common_prefix(prompts) == list(prompts[0][:common]) if prompts else not common


def test_the_longest_task_comes_first_and_leaves_once_every_variant_has_it():
    tasks = [queue.Task((0,), 3, 10), queue.Task((1,), 7, 10), queue.Task((2,), 3, 20), queue.Task((3,), 3, 10)]
    waiting = queue.Queue(tasks, range(2))
    assert list(waiting.missing) == [1, 2, 0, 3]
    waiting.finish(queue.Slot(2, 0))
    assert waiting.missing[2] == [1]
    waiting.finish(queue.Slot(2, 1))
    assert list(waiting.missing) == [1, 0, 3]


def test_a_request_is_told_once_when_the_last_variant_has_it():
    told, progress, tokens = [], [], []
    control = Control(
        progress=lambda done, total: progress.append((done, total)),
        tokens=lambda done, total: tokens.append((done, total)),
    )
    tally = queue.Tally(["a", "b"], [5, 3], control, lambda request, row: told.append((request, dict(row))))
    for request, variant, result in ((1, 1, "1b"), (0, 0, "0a"), (1, 0, "1a"), (0, 1, "0b")):
        tally.put(request, variant, result)
    assert told == [(1, {"a": "1a", "b": "1b"}), (0, {"a": "0a", "b": "0b"})]
    assert progress == [(0, 4), (2, 4), (4, 4)]
    tally.tell()
    assert tokens == [(0, 16), (16, 16)]
    assert tally.by_variant == {"a": ["0a", "1a"], "b": ["0b", "1b"]}


def test_tokens_of_what_is_under_way_rise_and_reach_the_expected_only_with_the_result():
    tokens = []
    tally = queue.Tally(["a"], [5, 3], Control(tokens=lambda *counts: tokens.append(counts)), None)
    for reached in (2, 4, 3, 9):  # a batch that did not fit reads its rows again, and answers run long
        tally.reached(0, 0, reached)
        tally.tell()
    tally.put(0, 0, "0a")
    tally.put(1, 0, "1a")
    tally.tell()
    assert tokens == [(0, 8), (2, 8), (4, 8), (4, 8), (4, 8), (8, 8)]


def test_equal_inputs_are_one_with_the_places_of_all():
    assert queue.same_inputs(["x", "y", "x", "z", "x"]) == (["x", "y", "z"], [(0, 2, 4), (1,), (3,)])
    assert queue.same_inputs([]) == ([], [])
