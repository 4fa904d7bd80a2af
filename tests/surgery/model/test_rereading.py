"""Decoding without a cache against decoding with one, on a model that both are right for."""

import numpy as np
import pytest

from surgery.model import Prompts, rereading
from tests.helpers.rounding import logits_apart
from tests.surgery.model.conftest import prompts_of


def near(found, expected, model) -> bool:
    found, expected = found.double().numpy(), expected.double().numpy()
    return bool(np.linalg.norm(found - expected) <= logits_apart(model) * np.linalg.norm(expected))


@pytest.mark.parametrize("layout", ["left", "right"])
def test_rows_read_again_for_every_token_go_on_like_those_with_a_cache(live, layout):
    prompts = prompts_of(5, seed=6)
    cached, read = Prompts(live, prompts), rereading.Reread(live, prompts[:2], layout)
    read.join([rereading.Reread(live, prompts[2:], layout)])
    for staying in (range(5), [0, 2, 3], [2]):
        if len(staying) < 5:
            cached.keep(staying)
            read.keep(staying)
        assert read.chosen == cached.chosen
        assert near(read.following, cached.following, live.model)
        tokens = cached.chosen
        cached.advance(tokens)
        read.advance(tokens)
    assert near(read.following, cached.following, live.model)


def test_prompts_are_read_with_a_cache_where_the_model_keeps_one(live):
    assert isinstance(rereading.read_prompts(live, [rereading.Text(prompt) for prompt in prompts_of(2)]), Prompts)
