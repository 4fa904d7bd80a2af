"""KL and cross-entropy as metrics of an evaluation: paired with the unedited adapter, unknown where nothing was measured."""

import math

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.evaluation import (
    BASE,
    BASELINE,
    CROSS_ENTROPY,
    KL_BASE,
    KL_UNEDITED,
    Marking,
    answered,
    diverged,
    divergences,
    summarise,
)
from surgery.model import Divergence, LiveModel, VariantEngine
from surgery.spectra import decompose
from tests.helpers.models import loaded_base, random_examples, save_adapter, tiny_llama, tiny_tokenizer

EXAMPLES = random_examples(5, seed=3)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    model = tiny_llama()
    adapter = open_adapter(save_adapter(model, tmp_path_factory.mktemp("adapter")))
    with LiveModel(loaded_base(model), adapter, decompose(adapter)) as attached:
        yield attached


def times(live, factor):
    return {name: factor * spectrum.sigma for name, spectrum in live.spectra.items()}


def test_kl_from_the_adapter_and_from_the_base_are_paired_metrics(live):
    variants = {BASELINE: None, "half": times(live, 0.5), BASE: times(live, 0.0)}
    engine = VariantEngine(live, variants)
    found = diverged(EXAMPLES, engine)
    plain = engine.divergences(EXAMPLES, (BASELINE, BASE))
    assert found.metrics == (CROSS_ENTROPY, KL_UNEDITED, KL_BASE)
    for name in variants:
        assert list(found.numbers(name, "loss")) == [each.cross_entropy for each in plain[name]]
        assert list(found.numbers(name, "kl")) == [each.kl[0] for each in plain[name]]
        assert list(found.numbers(name, "kl_base")) == [each.kl[1] for each in plain[name]]
    assert found.mean(BASELINE, "kl") == found.mean(BASE, "kl_base") == 0
    effect = found.effect("half", "kl")
    assert effect.mean == pytest.approx(np.mean([each.kl[0] for each in plain["half"]]), rel=1e-12)
    assert effect.low > 0
    nearer = found.effect("half", "kl_base")
    assert nearer.mean == pytest.approx(
        np.mean([a.kl[1] - b.kl[1] for a, b in zip(plain["half"], plain[BASELINE], strict=True)]), rel=1e-9
    )
    assert summarise(found).variants["half"].changes["kl"] == effect


def test_marking_asks_for_divergence_in_place_of_answers(live):
    variants = {BASELINE: None, "half": times(live, 0.5)}
    found = answered(EXAMPLES, VariantEngine(live, variants), tiny_tokenizer(), marking=Marking(divergence=True))
    assert found.metrics == (CROSS_ENTROPY, KL_UNEDITED)
    assert found.scores["half"].answers == ("",) * 5
    assert [sample.reference for sample in found.samples] == [example.answer for example in EXAMPLES]
    np.testing.assert_array_equal(
        found.numbers("half", "loss"), diverged(EXAMPLES, VariantEngine(live, variants)).numbers("half", "loss")
    )


def test_a_variant_without_its_reference_has_the_cross_entropy_alone_and_says_so(live):
    found = diverged(EXAMPLES, VariantEngine(live, {"other": times(live, 0.5)}))
    assert found.metrics == (CROSS_ENTROPY,)
    assert divergences.UNTOLD in found.notes
    assert np.isnan(found.numbers("other", "kl")).all()
    whole = diverged(EXAMPLES, VariantEngine(live, {BASELINE: None}))
    joined = whole.joined(found)
    assert math.isnan(joined.effect("other", "kl").mean)
    assert not joined.effect("other", "kl").certain
    assert math.isfinite(joined.effect("other", "loss").mean)


def test_scores_keep_every_number_at_its_reference():
    found = divergences.divergence_scores({"a": [Divergence(1.5, (0.25,))]}, (BASE,), ("said",))["a"]
    assert {name: list(values) for name, values in found.values.items()} == {
        "loss": [1.5],
        "kl": [pytest.approx(math.nan, nan_ok=True)],
        "kl_base": [0.25],
    }
