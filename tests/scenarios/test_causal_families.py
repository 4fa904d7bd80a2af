"""Evaluation and calibration of every kind of model that reads rows in its own way, against one row at a time.

`tests/benchmarks/causal_families.py` walks all families of the installed transformers; these are one of each kind.
"""

import pytest

from surgery.errors import BaseModelError
from surgery.model import Way
from tests.helpers.families import attached, build, reference, train
from tests.helpers.rounding import assert_losses
from tests.helpers.row_by_row import alone, together

FASTEST = Way()
KINDS = {
    "bloom": FASTEST,
    "falcon": FASTEST,
    "falcon-alibi": FASTEST,
    "gemma2": FASTEST,  # every second layer has a window
    "gpt2": FASTEST,
    "gpt_oss": FASTEST,
    "mamba2": FASTEST,
    "mistral": FASTEST,  # every layer has a window
    "opt": FASTEST,
    # distances are counted by place in the cache, so padding must not stand behind a shared opening
    "mpt": Way(shared=False),
    # several tokens at once do not go on from a cached state
    "jamba": Way(follows=False),
    "mamba": Way(decoding="equal", shared=False, follows=False),
    "zamba": Way(follows=False),
    # positions begin behind the padding's id, and padding in front moves the places of others
    "roberta": Way("equal", "equal", shared=False),
    "bart": Way("right", "equal", shared=False),
    # padding in front enters the state
    "rwkv": Way("right", "right", cached=False, shared=False, follows=False),
    "recurrent_gemma": Way("right", "right", cached=False, shared=False, follows=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_answers_are_those_of_one_row_at_a_time_in_the_fastest_way_that_gives_them(kind, tmp_path):
    folder = train(kind, tmp_path / "adapter")
    with attached(kind, folder) as live:
        assert live.way == KINDS[kind]
        assert bool(live.notes) == (live.way != FASTEST)
        found = together(live)
    models = {"adapter": reference(kind, folder), "base": build(kind)}
    expected = {name: alone(model) for name, model in models.items()}
    assert found.answers == {name: each.answers for name, each in expected.items()}
    for name, losses in found.losses:
        assert_losses(losses, expected[name].losses, models["base"])


def test_a_model_whose_tokens_see_those_that_follow_is_refused(tmp_path):
    folder = train("cpmant", tmp_path / "adapter")
    with (
        attached("cpmant", folder) as live,
        pytest.raises(BaseModelError, match="gives a token other numbers when tokens follow it"),
    ):
        together(live)
