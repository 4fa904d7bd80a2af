"""What holds for every policy, rule and adapter, whatever the numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import make_edit, preview
from surgery.errors import PolicyError
from surgery.policies import (
    POLICIES,
    SCORES,
    AbsSelect,
    DoubleSmooth,
    GradDirection,
    Identity,
    RandomIndex,
    Rank,
    RobustZ,
    SmoothAbs,
    ZScore,
    knob_values,
    knobs_of,
)
from tests.helpers.policies import ROW_POLICIES, measured, some_q, spectrum, with_protected

energies = st.sampled_from(["l1", "l2", "functional", "none"])
seeds = st.integers(0, 100_000)
BY_MAGNITUDE = [AbsSelect, SmoothAbs, DoubleSmooth, ZScore, RobustZ]


# these measurements have no protected slice
UNPROTECTED = {name: kind for name, kind in POLICIES.items() if not kind.needs_protected}


@st.composite
def policies(draw, among=UNPROTECTED):
    """Any of these policies with any knobs in range that do not contradict each other."""
    kind = draw(st.sampled_from(list(among.values())))
    values = {}
    for knob in knobs_of(kind):
        if knob.choices:
            values[knob.name] = draw(st.sampled_from(knob.choices))
        elif knob.kind is bool:
            values[knob.name] = draw(st.booleans())
        elif knob.kind is int:
            values[knob.name] = draw(st.integers(0, min(int(knob.high), 12)))
        else:
            values[knob.name] = draw(st.floats(knob.low, min(knob.high, 2.0)))
    if values.get("align_mid"):
        values |= {"sup": 0.5, "mid": 1.0, "amp": 1.5}
    return kind(**values)


@st.composite
def adapters(draw):
    """Spectra and sensitivities of a few modules of several ranks, some with nothing to edit."""
    rng = np.random.default_rng(draw(seeds))
    ranks = draw(st.lists(st.sampled_from([1, 2, 5, 9]), min_size=1, max_size=7))
    n = draw(st.integers(1, 20))
    spectra, g = {}, {}
    for i, rank in enumerate(ranks):
        name = f"model.layers.{i}.o_proj"
        sigma = np.sort(rng.lognormal(size=rank))[::-1]
        kind = draw(st.sampled_from(["plain", "plain", "null", "zero", "unreached", "flat", "broken"]))
        g[name] = rng.standard_normal((n, rank)) * 10.0 ** rng.integers(-5, 3)
        if kind == "null":
            sigma[rank // 2 :] *= 1e-18
        elif kind == "zero":
            sigma[:] = 0
        elif kind == "unreached":
            g[name][:] = 0
        elif kind == "flat":
            g[name][:] = rng.standard_normal((n, 1))
        elif kind == "broken":
            g[name][0, 0] = np.nan
        spectra[name] = spectrum(name, sigma)
    return spectra, with_protected(measured(g))


# ---- one module and its neighbours ----


row_by_row = policies(ROW_POLICIES).filter(lambda policy: not policy.pools)


@given(adapters(), row_by_row, energies, st.sampled_from([0.0, 0.3]), st.booleans())
def test_a_module_edited_alone_has_the_same_bits_as_in_the_whole_adapter(adapter, policy, energy, sigma_min, hand):
    spectra, sensitivity = adapter
    manual = {name: {0: 0.5} for name in list(spectra)[::2]} if hand else {}
    rules = {"sensitivity": sensitivity, "energy": energy, "sigma_min": sigma_min}
    together = make_edit(spectra, policy, manual=manual, **rules)
    assert list(together.modules) == list(spectra)
    for name, module in together.modules.items():
        mine = {name: manual[name]} if name in manual else {}
        (alone,) = make_edit({name: spectra[name]}, policy, manual=mine, **rules).modules.values()
        for field in ("gains", "sigma", "sigma_after"):
            assert getattr(module, field).tobytes() == getattr(alone, field).tobytes()
        assert module.skipped == alone.skipped


@given(adapters(), policies(ROW_POLICIES), energies, st.randoms(use_true_random=False))
def test_the_order_of_the_modules_changes_no_bit(adapter, policy, energy, random):
    spectra, sensitivity = adapter
    before = make_edit(spectra, policy, sensitivity=sensitivity, energy=energy).modules
    shuffled = dict(random.sample(list(spectra.items()), len(spectra)))
    after = make_edit(shuffled, policy, sensitivity=sensitivity, energy=energy).modules
    for name, module in before.items():
        assert module.sigma_after.tobytes() == after[name].sigma_after.tobytes()


# ---- identity ----


@given(adapters(), energies)
def test_identity_keeps_every_bit_of_every_module(adapter, energy):
    spectra, sensitivity = adapter
    for module, given_ in zip(
        make_edit(spectra, Identity(), sensitivity=sensitivity, energy=energy).modules.values(),
        spectra.values(),
        strict=True,
    ):
        assert module.sigma_after.tobytes() == given_.sigma.tobytes()
        assert module.gains.tolist() == [1.0] * given_.rank


@given(adapters(), policies(), energies, st.sampled_from([0.0, 0.3]))
def test_a_module_left_alone_keeps_every_bit_and_says_why(adapter, policy, energy, sigma_min):
    spectra, sensitivity = adapter
    edit = make_edit(spectra, policy, sensitivity=sensitivity, energy=energy, sigma_min=sigma_min)
    for name in edit.skipped:
        assert edit.modules[name].gains.tolist() == [1.0] * spectra[name].rank
        assert edit.modules[name].sigma_after.tobytes() == spectra[name].sigma.tobytes()
    for name, given_ in spectra.items():
        if not given_.sigma.any():
            assert "zero update" in edit.skipped[name]
        elif policy.needs_gradient and not np.abs(sensitivity.values[name]).sum() > 0:
            assert "no gradient" in edit.skipped[name]


# ---- signs, examples, units ----


def gradients_onto(gradients, U, V):
    """g = uᵀ·G·v of every example and component, one product at a time."""
    out, into = U.shape[0], V.shape[0]
    return [
        [
            math.fsum(float(U[i, k]) * float(G[i, j]) * float(V[j, k]) for i in range(out) for j in range(into))
            for k in range(U.shape[1])
        ]
        for G in gradients
    ]


@given(seeds, st.lists(st.booleans(), min_size=3, max_size=3), policies(ROW_POLICIES), energies)
def test_the_arbitrary_sign_of_a_pair_of_directions_changes_no_bit(seed, flips, policy, energy):
    rng = np.random.default_rng(seed)
    U, V = np.linalg.qr(rng.standard_normal((5, 3)))[0], np.linalg.qr(rng.standard_normal((4, 3)))[0]
    gradients, signs = rng.standard_normal((3, 5, 4)), np.where(flips, -1.0, 1.0)
    spectra = {"o_proj": spectrum("o_proj", [3.0, 2.0, 1.0])}
    edits = [
        make_edit(
            spectra, policy, sensitivity=measured({"o_proj": gradients_onto(gradients, *pair)}), energy=energy
        )
        for pair in ((U, V), (U * signs, V * signs))
    ]
    before, after = (edit.modules["o_proj"].sigma_after for edit in edits)
    assert before.tobytes() == after.tobytes()


@given(seeds, st.integers(1, 9), st.integers(1, 12))
def test_reversing_a_direction_leaves_magnitudes_and_mirrors_the_signed_step(seed, rank, n):
    # ΔW with −uₖ in place of uₖ is another adapter: g changes its sign in every example
    rng = np.random.default_rng(seed)
    g, signs = rng.standard_normal((n, rank)), rng.choice([-1.0, 1.0], rank)
    spectra = {"o_proj": spectrum("o_proj", np.sort(rng.lognormal(size=rank))[::-1])}

    def gains(policy, values):
        edit = make_edit(spectra, policy, sensitivity=measured({"o_proj": values}), energy="none")
        return edit.modules["o_proj"].sigma_after / spectra["o_proj"].sigma

    for kind in BY_MAGNITUDE:
        for magnitude in ("mean_abs", "abs_mean"):
            policy = kind(magnitude=magnitude)
            assert gains(policy, g).tobytes() == gains(policy, g * signs).tobytes()
    symmetric = GradDirection(asymmetric=False, eta=0.7)
    assert gains(symmetric, g * signs) == pytest.approx(gains(symmetric, g) ** signs, rel=1e-12)
    # a component that lowers the loss as it grows is raised, and lowered when it is reversed
    mean = np.array([math.fsum(column) for column in g.T])
    for policy in (GradDirection(), symmetric):
        assert (np.sign(gains(policy, g) - 1) == -np.sign(mean)).all()
        assert (np.sign(gains(policy, -g) - 1) == np.sign(mean)).all()


@given(adapters(), policies(), energies, seeds)
def test_the_order_of_the_examples_changes_no_bit_of_an_edit(adapter, policy, energy, seed):
    spectra, sensitivity = adapter
    order = np.random.default_rng(seed).permutation(sensitivity.examples)
    shuffled = measured({name: g[order] for name, g in sensitivity.values.items()})
    before = make_edit(spectra, policy, sensitivity=sensitivity, energy=energy)
    after = make_edit(spectra, policy, sensitivity=shuffled, energy=energy)
    for name, module in before.modules.items():
        assert module.sigma_after.tobytes() == after.modules[name].sigma_after.tobytes()
    numbers, same = preview(before, sensitivity), preview(after, shuffled)
    # sums over components are taken per example: only the last bits of their mean may differ
    assert same.predicted == pytest.approx(numbers.predicted, rel=1e-9, abs=1e-9, nan_ok=True)
    assert same.standard_error == pytest.approx(numbers.standard_error, rel=1e-9, abs=1e-9, nan_ok=True)


# ---- clamp and energy ----


@given(adapters(), policies(), energies, st.sampled_from([0.0, 0.2, 3.0]))
def test_every_edited_module_keeps_its_energy_and_its_clamp_up_to_the_common_factor(
    adapter, policy, energy, sigma_min
):
    spectra, sensitivity = adapter
    rules = {"sensitivity": sensitivity, "sigma_min": sigma_min}
    edit = make_edit(spectra, policy, energy=energy, **rules)
    plain = make_edit(spectra, policy, energy="none", **rules)
    for name, module in edit.modules.items():
        sigma = [float(s) for s in spectra[name].sigma]
        live = [k for k, s in enumerate(sigma) if s > len(sigma) * 2.0**-52 * max(sigma)]
        if module.skipped:
            continue
        clamped = plain.modules[name].sigma_after
        # before the energy rule the clamp holds exactly
        assert all(clamped[k] >= sigma_min for k in live)
        if energy == "none":
            assert module.sigma_after.tobytes() == clamped.tobytes()
            continue
        order = 1 if energy == "l1" else 2
        weight = some_q(len(sigma)) if energy == "functional" else np.ones(len(sigma))
        before, left, after = (
            math.fsum(float(weight[k]) * float(values[k]) ** order for k in live) ** (1 / order)
            for values in (sigma, clamped, module.sigma_after)
        )
        assert after == pytest.approx(before, rel=1e-12)
        for k in live:
            # after it every component has one common factor, which may take it below the clamp
            assert module.sigma_after[k] == pytest.approx(clamped[k] * before / left, rel=1e-12)
            assert module.sigma_after[k] >= sigma_min * min(1.0, before / left) * (1 - 1e-12)


# ---- controls ----


@given(
    adapters(),
    seeds,
    st.sampled_from([0.1, 0.2, 0.5]),
    st.sampled_from([0.1, 0.2, 0.5]),
    st.sampled_from(["mean_abs", "abs_mean"]),
)
def test_a_seeded_control_gives_each_module_the_gains_of_the_selection_in_another_order(
    adapter, seed, core, noise, magnitude
):
    spectra, sensitivity = adapter
    select = AbsSelect(core_frac=core, noise_frac=noise, amp=1.5, sup=0.5, mid=0.75, magnitude=magnitude)
    shared = {name: value for name, value in knob_values(select).items() if name not in ("norm", "magnitude")}
    control = RandomIndex(**shared, seed=seed)
    chosen, drawn = (
        make_edit(spectra, policy, sensitivity=sensitivity, energy="none") for policy in (select, control)
    )
    for name, module in chosen.modules.items():
        sigma = spectra[name].sigma
        if module.skipped or sigma[-1] <= 1e-10 * sigma[0]:
            continue
        # gains are σ′/σ, so they carry one rounding
        other = drawn.modules[name].gains
        assert np.sort(module.gains) == pytest.approx(np.sort(other), rel=1e-15)


# ---- back and forth ----


@given(adapters(), policies(), energies, seeds)
def test_an_edit_and_the_inverse_gains_by_hand_give_the_original_sigma(adapter, policy, energy, seed):
    spectra, sensitivity = adapter
    try:
        there = make_edit(spectra, policy, sensitivity=sensitivity, energy=energy)
    except PolicyError:
        return
    edited = {name: spectrum(name, module.sigma_after) for name, module in there.modules.items()}
    undo = {
        name: {k: float(1 / gain) for k, gain in enumerate(module.gains) if gain > 1e-100}
        for name, module in there.modules.items()
    }
    back = make_edit(edited, Identity(), manual=undo, energy="none")
    for name, module in back.modules.items():
        given_, after = spectra[name].sigma, there.modules[name].sigma_after
        for k, gain in enumerate(there.modules[name].gains):
            # what was zeroed, or brought to rounding level, is lost
            if gain > 1e-100 and after[k] > 1e-12 * after.max():
                assert module.sigma_after[k] == pytest.approx(given_[k], rel=1e-14)


@given(adapters(), seeds)
def test_truncation_keeps_what_the_larger_truncation_keeps(adapter, seed):
    spectra, sensitivity = adapter
    for by in ("sigma", "sensitivity"):
        kept = []
        for keep in (1, 2, 4):
            edit = make_edit(spectra, Rank(keep=keep, by=by), sensitivity=sensitivity, energy="none")
            kept.append({(name, k) for name, m in edit.modules.items() for k in np.flatnonzero(m.gains)})
        assert kept[0] <= kept[1] <= kept[2]


@given(adapters(), st.sampled_from(SCORES), st.sampled_from([0.5, 0.9, 0.99]))
def test_one_threshold_over_the_scope_cuts_every_module_there_whatever_their_ranks(adapter, by, share):
    """Brute force: no component that is cut counts more than one that is kept, in whichever module."""
    spectra, sensitivity = adapter
    edit = make_edit(spectra, Rank(cut="para", by=by, share=share), sensitivity=sensitivity)
    kept, cut = [], []
    for name, module in edit.modules.items():
        if module.skipped and "nothing to change" not in module.skipped:
            continue  # what was not measured has no part in it
        g, live = sensitivity.values[name], module.sigma > 1e-12 * module.sigma.max()
        score = {
            "sigma": module.sigma**2,
            "functional": module.sigma**2 * sensitivity.inputs.q(name),
            "gradient": np.abs(module.sigma * g.mean(axis=0)),
            "sensitivity": np.abs(g).mean(axis=0),
        }[by]
        kept += score[live & (module.gains == 1)].tolist()
        cut += score[live & (module.gains == 0)].tolist()
        assert set(module.gains[live]) <= {0.0, 1.0}
    if kept and cut:
        assert min(kept) >= max(cut) * (1 - 1e-9)
        assert sum(kept) >= share * sum(kept + cut) * (1 - 1e-9)
        assert sum(kept) - min(kept) <= share * sum(kept + cut) * (1 + 1e-9)
