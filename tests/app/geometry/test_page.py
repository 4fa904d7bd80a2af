"""The map of the Geometry page holds the numbers of an independent computation, and believes no address."""

import base64
import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from app.geometry import View, page_data, summary, values_of, view_of
from app.geometry.choice import VIEWS, Choice, choice_from
from app.geometry.files import figure_of, table_of
from app.geometry.reference import LEVEL, cuts
from app.geometry.tables import Tables, table_bytes
from surgery.errors import PolicyError
from surgery.spectra import (
    MEASURES,
    Alignment,
    Spectrum,
    between_adapters,
    layer_invariance,
    module_synergy,
    overlap_table,
)

LAYERS, RANK = 4, 5
WIDTHS = {"o_proj": (24, 24), "down_proj": (24, 40), "up_proj": (40, 24)}
FAMILIES = list(WIDTHS)


def basis(rng: np.random.Generator, d: int, rank: int = RANK) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, rank)))[0]


def modules(seed: int) -> dict[str, Spectrum]:
    rng = np.random.default_rng(seed)
    shared = basis(rng, 24)
    found = {}
    for layer in range(LAYERS):
        for family, (out, inner) in WIDTHS.items():
            U = basis(rng, out)
            if family == "o_proj":  # one direction that all layers share
                U = np.linalg.qr(np.column_stack([shared[:, 0] + 0.1 * rng.normal(size=24), U[:, 1:]]))[0]
            sigma = np.sort(rng.uniform(0.1, 3, RANK))[::-1].copy()
            name = f"model.layers.{layer}.{family}"
            found[name] = Spectrum(name, layer, family, U, sigma, basis(rng, inner))
    return found


SPECTRA = modules(1)
OTHER = modules(2)
ZERO = "model.layers.2.o_proj"
WITH_ZERO = {
    name: replace(module, sigma=np.zeros(RANK)) if name == ZERO else module for name, module in SPECTRA.items()
}


def shown(choice: Choice, spectra: dict[str, Spectrum] = SPECTRA, **more: Any) -> tuple[View, dict[str, Any]]:
    """A view and what the browser gets of it, through strict JSON."""
    other = OTHER if choice.view == "adapters" else None
    digests = (f"d{id(spectra)}", *(("o",) if other else ()))
    view = view_of(choice, spectra, digests, other)
    data = page_data(view, choice, families=FAMILIES, has_other=other is not None, **more)
    return view, json.loads(json.dumps(data, allow_nan=False))


def numbers(text: str, *shape: int) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(text), dtype="<u2").reshape(shape)
    return np.where(codes == 65535, np.nan, codes / 65534)


def measured(left: Spectrum, right: Spectrum, side: str, measure: str, k: int) -> float:
    """The measure of one pair from singular values of a small matrix."""
    a, b = (getattr(module, "U" if side == "output" else "V") for module in (left, right))
    if a.shape[0] != b.shape[0] or not (left.sigma.any() and right.sigma.any()):
        return np.nan
    if measure == "principal":
        return float(abs(a[:, 0] @ b[:, 0]))
    return float((np.linalg.svd(a[:, :k].T @ b[:, :k], compute_uv=False) ** 2).mean())


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


def test_numbers_that_the_browser_holds_are_not_sent_again() -> None:
    view, data = shown(Choice())
    assert data["table"]["key"] == view.key
    assert shown(Choice(k=2, ratio=True), held=view.key)[1]["table"] is None
    assert shown(Choice(side="input"), held=view.key)[1]["table"] is not None
    assert shown(Choice(first="up_proj"), held=view.key)[1]["table"] is not None


@pytest.mark.parametrize("view", VIEWS)
def test_the_csv_holds_every_pair_in_full_precision(view: str) -> None:
    made, _ = shown(Choice(view=view, k=2))
    rows = list(csv.DictReader(io.StringIO(table_of(made))))
    assert len(rows) == sum(len(panel.rows) * len(panel.columns) for panel in made.panels)
    by_name = SPECTRA | {f"other {name}": module for name, module in OTHER.items()}
    for row in rows:
        other = OTHER if view == "adapters" else SPECTRA
        expected = measured(by_name[row["row"]], other[row["column"]], "output", row["measure"], int(row["k"]))
        assert (float(row["value"]) if row["value"] else np.nan) == pytest.approx(expected, abs=1e-6, nan_ok=True)
        if row["value"]:
            assert float(row["ratio"]) == pytest.approx(float(row["value"]) / float(row["random"]))
            assert row["beyond random"] == str(float(row["value"]) > float(row["chance level"]))


@pytest.mark.parametrize("view", VIEWS)
def test_the_interactive_figure_holds_the_same_values(view: str) -> None:
    made, data = shown(Choice(view=view, k=2))
    figure = figure_of(made)
    assert len(figure.data) == len(made.panels)
    for trace, panel, sent in zip(figure.data, made.panels, data["table"]["panels"], strict=True):
        shape = len(panel.rows), len(panel.columns)
        both = {
            "principal": numbers(sent["principal"], *shape),
            "overlap": numbers(sent["overlap"], RANK, *shape)[1],
        }
        np.testing.assert_allclose(np.array(trace.z, dtype=float), both[panel.measure or "overlap"], atol=1e-5)


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
names = [*Choice().record(), "w", "other"]


@given(st.dictionaries(st.sampled_from(names), odd, max_size=6), st.booleans())
@example({"cell": "0,1"}, False)
@example({"cell": "0,-1,2", "k": "9" * 4000, "view": "adapters"}, False)
@example({"cell": ["a", 1, 2], "ratio": [], "marks": {}}, True)
def test_any_address_gives_a_choice_that_can_be_drawn_and_written_again(
    given: dict[str, Any], other: bool
) -> None:
    choice = choice_from(given, FAMILIES, RANK, has_other=other)
    assert choice.view in VIEWS
    assert other or choice.view != "adapters"
    assert {choice.first, choice.second} <= set(FAMILIES)
    assert 1 <= choice.k <= RANK
    assert choice_from(choice.address(), FAMILIES, RANK, has_other=other) == choice
    assert choice_from(choice.record(), FAMILIES, RANK, has_other=other) == choice


def test_an_adapter_without_the_usual_families_starts_with_its_own() -> None:
    choice = choice_from({}, ["query", "value"], 2, has_other=False)
    assert (choice.first, choice.second, choice.k) == ("query", "value", 2)


def test_a_k_beyond_the_ranks_that_are_shown_falls_to_what_they_have() -> None:
    small = {
        name: replace(module, U=module.U[:, :2], sigma=module.sigma[:2], V=module.V[:, :2])
        if module.family == "up_proj"
        else module
        for name, module in SPECTRA.items()
    }
    choice = choice_from({"first": "up_proj", "k": "5", "cell": "0,0,1"}, FAMILIES, RANK, has_other=False)
    view, data = shown(choice, small)
    assert (data["choice"]["k"], data["table"]["ks"], len(data["detail"]["angles"])) == (2, [1, 2], 2)
    assert {row["k"] for row in csv.DictReader(io.StringIO(table_of(view)))} == {"2"}


def test_a_k_that_a_large_rank_does_not_offer_is_told_as_the_one_that_is_drawn() -> None:
    rng = np.random.default_rng(3)
    wide = {}
    for layer in range(2):
        name = f"model.layers.{layer}.o_proj"
        sigma = np.arange(64.0, 0, -1)
        wide[name] = Spectrum(name, layer, "o_proj", basis(rng, 96, 64), sigma, basis(rng, 96, 64))
    view, data = shown(Choice(k=17, cell=(0, 0, 1)), wide)
    k = data["choice"]["k"]
    assert k in data["table"]["ks"]
    assert abs(k - 17) == min(abs(offered - 17) for offered in data["table"]["ks"])
    assert len(data["detail"]["angles"]) == k
    assert {row["k"] for row in csv.DictReader(io.StringIO(table_of(view)))} == {str(k)}


def test_tables_are_kept_up_to_a_bound_of_bytes_those_used_last() -> None:
    few = list(SPECTRA.values())
    made = overlap_table(few)
    assert table_bytes(len(few), RANK) == made.squares.nbytes
    tables = Tables(most=5 * made.squares.nbytes)
    begun = {key: tables.begin(key, "output", few) for key in "abcde"}
    assert all(tables.begin(key, "output", few) is table for key, table in begun.items())
    tables.begin("a", "output", few)
    tables.begin("f", "output", few)
    assert tables.begin("a", "output", few) is begun["a"]
    assert tables.begin("b", "output", few) is not begun["b"]
    # one that is larger than the bound leaves what two adapters need
    large = [replace(module, name=f"{module.name}.{n}") for n in range(4) for module in few]
    kept = [tables.begin(key, "input", large) for key in "wxyz"]
    assert all(tables.begin(key, "input", large) is table for key, table in zip("wxyz", kept, strict=True))
    np.testing.assert_array_equal(kept[0].result().values(), overlap_table(large, side="input").values())


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
