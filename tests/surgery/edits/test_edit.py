"""From gains to an edit: order of the rules, energy, reasons."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.adapter import in_scope, open_adapter
from surgery.edits import Edit, ModuleEdit, edit_modules, make_edit, preview
from surgery.errors import PolicyError
from surgery.export import export, write_back
from surgery.policies import (
    AbsSelect,
    DoubleSmooth,
    Evidence,
    GradDirection,
    Identity,
    RandomIndex,
    Rank,
    RobustZ,
    Scale,
    SmoothAbs,
    ZScore,
)
from surgery.spectra import decompose, null_components
from tests.helpers.policies import evidence as evidence_of
from tests.helpers.policies import measured, spectrum, stacked

EVERY_POLICY = [
    Identity(),
    AbsSelect(),
    SmoothAbs(),
    SmoothAbs(align_mid=False, temperature=0.05),
    RandomIndex(seed=3),
    GradDirection(),
    GradDirection(asymmetric=False, eta=1.0),
    Scale(gamma=0.3),
    Rank(keep=2),
    Rank(keep=1, by="sensitivity"),
    DoubleSmooth(),
    ZScore(),
    RobustZ(magnitude="abs_mean"),
]
policies = st.sampled_from(EVERY_POLICY)
sigmas = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12).map(lambda v: np.array(sorted(v, reverse=True)))


def evidence(sigma, g=None, name="m") -> Evidence:
    """A stack of one module, of fixed random g where none is given."""
    g = np.random.default_rng(len(sigma)).standard_normal(len(sigma)) if g is None else g
    return evidence_of(g=g, sigma=sigma, name=name)


def edit_module(evidence, policy, energy="l1", sigma_min=0.0, manual=None) -> ModuleEdit:
    """The edit of a stack of one module."""
    (name,) = evidence.names
    (edited,) = edit_modules(evidence, policy, energy, sigma_min, {name: manual or {}}).values()
    return edited


@pytest.fixture
def llama():
    """Two layers with a few modules each, four components a module."""
    names = [
        f"model.layers.{layer}.{name}"
        for layer in range(2)
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    ]
    return {name: spectrum(name, [4.0, 3.0, 2.0, 1.0]) for name in names}


# ---- identity ----


@given(sigmas, st.sampled_from(["l1", "l2", "none"]))
def test_identity_leaves_every_bit_of_sigma_under_any_energy_rule(sigma, energy):
    edited = edit_module(evidence(sigma), Identity(), energy)
    assert edited.sigma_after.tobytes() == sigma.tobytes()
    assert (edited.gains == 1).all()
    assert edited.skipped is None


@given(policies, sigmas, st.sampled_from(["l1", "l2", "none"]))
def test_the_measured_sigma_is_never_written_to(policy, sigma, energy):
    before = sigma.tobytes()
    edit_module(evidence(sigma), policy, energy, 0.5, {0: 2.0})
    assert sigma.tobytes() == before


# ---- energy, clamp, manual gains ----


@given(policies, sigmas, st.sampled_from(["l1", "l2"]), st.sampled_from([0.0, 0.01, 5.0]))
def test_the_energy_rule_keeps_its_norm(policy, sigma, energy, sigma_min):
    after = edit_module(evidence(sigma), policy, energy, sigma_min).sigma_after
    if energy == "l1":
        assert math.fsum(after) == pytest.approx(math.fsum(sigma), rel=1e-12)
    else:
        assert math.fsum(after**2) == pytest.approx(math.fsum(sigma**2), rel=1e-12)


@given(policies, sigmas, st.sampled_from(["l1", "l2", "none"]))
def test_sigma_after_is_gain_times_sigma(policy, sigma, energy):
    edited = edit_module(evidence(sigma), policy, energy)
    assert edited.sigma_after == pytest.approx(edited.gains * sigma, rel=1e-13)
    assert edited.sigma.tolist() == sigma.tolist()


@given(
    sigmas,
    st.sampled_from(["l1", "l2", "none"]),
    st.floats(0, 2),
    st.dictionaries(st.integers(0, 11), st.floats(0, 3)),
    st.integers(0, 1000),
)
def test_manual_gains_then_clamp_then_energy_in_this_order(sigma, energy, sigma_min, manual, seed):
    manual = {k: gain for k, gain in manual.items() if k < sigma.size}
    policy = RandomIndex(seed=seed, amp=2.0, sup=0.1)
    gains = policy.gains(evidence(sigma))[0].tolist()
    edited = edit_module(evidence(sigma), policy, energy, sigma_min, manual)
    expected = [max(manual.get(k, gains[k]) * s, sigma_min) for k, s in enumerate(sigma)]
    if energy != "none":
        order = 1 if energy == "l1" else 2
        before = math.fsum(s**order for s in sigma) ** (1 / order)
        left = math.fsum(s**order for s in expected) ** (1 / order)
        if left == 0:
            assert edited.skipped
            return
        expected = [s * before / left for s in expected]
    assert edited.sigma_after == pytest.approx(expected, rel=1e-11, abs=1e-300)


def test_rescaling_for_energy_may_fall_below_the_clamp_because_it_comes_last():
    # 4, 1 → 8, clamped 2 → rescaled by 5/10
    edited = edit_module(evidence([4.0, 1.0]), Identity(), "l1", 2.0, {0: 2.0})
    assert edited.sigma_after == pytest.approx([4.0, 1.0], rel=1e-15)
    assert edit_module(evidence([4.0, 1.0]), Identity(), "none", 2.0, {0: 2.0}).sigma_after.tolist() == [8.0, 2.0]


def test_a_grad_direction_edit_matches_a_table_computed_by_hand():
    # g̃ = 2/3, −4/3 over a mean of 3
    edited = edit_module(evidence([2.0, 1.0], [2.0, -4.0]), GradDirection(), "none")
    assert edited.gains == pytest.approx([math.exp(-4 / 3), math.exp(0.8 / 3)], rel=1e-14)
    scaled = edit_module(evidence([2.0, 1.0], [2.0, -4.0]), GradDirection(), "l1")
    factor = 3 / (2 * math.exp(-4 / 3) + math.exp(0.8 / 3))
    assert scaled.gains == pytest.approx(edited.gains * factor, rel=1e-14)
    # the relative sizes are those of before the rescaling
    assert scaled.gains[0] / scaled.gains[1] == pytest.approx(edited.gains[0] / edited.gains[1], rel=1e-14)


def test_a_positive_gradient_shifts_energy_to_the_other_component():
    edited = edit_module(evidence([1.0, 1.0], [1.0, -1.0]), GradDirection(), "l1")
    assert edited.sigma_after[0] < 1 < edited.sigma_after[1]


@pytest.mark.parametrize("energy", ["l1", "l2", "none"])
@pytest.mark.parametrize("rank", [64, 128, 256])
def test_the_largest_steps_keep_the_energy_or_are_refused(rank, energy):
    # one component carries nearly all of |g|, so g̃ is close to the rank
    g = np.full(rank, 1e-9)
    g[0] = -1.0
    for policy in (GradDirection(eta_enhance=8.0), GradDirection(asymmetric=False, eta=8.0)):
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                edited = edit_module(evidence(np.linspace(2, 1, rank), g), policy, energy)
            except PolicyError:
                continue
        assert np.isfinite(edited.gains).all()
        assert np.isfinite(edited.sigma_after).all()
        if energy != "none":
            order = 1 if energy == "l1" else 2
            norms = [np.linalg.norm(s, order) for s in (edited.sigma, edited.sigma_after)]
            assert norms[0] == pytest.approx(norms[1], rel=1e-9)


def test_an_overflow_names_its_module_among_others():
    steep = [-1.0, *[1e-9] * 299]
    flat = [-1.0] * 300
    modules = [evidence(np.linspace(2, 1, 300), g, name) for g, name in ((flat, "a"), (steep, "b"), (flat, "c"))]
    policy = GradDirection(asymmetric=False, eta=8.0)
    with pytest.raises(PolicyError, match="'b' overflow"):
        edit_modules(stacked(*modules), policy, "none")
    assert list(edit_modules(stacked(modules[0], modules[2]), policy, "none")) == ["a", "c"]


# ---- modules that are left alone ----


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.name)
def test_a_zero_update_is_left_alone_with_its_reason(policy):
    edited = edit_module(evidence([0.0, 0.0, 0.0]), policy, "l1", 0.5)
    assert "zero update" in edited.skipped
    assert edited.gains.tolist() == [1.0, 1.0, 1.0]
    assert not edited.sigma_after.any()


@pytest.mark.parametrize(
    "policy",
    [AbsSelect(), SmoothAbs(), DoubleSmooth(), ZScore(), GradDirection(), Rank(keep=1, by="sensitivity")],
)
@pytest.mark.parametrize("g", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_module_that_no_gradient_reached_is_left_alone_with_its_reason(policy, g):
    edited = edit_module(evidence([2.0, 1.0], g), policy)
    assert "gradient" in edited.skipped
    assert edited.gains.tolist() == [1.0, 1.0]
    assert edited.sigma_after.tolist() == [2.0, 1.0]


def test_policies_without_need_of_a_gradient_edit_a_module_that_has_none():
    for policy in (RandomIndex(amp=2.0), Rank(keep=1), Scale(gamma=1.0), Identity()):
        assert edit_module(evidence([2.0, 1.0], [0.0, 0.0]), policy).skipped is None


@pytest.mark.parametrize("policy", [AbsSelect(), SmoothAbs()])
def test_magnitudes_suffice_for_policies_that_look_at_magnitudes(policy):
    # two examples of opposite sign: the signed mean is exactly zero, the magnitude is not
    sensitivity = measured({"o_proj": [[1.0, -3.0], [-1.0, 3.0]]})
    edit = make_edit({"o_proj": spectrum("o_proj", [2.0, 1.0])}, policy, sensitivity=sensitivity)
    assert edit.skipped == {}
    assert edit.modules["o_proj"].gains[1] > edit.modules["o_proj"].gains[0]


def test_a_module_without_energy_left_is_left_alone_with_its_reason():
    edited = edit_module(evidence([2.0, 1.0]), Rank(keep=0), "l1")
    assert "energy" in edited.skipped
    assert edited.sigma_after.tolist() == [2.0, 1.0]
    zeroed = edit_module(evidence([2.0, 1.0]), Rank(keep=0), "none")
    assert zeroed.skipped is None
    assert zeroed.sigma_after.tolist() == [0.0, 0.0]


def test_a_uniform_scale_under_an_energy_rule_says_that_the_rule_undoes_it():
    for energy in ("l1", "l2"):
        edited = edit_module(evidence([2.0, 1.0]), Scale(gamma=0.5), energy)
        assert energy in edited.skipped
        assert edited.sigma_after.tolist() == [2.0, 1.0]
    assert edit_module(evidence([2.0, 1.0]), Scale(gamma=0.5), "none").sigma_after.tolist() == [1.0, 0.5]
    assert edit_module(evidence([2.0, 1.0]), Scale(gamma=1.0), "l1").skipped is None


def test_a_manual_gain_edits_a_module_that_the_policy_would_leave_alone():
    edited = edit_module(evidence([2.0, 1.0], [0.0, 0.0]), GradDirection(), "none", 0.0, {1: 3.0})
    assert edited.skipped is None
    assert edited.gains.tolist() == [1.0, 3.0]


def test_no_rule_lifts_a_component_at_rounding_level():
    # what a decomposition returns for an exact rank of 2: its last directions are arbitrary
    sigma = np.array([2.0, 1.0, 3e-17, 1e-17, 0.0])
    for energy in ("l1", "l2", "none"):
        after = edit_module(evidence(sigma), Identity(), energy, 0.1).sigma_after
        assert after == pytest.approx([2.0, 1.0, 0, 0, 0], abs=1e-12)


@given(
    policies,
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from(["l1", "l2", "none"]),
    st.sampled_from([0.0, 0.5, 10.0]),
    st.dictionaries(st.integers(0, 8), st.floats(0, 3)),
    st.integers(0, 1000),
)
def test_null_components_keep_gain_one_under_every_rule(policy, live, null, energy, sigma_min, manual, seed):
    rng = np.random.default_rng(seed)
    sigma = np.concatenate([np.sort(rng.uniform(0.1, 5, live))[::-1], np.sort(rng.uniform(0, 1e-17, null))[::-1]])
    edited = edit_module(
        evidence(sigma), policy, energy, sigma_min, {k: v for k, v in manual.items() if k < live + null}
    )
    assert edited.gains[live:].tolist() == [1.0] * null
    assert edited.sigma_after[live:].tobytes() == sigma[live:].tobytes()
    if energy == "l1":
        assert math.fsum(edited.sigma_after) == pytest.approx(math.fsum(sigma), rel=1e-12)
    if energy == "l2":
        assert math.fsum(edited.sigma_after**2) == pytest.approx(math.fsum(sigma**2), rel=1e-12)


def test_energy_is_never_moved_into_components_at_rounding_level():
    # the third component is no direction; carrying all of Σσ it would be noise
    edited = edit_module(evidence([2.0, 1.0, 1e-17]), Identity(), "l1", 0.0, {0: 0.0, 1: 0.0})
    assert "energy" in edited.skipped
    assert edited.sigma_after.tolist() == [2.0, 1.0, 1e-17]
    # one component of a true rank of 2 is left: it carries what both had, and the null one stays
    kept = edit_module(evidence([2.0, 1.0, 1e-17]), Rank(keep=1), "l1")
    assert kept.sigma_after == pytest.approx([3.0, 0.0, 1e-17], rel=1e-15)


def test_a_scale_of_all_live_components_is_undone_and_said_so_whatever_the_null_ones_get():
    edited = edit_module(evidence([2.0, 1.0, 0.0]), Identity(), "l1", 0.0, {0: 2.0, 1: 2.0})
    assert "uniform" in edited.skipped
    assert edited.sigma_after.tolist() == [2.0, 1.0, 0.0]


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=9), st.floats(1e-18, 1e3))
def test_null_components_are_those_of_the_spectrum(values, smallest):
    sigma = np.array(sorted([*values, smallest, 1.0], reverse=True))
    zeroed = edit_module(evidence(sigma), Scale(gamma=0.0), "none")
    assert (zeroed.sigma_after != 0).tolist() == (null_components(sigma) & (sigma > 0)).tolist()


@pytest.mark.parametrize(
    "policy", [SmoothAbs(), DoubleSmooth(), ZScore(), RobustZ(), GradDirection(eta=0, asymmetric=False)]
)
def test_a_policy_that_finds_nothing_to_change_says_so(policy):
    edited = edit_module(evidence([2.0, 1.0], [0.5, 0.5]), policy)
    assert "nothing to change" in edited.skipped
    assert edited.sigma_after.tolist() == [2.0, 1.0]
    # a clamp or a gain by hand is an edit of its own
    assert edit_module(evidence([2.0, 1.0], [0.5, 0.5]), policy, "none", 1.5).sigma_after.tolist() == [2.0, 1.5]
    assert edit_module(evidence([2.0, 1.0], [0.5, 0.5]), policy, "none", 0.0, {1: 1.0}).skipped is None


def test_z_gates_leave_a_module_without_spread_alone_even_where_mid_is_not_one():
    for policy in (ZScore(mid=0.9), RobustZ(mid=0.9)):
        assert edit_module(evidence([2.0, 1.0], [0.5, -0.5]), policy, "none").sigma_after.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("energy", "sigma_min"), [("l3", 0.0), ("", 0.0), ("l1", -0.1), ("l1", math.nan), ("l1", math.inf)]
)
def test_unknown_energy_rules_and_impossible_clamps_are_refused(energy, sigma_min):
    with pytest.raises(PolicyError):
        edit_module(evidence([1.0]), Identity(), energy, sigma_min)


# ---- the whole adapter ----


@pytest.mark.parametrize(("layers", "scalars"), [(32, 1024), (36, 1152)], ids=["Llama-3.1-8B", "Qwen3-8B"])
def test_the_residual_writers_at_rank_16_have_as_many_scalars_as_the_paper_counts(layers, scalars):
    spectra = {
        f"model.layers.{i}.{name}": spectrum(f"model.layers.{i}.{name}", np.arange(16, 0, -1.0))
        for i in range(layers)
        for name in ("self_attn.o_proj", "mlp.down_proj", "self_attn.q_proj")
    }
    assert make_edit(spectra, Identity()).scalars == scalars


def test_modules_outside_the_scope_are_not_part_of_the_edit(llama):
    edit = make_edit(llama, RandomIndex())
    assert list(edit.modules) == in_scope(llama, "residual")
    assert list(edit.sigma_after) == list(edit.modules)
    assert edit.skipped == {}


@given(st.integers(0, 2**31 - 1), st.randoms(use_true_random=False))
def test_a_random_control_does_not_depend_on_scope_or_module_order(seed, random):
    names = [f"model.layers.{i}.{kind}" for i in range(4) for kind in ("o_proj", "up_proj")]
    spectra = {name: spectrum(name, [5.0, 4.0, 3.0, 2.0, 1.0]) for name in names}
    shuffled = dict(random.sample(list(spectra.items()), len(spectra)))
    policy = RandomIndex(seed=seed)
    wide = make_edit(spectra, policy, scope="all").modules
    narrow = make_edit(shuffled, policy, scope="residual").modules
    single = make_edit(shuffled, policy, scope=r"layers\.2\.o_proj").modules
    for edit in (narrow, single):
        for name, module in edit.items():
            assert module.gains.tobytes() == wide[name].gains.tobytes()


def test_signed_policies_see_the_mean_and_magnitude_policies_the_mean_magnitude():
    # component 0 is large but of mixed sign, component 1 small and steady
    g = [[3.0, 1.0], [-3.0, 1.0], [0.3, 1.0]]
    spectra, sensitivity = {"a.o_proj": spectrum("a.o_proj", [1.0, 1.0])}, measured({"a.o_proj": g})
    gates = AbsSelect(core_frac=0.5, noise_frac=0.5, amp=2.0, sup=0.5)
    magnitude = make_edit(spectra, gates, sensitivity=sensitivity, energy="none")
    assert magnitude.modules["a.o_proj"].gains.tolist() == [2.0, 0.5]
    direction = make_edit(spectra, GradDirection(), sensitivity=sensitivity, energy="none")
    # signed means 0.1 and 1, of mean 0.55
    assert direction.modules["a.o_proj"].gains == pytest.approx(
        [math.exp(-2 * 0.1 / 0.55), math.exp(-2 / 0.55)], rel=1e-12
    )


@pytest.mark.parametrize("policy", [AbsSelect(), SmoothAbs(), GradDirection(), Rank(by="sensitivity")])
def test_a_policy_that_needs_sensitivities_is_refused_without_them(policy, llama):
    with pytest.raises(PolicyError, match="calibrate"):
        make_edit(llama, policy)
    partly = measured({name: np.ones((2, 4)) for name in in_scope(llama, "residual")})
    with pytest.raises(PolicyError, match="calibrate"):
        make_edit(llama, policy, sensitivity=partly, scope="all")
    assert make_edit(llama, policy, sensitivity=partly).scalars == 16


def test_policies_that_need_no_sensitivities_work_without_them(llama):
    for policy in (Identity(), RandomIndex(), Scale(), Rank()):
        assert make_edit(llama, policy).scalars == 16


@pytest.mark.parametrize(
    "manual",
    [
        {"no.such.module": {0: 1.0}},
        {"model.layers.0.self_attn.q_proj": {0: 1.0}},
        {"model.layers.0.self_attn.o_proj": {4: 1.0}},
        {"model.layers.0.self_attn.o_proj": {-1: 1.0}},
        {"model.layers.0.self_attn.o_proj": {0: -1.0}},
        {"model.layers.0.self_attn.o_proj": {0: math.nan}},
        {"model.layers.0.self_attn.o_proj": {0: math.inf}},
    ],
)
def test_manual_gains_that_fit_no_component_in_scope_are_refused(manual, llama):
    with pytest.raises(PolicyError, match="manual gain"):
        make_edit(llama, Identity(), manual=manual)


def test_manual_gains_reach_their_own_module_only(llama):
    name = "model.layers.1.mlp.down_proj"
    edit = make_edit(llama, Identity(), manual={name: {0: 0.0, 3: 2.0}}, energy="none")
    for other, module in edit.modules.items():
        assert module.gains.tolist() == ([0.0, 1.0, 1.0, 2.0] if other == name else [1.0] * 4)


def test_sensitivities_of_another_rank_are_refused(llama):
    other = measured({name: np.ones((2, 3)) for name in llama})
    with pytest.raises(PolicyError, match="4 components and sensitivities for 3"):
        make_edit(llama, AbsSelect(), sensitivity=other)
    assert preview(make_edit(llama, RandomIndex()), other) is None


def test_modules_of_several_ranks_stay_in_the_order_of_the_scope():
    ranks = {"a.o_proj": 2, "b.o_proj": 4, "c.o_proj": 2, "d.o_proj": 1, "e.o_proj": 4}
    spectra = {name: spectrum(name, np.arange(rank, 0, -1.0)) for name, rank in ranks.items()}
    edit = make_edit(spectra, RandomIndex(amp=2.0), energy="none")
    assert {name: module.gains.size for name, module in edit.modules.items()} == ranks
    assert list(edit.modules) == list(ranks)


# ---- back and forth ----


def test_an_edit_and_its_inverse_give_the_original_factors(lora_tensors, write_adapter):
    tensors = lora_tensors({"layers.0.o_proj": (14, 5, 11), "layers.1.o_proj": (4, 6, 9)}, "float64", seed=2)
    adapter = open_adapter(write_adapter(tensors, rank_pattern={"0.o_proj": 5, "1.o_proj": 6}))
    spectra = decompose(adapter)
    edit = make_edit(spectra, RandomIndex(amp=3.0, sup=0.1), energy="none")
    changed = write_back(adapter, spectra, edit)
    forth = {**adapter.tensors, **changed}
    there = open_adapter(write_adapter(forth, rank_pattern={"0.o_proj": 5, "1.o_proj": 6}))
    back = Edit({
        name: ModuleEdit(1 / module.gains, module.sigma_after, module.sigma)
        for name, module in edit.modules.items()
    })  # fmt: skip
    # directions are kept, so the original U serves the way back as well
    restored = write_back(there, spectra, back)
    assert set(restored) == set(changed) == {key for key in tensors if "lora_B" in key}
    for key, B in restored.items():
        assert np.abs(changed[key] - tensors[key]).max() > 0.01
        assert np.abs(B - tensors[key]).max() < 1e-13


def test_the_inverse_found_by_decomposing_the_export_gives_the_original_update(
    lora_tensors, write_adapter, tmp_path
):
    tensors = lora_tensors({"o_proj": (14, 4, 11)}, "float64", seed=4)
    adapter = open_adapter(write_adapter(tensors))
    spectra = decompose(adapter)
    edit = make_edit(spectra, RandomIndex(amp=3.0, sup=0.1, seed=5), energy="l1")
    export(adapter, spectra, edit, tmp_path / "there")
    there = open_adapter(tmp_path / "there")
    found = decompose(there)
    # σ′ are sorted anew in the export, so each gain is undone where its own σ′ now stands
    module = edit.modules["o_proj"]
    places = np.argsort(-module.sigma_after, kind="stable")
    undo = {"o_proj": {i: float(1 / module.gains[k]) for i, k in enumerate(places)}}
    export(there, found, make_edit(found, Identity(), manual=undo, energy="none"), tmp_path / "back")
    B, A = (open_adapter(tmp_path / "back").tensors[f"base_model.model.o_proj.lora_{s}.weight"] for s in "BA")
    B0, A0 = (tensors[f"base_model.model.o_proj.lora_{s}.weight"] for s in "BA")
    assert np.abs(B @ A - B0 @ A0).max() < 1e-13
