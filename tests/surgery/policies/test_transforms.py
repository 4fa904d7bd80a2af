"""Transforms of a spectrum against their formulas in forty digits, and what holds for all of them."""

import math
import statistics
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import EditPlan, edit_modules
from surgery.errors import PolicyError
from surgery.policies import (
    HNS,
    Clip,
    FunctionalFlat,
    FunctionalHNS,
    Identity,
    Power,
    TailLift,
    TopShrink,
)
from tests.helpers.policies import evidence, gains_of, measured, spectrum

TRANSFORMS = [
    Power(),
    Power(exponent=0.0),
    Power(exponent=1.5),
    HNS(),
    HNS(fast=2, stable=0),
    HNS(fast=4, stable=2),
    TopShrink(),
    TailLift(),
    Clip(),
    Clip(cap=1.0),
    FunctionalHNS(),
    FunctionalHNS(alpha=1.0),
    FunctionalFlat(),
]
KEEPING_THE_SUM = [policy for policy in TRANSFORMS if isinstance(policy, (HNS, FunctionalHNS, FunctionalFlat))]
sigmas = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=16).map(lambda s: sorted(s, reverse=True))
seeds = st.integers(0, 10_000)


# ---- the formulas, in numbers of forty digits ----


def hns(values, fast, stable):
    norm = sum((v * v for v in values), Decimal(0)).sqrt()
    x = [v / norm for v in values]
    for _ in range(fast):
        x = [v * (Decimal("3.4445") - Decimal("4.775") * v**2 + Decimal("2.0315") * v**4) for v in x]
    for _ in range(stable):
        x = [v * (2 - Decimal("1.5") * v**2 + Decimal("0.5") * v**4) for v in x]
    return [max(v, Decimal(0)) for v in x]


def summing_to(total, values):
    return [v * total / sum(values) for v in values]


def expected(policy, sigma, q):
    """σ′ before the energy rule of components that are all live."""
    with localcontext() as context:
        context.prec = 40
        values, inputs = [Decimal(s) for s in sigma], [Decimal(each) for each in q]
        total, middle = sum(values), statistics.median(inputs)
        least = [max(each, middle / 10) for each in inputs]
        match policy:
            case Power():
                found = [v ** Decimal(policy.exponent) for v in values]
            case HNS():
                found = summing_to(total, hns(values, policy.fast, policy.stable))
            case TopShrink():
                found = [min(v, total / len(values)) for v in values]
            case TailLift():
                found = [max(v, total / len(values)) for v in values]
            case Clip():
                found = [min(v, Decimal(policy.cap) * statistics.median(values)) for v in values]
            case FunctionalHNS():
                w = [(each / middle) ** (Decimal(policy.alpha) / 2) for each in least]
                x = hns([v * each for v, each in zip(values, w, strict=True)], policy.fast, policy.stable)
                found = summing_to(total, [v / each for v, each in zip(x, w, strict=True)])
            case FunctionalFlat():
                found = summing_to(total, [1 / each.sqrt() for each in least])
        return [float(v) for v in found]


def after(policy, sigma, q=None, energy="none"):
    """σ′ of a stack of one module."""
    (module,) = edit_modules(evidence(g=np.zeros(len(sigma)), sigma=sigma, q=q), policy, energy).values()
    return module.sigma_after


@given(st.sampled_from(TRANSFORMS), sigmas, seeds)
def test_every_transform_is_its_formula(policy, sigma, seed):
    q = np.random.default_rng(seed).lognormal(sigma=2.0, size=len(sigma))
    assert after(policy, sigma, q) == pytest.approx(expected(policy, sigma, q), rel=1e-12)


@given(st.integers(0, 8), st.integers(0, 2), sigmas)
def test_any_number_of_rounds_is_the_formula(fast, stable, sigma):
    policy = HNS(fast=fast, stable=stable)
    # near the fixed points a round stretches a relative error by less than five
    error = 64 * 2.0**-52 * 5.0 ** max(fast - 4, 0)
    assert after(policy, sigma) == pytest.approx(expected(policy, sigma, sigma), rel=max(error, 1e-12))


def test_a_table_worked_by_hand():
    sigma = [4.0, 1.0, 1.0]
    assert after(Power(), sigma).tolist() == [2.0, 1.0, 1.0]
    assert after(Power(exponent=0.0), sigma, energy="l1").tolist() == [2.0, 2.0, 2.0]
    assert after(Power(exponent=0.0), sigma, energy="l2") == pytest.approx([math.sqrt(6)] * 3, rel=1e-15)
    assert after(TopShrink(), sigma).tolist() == [2.0, 1.0, 1.0]
    assert after(TailLift(), sigma).tolist() == [4.0, 2.0, 2.0]
    assert after(Clip(cap=2.0), sigma).tolist() == [2.0, 1.0, 1.0]
    assert after(Clip(cap=2.0), [8.0, 3.0, 1.0, 1.0]).tolist() == [4.0, 3.0, 1.0, 1.0]
    # √q̄ is 2, 1, √0.1
    roots = [2.0, 1.0, math.sqrt(0.1)]
    share = 6 / sum(1 / root for root in roots)
    assert after(FunctionalFlat(), sigma, [4.0, 1.0, 0.0]) == pytest.approx(
        [share / root for root in roots], rel=1e-14
    )


# ---- identities ----


@given(sigmas)
def test_an_exponent_of_one_and_an_infinite_cap_leave_every_bit(sigma):
    for policy in (Power(exponent=1.0), Clip(cap=math.inf), Clip(cap=1e300), HNS(fast=0, stable=0)):
        for energy in ("none", "l1", "l2", "functional"):
            assert after(policy, sigma, energy=energy).tobytes() == np.array(sigma).tobytes()


@given(sigmas, seeds, st.integers(0, 8), st.integers(0, 2))
def test_functional_hns_without_weight_is_hns_bit_for_bit(sigma, seed, fast, stable):
    q = np.random.default_rng(seed).lognormal(sigma=2.0, size=len(sigma))
    weightless = after(FunctionalHNS(fast=fast, stable=stable, alpha=0.0), sigma, q)
    assert weightless.tobytes() == after(HNS(fast=fast, stable=stable), sigma).tobytes()


@given(sigmas, seeds, st.floats(1e-6, 1e6))
def test_inputs_that_are_all_alike_and_a_unit_of_them_change_nothing(sigma, seed, unit):
    same = np.full(len(sigma), unit)
    assert after(FunctionalHNS(), sigma, same) == pytest.approx(after(HNS(), sigma), rel=1e-12)
    assert after(FunctionalFlat(), sigma, same) == pytest.approx([math.fsum(sigma) / len(sigma)] * len(sigma))
    q = np.random.default_rng(seed).lognormal(size=len(sigma))
    for policy in (FunctionalHNS(), FunctionalFlat()):
        assert after(policy, sigma, q * unit) == pytest.approx(after(policy, sigma, q), rel=1e-12)


@pytest.mark.parametrize("policy", [p for p in TRANSFORMS if not isinstance(p, Power)], ids=repr)
@pytest.mark.parametrize("sigma", [[0.3], [0.7] * 5, [1e-300] * 3])
def test_a_single_and_a_flat_spectrum_keep_every_bit(policy, sigma):
    assert gains_of(policy, evidence(g=sigma, sigma=sigma, q=np.ones(len(sigma)))).tolist() == [1.0] * len(sigma)


# ---- what holds for all of them ----


@given(st.sampled_from(TRANSFORMS), sigmas, st.integers(1, 5), seeds)
def test_null_components_keep_gain_one_and_count_for_nothing(policy, sigma, null, seed):
    rng = np.random.default_rng(seed)
    sigma = [max(s, 1e-9 * sigma[0]) for s in sigma]
    rounding = np.sort(rng.uniform(0, 1e-18, null) * sigma[0])[::-1]
    q = rng.lognormal(size=len(sigma))
    beside = np.concatenate([q, rng.lognormal(sigma=5.0, size=null)])
    whole = np.concatenate([sigma, rounding])
    gains = gains_of(policy, evidence(g=whole, sigma=whole, q=beside))
    assert gains[len(sigma) :].tolist() == [1.0] * null
    alone = gains_of(policy, evidence(g=sigma, sigma=sigma, q=q))
    # sums of more terms, zeros among them, may round differently
    assert gains[: len(sigma)] == pytest.approx(alone, rel=1e-12)


@given(st.sampled_from(KEEPING_THE_SUM), sigmas, seeds)
def test_transforms_that_restore_the_nuclear_norm_keep_it_without_a_rule(policy, sigma, seed):
    q = np.random.default_rng(seed).lognormal(sigma=2.0, size=len(sigma))
    assert math.fsum(after(policy, sigma, q)) == pytest.approx(math.fsum(sigma), rel=1e-12)


@given(sigmas, st.floats(0, 1.5), st.floats(0.5, 20))
def test_the_order_of_sigma_holds_where_it_is_promised(sigma, exponent, cap):
    for policy in (Power(exponent=exponent), TopShrink(), TailLift(), Clip(cap=cap)):
        assert (np.diff(after(policy, sigma)) <= 1e-12 * np.array(sigma[:-1])).all()


@given(sigmas)
def test_head_and_tail_add_up_to_the_flat_spectrum(sigma):
    # min(σ, m) + max(σ, m) = σ + m
    total = after(TopShrink(), sigma) + after(TailLift(), sigma)
    assert total == pytest.approx(np.array(sigma) + math.fsum(sigma) / len(sigma), rel=1e-12)


def test_hns_keeps_its_components_in_place_where_a_larger_one_ends_below_a_smaller():
    found = after(HNS(fast=1, stable=0), [10.0, 6.0, 1.0])
    assert found[0] < found[1]


@given(st.floats(0, 10))
def test_a_round_of_hns_never_reaches_zero_or_turns_a_sign(x):
    assert 3.4445 - 4.775 * x**2 + 2.0315 * x**4 > 0
    assert 2 - 1.5 * x**2 + 0.5 * x**4 > 0


@pytest.mark.parametrize("policy", TRANSFORMS, ids=repr)
def test_a_zero_module_keeps_its_zeros_beside_one_that_is_edited(policy):
    for sigma in ([0.0], [0.0, 0.0, 0.0]):
        assert gains_of(policy, evidence(g=sigma, sigma=sigma)).tolist() == [1.0] * len(sigma)


@pytest.mark.parametrize("policy", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("unit", [1e-200, 1e-100, 1e100, 1e200])
def test_values_of_any_size_are_edited_as_those_of_common_size(policy, unit):
    sigma, q = np.array([8.0, 3.0, 1.0]), np.array([2.0, 0.1, 5.0])
    common = after(policy, sigma, q, "l1") * unit
    assert after(policy, sigma * unit, q, "l1") == pytest.approx(common, rel=1e-9, abs=0)


def test_a_power_that_no_float_holds_is_refused():
    with pytest.raises(PolicyError, match="overflow"):
        after(Power(exponent=1.5), [1e300, 1e299])


@pytest.mark.parametrize("policy", [FunctionalHNS(alpha=1.0), FunctionalFlat()], ids=repr)
def test_inputs_of_every_size_at_once_give_finite_gains(policy):
    found = after(policy, [3.0, 2.0, 1.0], [1e300, 1e-300, 1.0])
    assert np.isfinite(found).all()
    assert math.fsum(found) == pytest.approx(6.0, rel=1e-12)


# ---- inputs that were not measured ----


@pytest.mark.parametrize("policy", [FunctionalHNS(), FunctionalFlat()], ids=repr)
@pytest.mark.parametrize(
    ("q", "reason"),
    [
        ([math.nan] * 3, "not measured"),
        ([math.inf, 1.0, 1.0], "not measured"),
        ([0.0, 0.0, 0.0], "not measured"),
        ([5.0, 0.0, 0.0], "nothing to change"),
    ],
)
def test_a_module_without_usable_moments_is_left_alone_with_its_reason(policy, q, reason):
    (module,) = edit_modules(evidence(g=[1.0] * 3, sigma=[3.0, 2.0, 1.0], q=q), policy, "none").values()
    assert reason in module.skipped
    assert module.sigma_after.tolist() == [3.0, 2.0, 1.0]


def test_only_the_functional_ones_ask_for_a_measurement():
    asking = [policy for policy in TRANSFORMS if EditPlan(policy).needs_sensitivity]
    assert {type(policy) for policy in asking} == {FunctionalHNS, FunctionalFlat}
    spectra = {"a.o_proj": spectrum("a.o_proj", [3.0, 2.0, 1.0])}
    for policy in TRANSFORMS:
        plan = EditPlan(policy)
        if policy not in asking:
            assert plan.apply(spectra, None).skipped == {}
            continue
        with pytest.raises(PolicyError, match="calibrate"):
            plan.apply(spectra, None)
        # no gradient is needed: one of zeros does
        assert plan.apply(spectra, measured({"a.o_proj": np.zeros((2, 3))})).skipped == {}


def test_an_edit_at_the_functional_energy_of_the_unedited_module_keeps_it():
    sigma, q = np.array([5.0, 2.0, 1.0]), np.array([0.1, 3.0, 1.0])
    for policy in (HNS(), Power(), FunctionalFlat(), Identity()):
        found = after(policy, sigma, q, "functional")
        assert math.fsum(found**2 * q) == pytest.approx(math.fsum(sigma**2 * q), rel=1e-12)
