"""The map of the Geometry page holds the numbers of an independent computation, and believes no address."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from app.geometry import summary, values_of, view_of
from app.geometry.choice import VIEWS, Choice
from app.geometry.files import figure_of
from app.geometry.reference import LEVEL, cuts
from surgery.errors import PolicyError
from surgery.spectra import (
    MEASURES,
    Alignment,
    Spectrum,
    between_adapters,
    layer_invariance,
    module_synergy,
)
from tests.app.geometry.conftest import RANK, SPECTRA, basis, measured, numbers, shown

ZERO = "model.layers.2.o_proj"
WITH_ZERO = {
    name: replace(module, sigma=np.zeros(RANK)) if name == ZERO else module for name, module in SPECTRA.items()
}


@pytest.mark.parametrize("side", ["output", "input"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("spectra", [SPECTRA, WITH_ZERO], ids=["trained", "one zero"])
def test_every_cell_of_every_view_at_every_k_is_the_measure_of_its_pair(
    view: str, side: str, spectra: dict[str, Spectrum]
) -> None:
    second = "down_proj" if side == "output" else "up_proj"
    made, data = shown(Choice(view=view, side=side, second=second), spectra)
    table = data["table"]
    assert table["ks"] == list(range(1, RANK + 1))
    assert table["panels"]
    for panel, sent in zip(made.panels, table["panels"], strict=True):
        rows, columns = ([made.modules[i] for i in index] for index in (panel.rows, panel.columns))
        shape = len(rows), len(columns)
        principal, overlap = numbers(sent["principal"], *shape), numbers(sent["overlap"], RANK, *shape)
        for i, left in enumerate(rows):
            for j, right in enumerate(columns):
                assert principal[i, j] == pytest.approx(
                    measured(left, right, side, "principal", 1), abs=1e-5, nan_ok=True
                )
                expected = [measured(left, right, side, "overlap", k) for k in table["ks"]]
                np.testing.assert_allclose(overlap[:, i, j], expected, atol=1e-5)


HEADS = {
    name: Spectrum(
        name, layer, "head", basis(np.random.default_rng(at), 24), np.arange(RANK, 0.0, -1), SPECTRA[ZERO].V
    )
    for at, (name, layer) in enumerate([("head", None), ("1.head", 1), ("0.head", 0)])
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("view", "aligned"),
    [
        ("invariance", lambda measure, k: layer_invariance(HEADS, "head", measure=measure, k=k)),
        ("synergy", lambda measure, k: module_synergy(HEADS | SPECTRA, "head", "o_proj", measure=measure, k=k)),
        ("adapters", lambda measure, k: between_adapters(HEADS, HEADS, "head", measure=measure, k=k)),
    ],
)
def test_the_page_and_the_library_align_the_same_modules_in_the_same_order(
    view: str, aligned: Callable[[str, int], Alignment], measure: str
) -> None:
    choice = Choice(view=view, first="head", second="o_proj")
    mine = HEADS | SPECTRA if view == "synergy" else HEADS
    other = HEADS if view == "adapters" else None
    made = view_of(choice, mine, (f"heads {view}", *(("heads",) if other else ())), other)
    panel = made.panels[0]
    for k in range(1, RANK + 1):
        expected = aligned(measure, k)
        assert tuple(made.modules[i].name for i in panel.rows) == expected.rows
        assert tuple(made.modules[j].name for j in panel.columns) == expected.columns
        np.testing.assert_allclose(values_of(made, panel, measure, k), expected.values, rtol=0, atol=1e-6)


def test_modules_outside_the_layer_stack_come_last_in_the_grid() -> None:
    by_layer, by_family = (
        view_of(Choice(view="grid", group=group), HEADS | SPECTRA, ("grid",), None)
        for group in ("layer", "family")
    )
    assert by_layer.modules[-1].name == "head"
    assert [label for _, _, label in by_layer.panels[0].groups] == ["0", "1", "2", "3", "–"]
    assert [module.name for module in by_family.modules[:3]] == ["0.head", "1.head", "head"]


def test_the_sides_of_a_view_without_a_common_space_are_refused_by_name() -> None:
    with pytest.raises(PolicyError, match="24 and 40"):
        shown(Choice(view="synergy", second="up_proj"))


@pytest.mark.parametrize(("measure", "k"), [("overlap", 1), ("overlap", 3), ("principal", 3)])
def test_the_numbers_beside_the_map_count_each_pair_once(measure: str, k: int) -> None:
    view, _ = shown(Choice(view="invariance"))
    told = summary(view, view.panels[0], measure, k)
    members = [module for module in SPECTRA.values() if module.family == "o_proj"]
    pairs = [measured(a, b, "output", measure, k) for i, a in enumerate(members) for b in members[i + 1 :]]
    random = np.sqrt(2 / np.pi / 24) if measure == "principal" else k / 24
    assert told["mean"] == pytest.approx(np.mean(pairs), abs=1e-6)
    assert told["ratio"] == pytest.approx(np.mean(pairs) / random, rel=0.02 if measure == "principal" else 1e-5)
    assert told["cells"] == len(pairs)
    if measure == "overlap" and k == 1:  # cos² of two random directions is Beta(1/2, (d−1)/2)
        level = scipy.stats.beta(0.5, 23 / 2).ppf(1 - LEVEL)
        assert told["above"] == sum(pair > level for pair in pairs)


def test_the_mean_inside_a_layer_is_the_diagonal_and_its_curve_holds_it() -> None:
    view, data = shown(Choice(view="synergy"))
    left, right = (
        [module for module in SPECTRA.values() if module.family == family] for family in ("o_proj", "down_proj")
    )
    inside = [measured(a, b, "output", "overlap", 3) for a, b in zip(left, right, strict=True)]
    assert summary(view, view.panels[0], "overlap", 3)["mean"] == pytest.approx(np.mean(inside), abs=1e-6)
    assert data["table"]["panels"][0]["curve"]["overlap"][2] == pytest.approx(inside, abs=1e-6)


def test_a_zero_module_leaves_the_mean_and_the_curve_of_the_others() -> None:
    view, data = shown(Choice(view="invariance"), WITH_ZERO)
    told = summary(view, view.panels[0], "overlap", 2)
    assert told["cells"] == 3
    assert np.isfinite(told["mean"])
    curve = data["table"]["panels"][0]["curve"]["overlap"][1]
    assert [value is None for value in curve] == [False, False, True, False]


@pytest.mark.parametrize("side", ["output", "input"])
def test_a_selected_pair_tells_its_principal_angles(side: str) -> None:
    view, data = shown(Choice(view="grid", side=side, k=3, cell=(0, 0, 2)))
    left, right = view.modules[0], view.modules[2]
    U = "U" if side == "output" else "V"
    angles = scipy.linalg.subspace_angles(getattr(left, U)[:, :3], getattr(right, U)[:, :3])
    detail = data["detail"]
    np.testing.assert_allclose(sorted(np.radians(detail["angles"])), sorted(angles), atol=1e-9)
    assert detail["value"] == pytest.approx((np.cos(angles) ** 2).mean(), rel=1e-9)
    assert f"{detail['value']:.4f}" in detail["said"]
    assert detail["left"]["sigma"] == left.sigma.tolist()
    assert len(detail["random"]) == 3


@pytest.mark.parametrize("cell", [(0, 0, 1), (0, 99, 0), (0, 0, 99), (9, 0, 0)])
def test_a_pair_that_is_not_there_or_has_no_value_has_no_detail(cell: tuple[int, int, int]) -> None:
    # in the grid by layer, o_proj and up_proj of the first layer stand two apart and share no output space
    choice = Choice(view="grid", group="layer", cell=cell if cell != (0, 0, 1) else (0, 0, 2))
    _, data = shown(choice)
    assert data["detail"] is None


@pytest.mark.parametrize("measure", ["overlap", "principal"])
def test_colours_are_cut_at_the_largest_value_between_different_modules(measure: str) -> None:
    view, data = shown(Choice(view="invariance", measure=measure, k=2))
    members = [module for module in SPECTRA.values() if module.family == "o_proj"]
    most = max(measured(a, b, "output", measure, 2) for a in members for b in members if a is not b)
    reference = 2 / 24 if measure == "overlap" else np.sqrt(2 / np.pi / 24)
    cut = data["table"]["panels"][0]["cut"][measure]
    cut = cut[data["table"]["ks"].index(2)] if measure == "overlap" else cut
    assert cut["value"] == pytest.approx(max(most, 4 * reference), rel=0.02)
    assert cut["ratio"] == pytest.approx(max(most / reference, 4), rel=0.02)
    assert figure_of(view).layout.coloraxis.cmax == cut["value"]


def test_a_map_with_nothing_between_different_modules_is_cut_at_its_scales_end() -> None:
    alone = np.array([[1.0, np.nan], [np.nan, 1.0]])
    assert cuts(alone, np.array([0.1, 0.1]), same=True) == {"value": 1.0, "ratio": 1.0}
    assert cuts(alone, np.array([0.1, 0.2]), same=False) == {"value": 1.0, "ratio": 10.0}
    assert cuts(np.array([[0.5, 0.01]]), np.array([0.2]), same=False) == {"value": 0.8, "ratio": 4.0}
