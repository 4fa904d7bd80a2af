"""What a pass over one batch notes of what enters the modules."""

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.model import LiveModel, answer_losses, collate, seeing
from surgery.spectra import decompose
from tests.helpers.models import loaded_base, random_examples, save_adapter, tiny_llama

EXAMPLES = random_examples(4, seed=2)


@pytest.fixture
def live(tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter"))
    with LiveModel(loaded_base(tiny_llama()), adapter, decompose(adapter)) as attached:
        yield attached


def seen_of(live, batch, name):
    with torch.no_grad(), seeing(live, [name], batch) as products:
        answer_losses(live.model, batch)
    (call,) = products.seen[name]
    return call


def test_padding_adds_nothing_even_where_it_is_not_finite(live):
    name = "model.layers.2.mlp.down_proj"
    batch = collate(EXAMPLES, 3, layout="right")
    clean = seen_of(live, batch, name)

    def poison(_, given):
        return (torch.where(batch.attention_mask.bool()[:, :, None], given[0], torch.inf),)

    hook = live.model.get_submodule(name).register_forward_pre_hook(poison)
    found = seen_of(live, batch, name)
    hook.remove()
    assert not batch.attention_mask.bool().all()
    assert torch.equal(found.sums, clean.sums)
    prompts = sum(len(example.prompt_ids) for example in EXAMPLES)
    answers = sum(len(example.answer_ids) for example in EXAMPLES)
    assert found.tokens == clean.tokens == (prompts, answers)


def test_rows_flattened_into_one_axis_are_told_apart_and_some_of_the_tokens_are_not(live):
    name = "model.layers.1.mlp.up_proj"
    batch = collate(EXAMPLES, 3)
    whole = seen_of(live, batch, name)
    layer = live.model.get_submodule(name)

    def flat(_, given):
        return (given[0].flatten(0, 1),)

    def back(_, given, out):
        return out.view(*batch.input_ids.shape, -1)

    hooks = [layer.register_forward_pre_hook(flat), layer.register_forward_hook(back)]
    assert torch.equal(seen_of(live, batch, name).sums, whole.sums)
    for hook in hooks:
        hook.remove()
    kept = [layer.register_forward_pre_hook(lambda _, given: (given[0][:, 1:],))]
    kept.append(layer.register_forward_hook(lambda _, __, out: torch.cat([out[:, :1], out], 1)))
    assert seen_of(live, batch, name) is None
    for hook in kept:
        hook.remove()


def test_layers_are_watched_inside_the_block_alone(live):
    batch = collate(EXAMPLES, 3)
    with torch.no_grad(), seeing(live, list(live.spectra), batch) as products:
        answer_losses(live.model, batch)
        before = {name: len(calls) for name, calls in products.seen.items()}
    with torch.no_grad():
        answer_losses(live.model, batch)
    assert before == {name: len(calls) for name, calls in products.seen.items()} == dict.fromkeys(live.spectra, 1)
    for name, (call,) in products.seen.items():
        np.testing.assert_allclose(
            call.sums, call.sums.mT, rtol=0, atol=1e-5 * float(call.sums.abs().max()), err_msg=name
        )
