"""Components zeroed by the engine against PEFT without them, and what is chosen and expected against plain sums."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.edits import Edit, ModuleEdit, expected_of_edit
from surgery.errors import PolicyError
from surgery.experiments import ablated_losses, ablation_agreement, ablations, retold
from surgery.model import LiveModel
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import (
    double,
    example_loss,
    loaded_base,
    relative,
    save_adapter,
    singular_triplets,
    tiny_llama,
    with_peft,
)
from tests.helpers.policies import measured, spectrum
from tests.surgery.experiments.conftest import slice_of


def losses_through_peft(shop, module: str, component: int, examples) -> np.ndarray:
    """PEFT's own forward, after B lost what it writes along one singular direction of ΔW."""
    model = with_peft(double(tiny_llama()), shop.folder)
    U, _, _ = singular_triplets(tiny_llama(), shop.folder)[module]
    u = U[:, [component]]
    with torch.no_grad():
        B = model.get_submodule(f"base_model.model.{module}").lora_B["default"].weight
        B -= u @ (u.T @ B)
        return np.array([example_loss(model, example).item() for example in examples])


def test_measured_losses_are_those_of_peft_with_the_direction_taken_out(shop):
    chosen = ablations(shop.spectra, shop.sensitivity, "all", count=2)
    found = ablated_losses(shop.live, shop.slice_, chosen)
    np.testing.assert_allclose(found[0], shop.unedited, rtol=1e-9)
    for each, losses in zip(chosen, found[1:], strict=True):
        wanted = losses_through_peft(shop, each.module, each.component, shop.slice_.examples)
        assert abs(wanted - shop.unedited).max() > 1e-5, "a component that does nothing shows nothing"
        np.testing.assert_allclose(losses, wanted, rtol=1e-9)


def test_told_by_the_same_rows_a_small_component_changes_the_loss_of_each_as_its_slope_says(tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path, scale=0.02))
    spectra = decompose(adapter)
    with LiveModel(loaded_base(double(tiny_llama())), adapter, spectra) as live:
        before, rows = (measure_sensitivity(live, slice_of(7, seed=seed), list(spectra)) for seed in (1, 2))
        chosen = ablations(spectra, before, "all", count=5)
        told = retold(chosen, spectra, rows)
        losses = ablated_losses(live, slice_of(7, seed=2), told)
    changes, by_slope = losses[1:] - losses[0], np.stack([each.linear for each in told])
    assert [(each.name, each.strongest) for each in told] == [(each.name, each.strongest) for each in chosen]
    # ΔW is a hundredth of that of the shop, and what is left is of second order in it
    assert relative(by_slope, changes) < 0.02
    found = ablation_agreement(told, changes, curved=False, paired=True)
    assert found.ceiling == 1
    assert found.slope.value == pytest.approx(1, abs=0.02)


def plain(examples=12, seed=0):
    """Two modules, one with a null component, one component without a gradient and one that is not finite."""
    rng = np.random.default_rng(seed)
    spectra = {f"layers.0.self_attn.{n}": None for n in ("o_proj", "q_proj")}
    spectra = {name: spectrum(name, [5.0, 3.0, 1.0, 0.5, 0.0]) for name in spectra}
    values = {name: rng.normal(rng.normal(size=5), 0.5, (examples, 5)) for name in spectra}
    values["layers.0.self_attn.q_proj"][:, 1] = 0.0
    values["layers.0.self_attn.q_proj"][3, 2] = np.nan
    return spectra, replace(measured(values), answer_tokens=np.arange(1, examples + 1))


def test_the_strongest_are_the_largest_products_of_slope_and_sigma_and_the_random_ones_are_others():
    spectra, sensitivity = plain()
    sizes = {}
    for name, one in spectra.items():
        for k in range(4):
            g = sensitivity.values[name][:, k]
            if np.isfinite(g).all() and g.any():
                sizes[name, k] = abs(sum(g) / len(g) * one.sigma[k])
    chosen = ablations(spectra, sensitivity, "all", count=4, seed=3)
    strongest = [(each.module, each.component) for each in chosen if each.strongest]
    assert strongest == sorted(sizes, key=sizes.__getitem__, reverse=True)[:4]
    others = {(each.module, each.component) for each in chosen if not each.strongest}
    assert others == set(sizes) - set(strongest), "six can be asked, so two are left"
    draws = [[e.name for e in ablations(spectra, sensitivity, "all", count=1, seed=seed)] for seed in range(8)]
    assert {first for first, _ in draws} == {" ".join(map(str, strongest[0]))}
    assert len({other for _, other in draws}) > 1
    assert draws[3] == [e.name for e in ablations(spectra, sensitivity, "all", count=1, seed=3)]


def test_what_is_expected_is_what_the_edit_that_zeroes_it_is_expected_to_do():
    spectra, sensitivity = plain()
    for each in ablations(spectra, sensitivity, "all", count=2):
        sigma = spectra[each.module].sigma
        after = np.where(np.arange(5) == each.component, 0.0, sigma)
        edit = Edit({each.module: ModuleEdit(after / np.where(sigma, sigma, 1), sigma, after)})
        told = expected_of_edit(edit, sensitivity)
        assert told is not None
        assert each.expected.mean() == pytest.approx(told.mean, rel=1e-12)
        assert each.linear.mean() == pytest.approx(told.first_order, rel=1e-12)
        assert each.curvature.mean() == pytest.approx(told.curvature, rel=1e-12)


def test_without_counted_tokens_nothing_bends():
    spectra, sensitivity = plain()
    for each in ablations(spectra, replace(sensitivity, answer_tokens=None), "all", count=2):
        np.testing.assert_array_equal(each.expected, each.linear)


def test_a_scope_with_two_components_and_answers_that_were_drawn_are_refused():
    spectra, sensitivity = plain()
    with pytest.raises(PolicyError, match="this scope has 2 components"):
        ablations(spectra, sensitivity, "attention-inputs")
    drawn = replace(sensitivity, provenance=replace(sensitivity.provenance, sampled=0))
    with pytest.raises(PolicyError, match="drawn from the model"):
        ablations(spectra, drawn, "all")
    with pytest.raises(PolicyError, match="0 components were asked for"):
        ablations(spectra, sensitivity, "all", count=0)
    with pytest.raises(PolicyError, match="none were given"):
        ablations(spectra, None, "all")


def test_agreement_resamples_strongest_and_random_apart():
    spectra, sensitivity = plain()
    chosen = ablations(spectra, sensitivity, "all", count=4)
    changes = np.stack([each.expected for each in chosen])
    found = ablation_agreement(chosen, changes)
    assert (found.changes, found.spearman.value, found.slope.value) == (6, pytest.approx(1), pytest.approx(1))
    linear = ablation_agreement(chosen, changes, curved=False)
    assert linear.slope.value != pytest.approx(1)
