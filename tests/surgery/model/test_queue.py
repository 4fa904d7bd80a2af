"""The queue of requests: order, and what prompts have in common."""

import pytest

from surgery.model import (
    common_prefix,
)


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
