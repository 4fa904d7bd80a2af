"""Sensitivities of a live model against finite differences and the dense gradient in float64."""

import copy
import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.data import Calibration, Encoding
from surgery.errors import Cancelled, DataError
from surgery.model import LiveModel
from surgery.progress import Control
from surgery.sensitivity import (
    Sensitivity,
    measure_sensitivity,
    provenance_of,
)
from tests.helpers.models import (
    GPT2_TARGETS,
    double,
    example_loss,
    is_transposed,
    merged,
    relative,
    save_adapter,
    singular_triplets,
    tiny_gpt2,
    tiny_llama,
)
from tests.helpers.rounding import assert_losses, sensitivities_apart
from tests.surgery.sensitivity.conftest import EXAMPLES, attached_to, calibration, measure

CASES = {
    "llama": (tiny_llama, {"use_rslora": True, "rank_pattern": {"o_proj": 6}, "alpha_pattern": {"k_proj": 3}}),
    "gpt2": (tiny_gpt2, {"targets": GPT2_TARGETS, "fan_in_fan_out": True}),
}
LONGEST = max(len(e.prompt_ids) + len(e.answer_ids) for e in EXAMPLES)
STEP = 1e-5


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A base model and the folder of an adapter for it; tests attach to copies."""
    make, options = CASES[request.param]
    return make(), save_adapter(make(), tmp_path_factory.mktemp("adapter"), **options)


@dataclass(frozen=True, repr=False)
class OneByOne:
    """An attached model with the measurement of one example at a time; hypothesis would print a long repr."""

    live: LiveModel
    reference: Sensitivity


@pytest.fixture(scope="module", params=["float32", "float64"])
def one_by_one(request, case):
    model, folder = case
    exact = request.param == "float64"
    with attached_to(double(model) if exact else copy.deepcopy(model), folder) as attached:
        yield OneByOne(attached, measure(attached, batch_size=1))


def losses_of(live, examples=EXAMPLES) -> np.ndarray:
    with torch.no_grad():
        return np.array([example_loss(live.model, example).item() for example in examples])


def test_sensitivities_equal_finite_differences(case):
    model, folder = case
    example = EXAMPLES[0]
    with attached_to(double(model), folder) as attached:
        measured = measure(attached, EXAMPLES)
    moved = merged(double(model), folder)
    with torch.no_grad():
        for name, (U, _, V) in singular_triplets(model, folder).items():
            layer = moved.get_submodule(name)
            slopes = []
            for u, v in zip(U.T, V.T, strict=True):
                direction = torch.outer(v, u) if is_transposed(layer) else torch.outer(u, v)
                layer.weight += STEP * direction
                above = example_loss(moved, example)
                layer.weight -= 2 * STEP * direction
                below = example_loss(moved, example)
                layer.weight += STEP * direction
                slopes.append(float(above - below) / (2 * STEP))
            np.testing.assert_allclose(measured.values[name][0], slopes, rtol=1e-5, atol=1e-9, err_msg=name)


def dense_sensitivities(model, folder) -> dict[str, np.ndarray]:
    """uᵀ G v with the dense G = ∂loss/∂W of the merged model in float64, one example at a time."""
    heavy = merged(double(model), folder)
    triplets = singular_triplets(model, folder)
    rows = {name: [] for name in triplets}
    for name in triplets:
        heavy.get_submodule(name).weight.requires_grad_(True)
    for example in EXAMPLES:
        heavy.zero_grad()
        example_loss(heavy, example).backward()
        for name, (U, _, V) in triplets.items():
            layer = heavy.get_submodule(name)
            G = layer.weight.grad.T if is_transposed(layer) else layer.weight.grad
            rows[name].append(torch.einsum("ok,oi,ik->k", U, G, V).numpy())
    return {name: np.stack(values) for name, values in rows.items()}


def test_sensitivities_equal_the_dense_gradient_between_singular_directions(case):
    model, folder = case
    expected = dense_sensitivities(model, folder)
    with attached_to(double(model), folder) as attached:
        measured = measure(attached, batch_size=4)
    assert set(measured.values) == set(expected)
    for name, g in expected.items():
        np.testing.assert_allclose(measured.values[name], g, rtol=1e-7, atol=1e-11, err_msg=name)


def test_float32_sensitivities_equal_the_dense_float64_gradient(case):
    model, folder = case
    expected = dense_sensitivities(model, folder)
    with attached_to(model, folder) as attached:
        measured = measure(attached, batch_size=4)
    for name, g in expected.items():
        assert relative(measured.values[name], g) < sensitivities_apart(model), name


def test_bfloat16_sensitivities_stay_near_the_float32_ones(llama):
    model, folder = llama
    with attached_to(model, folder) as attached:
        expected = measure(attached)
    with attached_to(tiny_llama().to(torch.bfloat16), folder) as attached:
        measured = measure(attached)
        assert measured.provenance.dtype == "bfloat16"
    for name, g in expected.values.items():
        assert relative(measured.values[name], g) < 0.25, name


def test_raising_sigma_along_positive_sensitivity_raises_the_loss(live):
    measured = measure(live)
    before = losses_of(live)
    for row, example in enumerate(EXAMPLES):
        for sign in (1, -1):
            live.set_sigma(
                {n: s.sigma + sign * 1e-3 * np.sign(measured.values[n][row]) for n, s in live.spectra.items()}
            )
            assert sign * (losses_of(live, [example])[0] - before[row]) > 0


def test_raising_the_component_of_largest_positive_sensitivity_raises_the_mean_loss(live):
    mean = {name: g.mean(axis=0) for name, g in measure(live).values.items()}
    worst = max(mean, key=lambda name: mean[name].max())
    sigma = live.spectra[worst].sigma.copy()
    before = losses_of(live).mean()
    sigma[mean[worst].argmax()] += 0.01
    live.set_sigma({worst: sigma})
    assert losses_of(live).mean() > before


def test_losses_equal_one_plain_example_at_a_time(case):
    model, folder = case
    reference = merged(model, folder)
    with attached_to(model, folder) as attached:
        measured = measure(attached, batch_size=4)
    with torch.no_grad():
        expected = [example_loss(reference, example).item() for example in EXAMPLES]
    assert_losses(measured.losses, expected, model)


@settings(max_examples=12)
@given(
    order=st.permutations(range(len(EXAMPLES))),
    batch_size=st.integers(1, len(EXAMPLES) + 1),
    layout=st.sampled_from(["left", "right", "equal", "single"]),
)
def test_sensitivities_do_not_depend_on_batch_size_padding_or_order(one_by_one, order, batch_size, layout):
    measured = measure(one_by_one.live, [EXAMPLES[i] for i in order], batch_size=batch_size, layout=layout)
    model = one_by_one.live.model
    assert_losses(measured.losses, one_by_one.reference.losses[order], model)
    for name, g in measured.values.items():
        expected = one_by_one.reference.values[name][order]
        # example by example, so that a large one cannot hide what happened to a small one
        off = np.linalg.norm(g - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert off.max() < sensitivities_apart(model, math.sqrt(LONGEST)), name


def test_an_example_has_the_same_sensitivities_in_any_company(live):
    alone = measure(live, EXAMPLES[2:3])
    doubled = measure(live, [EXAMPLES[2], EXAMPLES[5], EXAMPLES[2]], batch_size=3)
    for name, g in alone.values.items():
        for row in (0, 2):
            assert relative(doubled.values[name][row], g[0]) < sensitivities_apart(live.model, math.sqrt(LONGEST))


def test_a_measurement_is_repeatable_to_the_bit(live):
    first, second = measure(live), measure(live)
    for name, g in first.values.items():
        np.testing.assert_array_equal(second.values[name], g)


def test_measuring_fewer_modules_gives_the_same_numbers(live):
    everything = measure(live)
    names = [name for name in live.spectra if name.endswith(("o_proj", "down_proj"))]
    part = measure_sensitivity(live, calibration(), names)
    assert list(part.values) == names
    assert part.provenance.scope == tuple(names)
    for name in names:
        assert relative(part.values[name], everything.values[name]) < sensitivities_apart(live.model)


def test_a_measurement_is_made_at_the_adapters_own_sigma(live):
    expected = measure(live)
    live.set_sigma({name: 2 * spectrum.sigma for name, spectrum in live.spectra.items()})
    again = measure(live)
    np.testing.assert_array_equal(again.losses, expected.losses)


def test_measuring_leaves_no_gradient_in_the_base(live):
    measure(live)
    assert all(parameter.grad is None for parameter in live.model.parameters())


def test_rows_beyond_the_models_positions_are_refused_by_their_length(tmp_path):
    make = partial(tiny_gpt2, n_positions=LONGEST - 1)
    folder = save_adapter(make(), tmp_path / "adapter", targets=GPT2_TARGETS, fan_in_fan_out=True)
    with attached_to(make(), folder) as live, pytest.raises(DataError, match=f"{LONGEST} tokens, more than"):
        measure(live)


def test_a_zero_adapter_has_finite_sensitivities(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", scale=0.0)
    with attached_to(tiny_llama(), folder) as attached:
        measured = measure(attached)
    assert all(np.isfinite(g).all() for g in measured.values.values())


def test_progress_counts_examples_up_to_their_number(live):
    seen = []
    measure(live, batch_size=4, control=Control(progress=lambda done, total: seen.append((done, total))))
    assert seen == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("batches_before", [0, 1, 2])
def test_cancelling_stops_and_leaves_the_model_usable_and_unperturbed(live, batches_before):
    before = losses_of(live)
    expected = measure(live)
    seen = []
    with pytest.raises(Cancelled):
        measure(
            live,
            batch_size=3,
            control=Control(
                progress=lambda done, total: seen.append(done), cancelled=lambda: len(seen) == batches_before
            ),
        )
    assert len(seen) == batches_before
    # one row would not meet a perturbation of three
    np.testing.assert_array_equal(losses_of(live), before)
    again = measure(live)
    for name, g in expected.values.items():
        np.testing.assert_array_equal(again.values[name], g)


def test_an_error_in_the_progress_callback_leaves_the_model_unperturbed(live):
    def fail(done, total):
        raise RuntimeError("stop")

    before = losses_of(live)
    with pytest.raises(RuntimeError, match="stop"):
        measure(live, batch_size=3, control=Control(progress=fail))
    np.testing.assert_array_equal(losses_of(live), before)


def test_provenance_is_known_before_the_measurement(live):
    names = list(live.spectra)
    expected = provenance_of(live, calibration(), names)
    assert measure(live).provenance == expected
    assert (expected.adapter, expected.base) == (live.adapter.digest, "tiny")
    assert (expected.scope, expected.dtype) == (tuple(names), "float32")


def test_gradient_checkpointing_recomputes_the_layers_and_gives_the_same_numbers(case):
    model, folder = copy.deepcopy(case[0]), case[1]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9  # would show at once if a layer were put into training mode
    calls = []
    slice_ = Calibration(EXAMPLES, Encoding())
    with attached_to(model, folder) as live:
        names = list(live.spectra)
        plain = measure_sensitivity(live, slice_, names, batch_size=3)
        # recomputation stops at the last tensor that is needed, so a module early in its layer is watched
        early = next(name for name in names if name.endswith(("q_proj", "c_attn")))
        counted = live.model.get_submodule(early).register_forward_hook(lambda *_: calls.append(1))
        saved = measure_sensitivity(live, slice_, names, batch_size=3, checkpointing=True)
        counted.remove()
        assert not any("forward" in vars(module) for module in live.model.modules())
    assert len(calls) == 2 * 3  # three batches, each once forward and once again in the backward pass
    assert_losses(saved.losses, plain.losses, model)
    for name, g in plain.values.items():
        assert relative(saved.values[name], g) < sensitivities_apart(model)


def test_sensitivities_at_another_sigma_equal_finite_differences_there(case):
    model, folder = case
    example = EXAMPLES[0]
    with attached_to(double(model), folder) as attached:
        rng = np.random.default_rng(0)
        moved = {n: s.sigma * rng.uniform(0.5, 1.5, s.rank) for n, s in attached.spectra.items()}
        slice_ = calibration([example])
        measured = measure_sensitivity(attached, slice_, list(moved), sigma=moved)
        for name, sigma in moved.items():
            slopes = []
            for k in range(sigma.size):
                nudge = STEP * np.eye(sigma.size)[k]
                ends = []
                for sign in (1, -1):
                    attached.set_sigma({**moved, name: sigma + sign * nudge})
                    ends.append(losses_of(attached, [example])[0])
                slopes.append((ends[0] - ends[1]) / (2 * STEP))
            np.testing.assert_allclose(measured.values[name][0], slopes, rtol=1e-5, atol=1e-9, err_msg=name)


def test_a_measurement_at_another_sigma_is_told_from_one_at_the_adapters_own_and_leaves_that(live):
    own, before = measure(live), losses_of(live)
    moved = {name: 1.5 * spectrum.sigma for name, spectrum in live.spectra.items()}
    there = measure_sensitivity(live, calibration(), list(moved), sigma=moved)
    assert own.provenance.key != there.provenance.key
    assert "sigma" not in own.provenance.record
    np.testing.assert_array_equal(losses_of(live), before)


# ---- answers drawn from the model ----


def log_probabilities(live, sigma, example) -> np.ndarray:
    """log p (position, token) at the places of an example's answer, with the live model's σ set."""
    live.set_sigma(sigma)
    ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
    with torch.no_grad():
        logits = live.model(input_ids=ids).logits[0, len(example.prompt_ids) - 1 : -1]
    live.set_sigma()
    return logits.log_softmax(-1).numpy()


@pytest.fixture(scope="module")
def enumerated(case):
    """The exact Fisher information of one module's σ for one example, by every token at every position."""
    model, folder = case
    example = max(EXAMPLES, key=lambda each: len(each.answer_ids))
    with attached_to(double(model), folder) as live:
        name, spectrum = next(iter(live.spectra.items()))

        def at(change):
            return log_probabilities(live, {name: spectrum.sigma + change}, example)

        steps = STEP * np.eye(spectrum.rank)
        slopes = np.stack([(at(step) - at(-step)) / (2 * STEP) for step in steps], axis=-1)
        yield live, name, example, np.exp(at(0 * steps[0])), slopes, at


def test_the_second_moment_of_drawn_sensitivities_is_the_exact_fisher_information(enumerated):
    live, name, example, shares, slopes, _ = enumerated
    positions = len(example.answer_ids)
    # the tokens of two positions are independent, so that their cross terms vanish in the mean
    exact = np.einsum("tv,tvi,tvj->ij", shares, slopes, slopes) / positions**2
    draws = 150
    drawn = Calibration((example,), Encoding())
    g = np.concatenate(
        [
            measure_sensitivity(live, dataclasses.replace(drawn, sampled=seed), [name]).values[name]
            for seed in range(draws)
        ]
    )
    products = g[:, :, np.newaxis] * g[:, np.newaxis, :]
    error = products.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (np.abs(products.mean(axis=0) - exact) < 5 * error).all()
    assert (np.abs(g.mean(axis=0)) < 5 * g.std(axis=0, ddof=1) / np.sqrt(draws)).all()


def test_half_the_answers_length_times_the_drawn_second_moment_is_the_divergence_of_a_small_edit(enumerated):
    _, _, example, shares, slopes, at = enumerated
    positions, rank = len(example.answer_ids), slopes.shape[-1]
    second = np.einsum("tv,tvi,tvj->ij", shares, slopes, slopes) / positions**2
    for seed in range(3):
        change = 1e-3 * np.random.default_rng(seed).standard_normal(rank)
        exact = (shares * (np.log(shares) - at(change))).sum(axis=1).mean()
        assert positions / 2 * change @ second @ change == pytest.approx(exact, rel=0.02)


def test_a_drawn_gradient_is_that_of_one_of_the_enumerated_answers(enumerated):
    live, name, whole, _, slopes, _ = enumerated
    example = dataclasses.replace(
        whole, answer_ids=whole.answer_ids[:2]
    )  # the first positions see no more than these
    found = measure(live, [example])
    drawn = measure_sensitivity(live, dataclasses.replace(calibration([example]), sampled=3), list(live.spectra))
    assert drawn.label_free
    assert not found.label_free
    assert drawn.provenance.key != found.provenance.key
    sums = -(slopes[0][:, np.newaxis] + slopes[1]) / 2
    assert np.abs(sums - drawn.values[name][0]).max(axis=-1).min() < 1e-6 * np.abs(slopes).max()
