"""KL per token and cross-entropy against dense log-softmaxes in float64 of peft's own models, run one at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.errors import DataError
from surgery.model import Divergence, VariantEngine, divergence
from tests.helpers.models import random_examples
from tests.helpers.rounding import assert_losses, logits_apart
from tests.surgery.model.conftest import forwards

REFERENCES = ("unedited", "base")


def variants_of(case) -> dict:
    """The variants of a case, the base as σ = 0 among them, with references that stand neither first nor together."""
    with case.live() as live:
        base = {name: np.zeros_like(spectrum.sigma) for name, spectrum in live.spectra.items()}
    return {"all": case.variants["all"], "base": base, "one": case.variants["one"], "unedited": None}


def dense_logits(case, variant: str, example) -> torch.Tensor:
    """Logits before the answer tokens from peft's model alone, the base with its adapter switched off."""
    model = case.reference("all" if variant == "base" else variant)
    ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
    with torch.no_grad():
        if variant == "base":
            with model.disable_adapter():
                whole = model(input_ids=ids).logits
        else:
            whole = model(input_ids=ids).logits
    return whole[0, len(example.prompt_ids) - 1 : -1].double()


def dense_kl(reference: torch.Tensor, logits: torch.Tensor) -> float:
    log_p, log_q = (torch.log(torch.softmax(each, -1)) for each in (reference, logits))
    return float((torch.exp(log_p) * (log_p - log_q)).sum(-1).mean())


def kl_apart(model, reference: torch.Tensor, logits: torch.Tensor) -> float:
    """How far KL may move where both logits move by their rounding: its gradients are p·(log p/q − KL) and q − p."""
    p, q = torch.softmax(reference, -1), torch.softmax(logits, -1)
    ratio = torch.log(p) - torch.log(q)
    kl = (p * ratio).sum(-1, keepdim=True)
    by_reference = (p * (ratio - kl)).norm(dim=-1) * reference.norm(dim=-1)
    by_logits = (q - p).norm(dim=-1) * logits.norm(dim=-1)
    first = logits_apart(model) * (by_reference + by_logits)
    second = (logits_apart(model) * (reference.norm(dim=-1) + logits.norm(dim=-1))) ** 2
    return float((first + second).mean())


def test_kl_and_cross_entropy_equal_dense_log_softmaxes_of_peft_and_of_the_adapter_switched_off(case):
    examples = random_examples(3, seed=4)
    with case.live() as live:
        found = VariantEngine(live, variants_of(case)).divergences(examples, REFERENCES)
    for name, values in found.items():
        for example, value in zip(examples, values, strict=True):
            own, model = dense_logits(case, name, example), case.reference("all")
            rows = torch.arange(len(example.answer_ids))
            loss = -torch.log_softmax(own, -1)[rows, list(example.answer_ids)].mean()
            assert_losses([value.cross_entropy], [float(loss)], model)
            for reference, kl in zip(REFERENCES, value.kl, strict=True):
                dense = dense_logits(case, reference, example)
                assert abs(kl - dense_kl(dense, own)) <= kl_apart(model, dense, own)
                assert kl >= 0
                if reference == name:
                    assert kl == 0
    assert found["all"][0].kl[0] > 0.01
    assert found["unedited"][0].kl[1] > 0.01


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_batches_that_part_a_reference_from_its_variants_change_nothing_beyond_rounding(live, llama, rows):
    examples, variants = random_examples(4, seed=4), variants_of(llama)
    together = VariantEngine(live, variants).divergences(examples, REFERENCES)
    apart = VariantEngine(live, variants, rows=rows).divergences(examples, REFERENCES)
    model = llama.reference("all")
    for name in variants:
        assert_losses(
            [each.cross_entropy for each in apart[name]], [each.cross_entropy for each in together[name]], model
        )
        for one, other, example in zip(apart[name], together[name], examples, strict=True):
            for reference, a, b in zip(REFERENCES, one.kl, other.kl, strict=True):
                own, dense = dense_logits(llama, name, example), dense_logits(llama, reference, example)
                assert abs(a - b) <= kl_apart(model, dense, own)


def test_a_batch_that_does_not_fit_is_halved_and_kept_logits_are_let_go_of(live, llama, monkeypatch):
    seen = forwards(live, monkeypatch, when=lambda rows, tokens: rows > 3)
    made = []
    init = divergence.Divergences.__init__
    monkeypatch.setattr(
        divergence.Divergences, "__init__", lambda self, *given: (made.append(self), init(self, *given))[1]
    )
    found = VariantEngine(live, variants_of(llama)).divergences(random_examples(3, seed=4), ["base"])
    assert {len(each) for each in found.values()} == {3}
    assert max(rows for rows, _ in seen) > 3
    assert made[0]._kept == {}


def test_a_reference_that_is_no_variant_is_refused(live, llama):
    with pytest.raises(DataError, match="'base' is no variant of this engine"):
        VariantEngine(live, llama.variants).divergences(random_examples(1), ["base"])


logits_of = st.integers(1, 9).flatmap(
    lambda labels: st.tuples(st.just(labels), st.integers(2, 40), st.integers(0, 10_000), st.floats(0.01, 30.0))
)


@settings(max_examples=25)
@given(logits_of, st.sampled_from([torch.float32, torch.bfloat16]))
def test_kl_is_never_negative_zero_from_itself_and_the_same_in_chunks(drawn, dtype):
    labels, vocabulary, seed, spread = drawn
    generator = torch.Generator().manual_seed(seed)
    p, q = (spread * torch.randn(labels, vocabulary, generator=generator) for _ in range(2))
    p, q = p.to(dtype), q.to(dtype)
    wanted = torch.randint(vocabulary, (labels,), generator=generator)
    found = divergence.divergence(q, wanted, [p, q])
    assert found.kl[0] >= 0
    assert found.kl[1] == 0
    assert found.kl[0] == pytest.approx(dense_kl(p.double(), q.double()), rel=1e-9, abs=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "_ENTRIES", 2 * vocabulary)
        in_chunks = divergence.divergence(q, wanted, [p, q])
    assert in_chunks.cross_entropy == pytest.approx(found.cross_entropy, rel=1e-12)
    assert in_chunks.kl == pytest.approx(found.kl, rel=1e-9, abs=1e-14)


def test_a_change_far_below_float32_resolution_of_log_probabilities_is_told():
    generator = torch.Generator().manual_seed(0)
    p = 4 * torch.randn(3, 5000, generator=generator, dtype=torch.float64)
    change = 1e-5 * torch.randn(3, 5000, generator=generator, dtype=torch.float64)
    found = divergence.divergence(p + change, torch.zeros(3, dtype=torch.long), [p]).kl[0]
    weights = torch.softmax(p, -1)
    centred = change - (weights * change).sum(-1, keepdim=True)
    second_order = float((weights * centred**2).sum(-1).mean() / 2)  # the Fisher form, exact to the next order
    assert found == pytest.approx(second_order, rel=1e-4)
    assert found < 1e-9


def test_tokens_that_a_reference_rules_out_add_nothing():
    p = torch.tensor([[0.0, 1.0, -torch.inf]])
    q = torch.tensor([[0.0, 1.0, -torch.inf]])
    wider = torch.tensor([[0.0, 1.0, 0.5]])
    assert divergence.divergence(q, torch.tensor([0]), [p]) == Divergence(pytest.approx(1.3132617), (0.0,))
    expected = float(np.log(1 + np.e ** (0.5) / (1 + np.e)))
    assert divergence.divergence(wider, torch.tensor([0]), [p]).kl[0] == pytest.approx(expected)
