"""The numbers of the Spectra page against the formulas and scipy."""

import base64
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from app import spectra as spectra_board
from app.spectra.numbers import UNKNOWN, numbers_of, verdicts
from app.state.workspace import Workspace
from surgery.errors import PolicyError
from surgery.sensitivity import InputMoments
from tests.app.conftest import D0, D1, O0, O1, Q0, SIGMA, workspace_of
from tests.app.spectra.conftest import (
    NAMES,
    PLAN,
    SMALL,
    UNMEASURED,
    component,
    page,
    planned,
)
from tests.helpers.policies import measured as measurement


def shown(workspace: Workspace) -> dict[str, Any]:
    """What the browser gets, through strict JSON."""
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    return json.loads(json.dumps(spectra_board._data(workspace, numbers), allow_nan=False))


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def codes(text: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), dtype=np.int8).tolist()


def parts(data: dict[str, Any], values: Any) -> dict[str, Any]:
    return {m["name"]: values[m["start"] : m["start"] + m["rank"]] for m in data["modules"]}


def test_sigma_energy_and_ranks_are_those_of_the_formulas() -> None:
    data = shown(SMALL)
    sigma, share, energy = (parts(data, floats(data[name])) for name in ("sigma", "share", "energy"))
    for module in data["modules"]:
        name, values = module["name"], np.array(SIGMA[module["name"]])
        assert module["rank"] == values.size
        np.testing.assert_allclose(sigma[name], values, rtol=1e-6)
        if not values.any():
            assert (module["effective"], module["stable"], module["k90"]) == (0, 0, 0)
            assert not share[name].any()
            continue
        squares = values**2 / (values**2).sum()
        np.testing.assert_allclose(share[name], squares, rtol=1e-6, atol=1e-40)
        np.testing.assert_allclose(energy[name], [squares[: k + 1].sum() for k in range(values.size)], rtol=1e-6)
        p = values[values > 0] / values.sum()
        assert module["effective"] == pytest.approx(math.exp(scipy.stats.entropy(p)))
        assert module["stable"] == pytest.approx((values**2).sum() / values.max() ** 2)
        assert module["k90"] == 1 + sum(squares[: k + 1].sum() < 0.9 - 1e-12 for k in range(values.size))


def test_means_errors_sizes_and_agreement_are_those_of_scipy() -> None:
    data = shown(SMALL)
    found = {
        name: parts(data, floats(data["measured"][name]))
        for name in ("mean", "error", "magnitude", "magnitudeError", "agreement")
    }
    for name in NAMES:
        g = SMALL.sensitivity.values[name]
        np.testing.assert_allclose(found["mean"][name], g.mean(axis=0), rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(found["error"][name], scipy.stats.sem(g), rtol=1e-5)
        np.testing.assert_allclose(found["magnitude"][name], np.abs(g).mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found["magnitudeError"][name], scipy.stats.sem(np.abs(g)), rtol=1e-5)
        positive = (g > 0).mean(axis=0)
        agreement = np.where(g.mean(axis=0) > 0, positive, 1 - positive)
        np.testing.assert_allclose(found["agreement"][name], agreement, rtol=1e-6)
    assert data["measured"]["examples"] == 40


def test_standings_follow_the_sign_and_null_components_have_none() -> None:
    data = shown(planned(PLAN))
    standing = parts(data, codes(data["measured"]["standing"]))
    assert standing[O0] == [1, -1, 0, 1]
    assert standing[D0] == [-1, 1]
    assert standing[Q0] == [0, 0, 1]
    assert standing[O1] == [1, -1, UNKNOWN, UNKNOWN]
    assert standing[D1] == [UNKNOWN, UNKNOWN]
    assert (data["measured"]["named"], data["measured"]["counted"]) == (3 + 2 + 1 + 2, 4 + 2 + 3 + 2)
    luck = 11 * 2 * scipy.stats.t.sf(2, 39)
    assert data["measured"]["byLuck"] == pytest.approx(luck)


def test_shares_of_a_layer_weigh_its_modules_by_their_energy() -> None:
    data = shown(planned(PLAN))
    energy = dict.fromkeys((-1, 0, 1), 0.0)
    for name, kinds in {O0: [1, -1, 0, 1], D0: [-1, 1], Q0: [0, 0, 1]}.items():
        for sigma, kind in zip(SIGMA[name], kinds, strict=True):
            energy[kind] += sigma**2
    expected = [energy[kind] / sum(energy.values()) for kind in (-1, 0, 1)]
    found = data["measured"]["layerShares"]
    assert found[""]["layers"] == [0, 1]
    assert found[""]["shares"][0] == pytest.approx(expected)
    assert found[""]["shares"][1] == pytest.approx([1 / 26, 0, 25 / 26])  # D1 is a zero update
    assert found["o_proj"]["layers"] == [0, 1]
    assert found["o_proj"]["shares"][0] == pytest.approx([9 / 30, 4 / 30, 17 / 30])
    assert found["down_proj"]["layers"] == [0]
    modules = {module["name"]: module["shares"] for module in data["modules"]}
    assert modules[D1] is None
    assert modules[O0] == pytest.approx([9 / 30, 4 / 30, 17 / 30])


def test_lists_name_components_by_what_silencing_them_would_change() -> None:
    data = shown(planned(PLAN))
    harmful = data["measured"]["lists"]["harmful"]
    expected = sorted(
        (-PLAN[name][k] * SIGMA[name][k], name, k) for name, k in [(O0, 0), (O0, 3), (D0, 1), (Q0, 2), (O1, 0)]
    )
    got = [(row["silence"], data["modules"][row["module"]]["name"], row["component"]) for row in harmful]
    assert [(name, k) for _, name, k in sorted(got)] == [(name, k) for _, name, k in expected]
    for (silence, name, k), row in zip(got, harmful, strict=True):
        assert silence == pytest.approx(-PLAN[name][k] * SIGMA[name][k])
        g = planned(PLAN).sensitivity.values[name][:, k]
        assert row["silenceError"] == pytest.approx(scipy.stats.sem(g) * SIGMA[name][k])
        assert row["share"] == pytest.approx(SIGMA[name][k] ** 2 / (np.array(SIGMA[name]) ** 2).sum())
    assert [row["silence"] for row in harmful] == sorted(row["silence"] for row in harmful)
    wasteful = [row["share"] for row in data["measured"]["lists"]["wasteful"]]
    assert wasteful == sorted(wasteful, reverse=True)
    assert len(wasteful) == 3


def test_halves_of_a_budget_are_compared_by_spearmans_rank_correlation() -> None:
    budgets = {budget["examples"]: budget for budget in shown(SMALL)["measured"]["stability"]}
    assert set(budgets) == {32, 40}  # the sizes it reaches, and all of it
    expected = {
        half: np.mean(
            [
                scipy.stats.spearmanr(take(g[:16]).mean(axis=0), take(g[16:32]).mean(axis=0)).statistic
                for g in SMALL.sensitivity.values.values()
            ]
        )
        for half, take in (("half_magnitude", np.abs), ("half_signed", np.asarray))
    }
    for name, value in expected.items():
        assert budgets[32][name] == pytest.approx(value)


@pytest.mark.parametrize(
    ("halves", "word"), [(0.2, "weak"), (0.6, "moderate"), (0.9, "strong"), (math.nan, "unknown")]
)
def test_a_weak_ranking_is_called_weak(halves: float, word: str) -> None:
    found = numbers_of(SMALL.spectra, SMALL.sensitivity).measured
    budget = replace(found.stability[-1], half_magnitude=halves, half_signed=halves)
    for sentence in verdicts(replace(found, stability=(budget,))):
        assert f": {word}" in sentence
    assert len(verdicts(replace(found, stability=()))) == 1


def test_without_a_calibration_sigma_and_ranks_are_told_alone() -> None:
    data = shown(UNMEASURED)
    assert data["measured"] is None
    assert [module["shares"] for module in data["modules"]] == [None] * len(NAMES)
    assert floats(data["sigma"]).size == sum(map(len, SIGMA.values()))


def test_a_module_that_was_not_measured_has_no_numbers_and_no_standing() -> None:
    values = {name: g for name, g in SMALL.sensitivity.values.items() if name != Q0}
    data = shown(replace(SMALL, sensitivity=measurement(values)))
    assert np.isnan(parts(data, floats(data["measured"]["mean"]))[Q0]).all()
    assert parts(data, codes(data["measured"]["standing"]))[Q0] == [UNKNOWN] * 3
    assert np.isfinite(parts(data, floats(data["measured"]["mean"]))[O0]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_breaks_no_data(bad: float) -> None:
    values = {name: g.copy() for name, g in SMALL.sensitivity.values.items()}
    values[O1][0, 1] = bad
    data = shown(replace(SMALL, sensitivity=measurement(values)))
    assert parts(data, codes(data["measured"]["standing"]))[O1] == [UNKNOWN] * 4


@pytest.mark.parametrize("examples", [1, 2, 3])
def test_very_few_examples_break_no_data(examples: int) -> None:
    data = shown(workspace_of(SIGMA, examples=examples))
    if examples == 1:
        assert set(codes(data["measured"]["standing"])) == {0, UNKNOWN}
        assert data["measured"]["byLuck"] == 0


@given(st.lists(st.floats(0, 1e200), min_size=1, max_size=6))
def test_spectra_of_any_size_break_no_data(sigma: list[float]) -> None:
    data = shown(workspace_of({O0: sorted(sigma, reverse=True), Q0: [1.0]}, examples=3))
    energy = parts(data, floats(data["energy"]))[O0]
    assert energy[-1] == pytest.approx(1 if any(sigma) else 0)


def test_the_key_changes_with_the_numbers_alone() -> None:
    assert shown(SMALL)["key"] == shown(replace(SMALL))["key"]
    assert len({shown(each)["key"] for each in (SMALL, UNMEASURED, planned(PLAN))}) == 3


def test_the_numbers_are_computed_once_for_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(spectra_board, "numbers_of", lambda *of: calls.append(of) or numbers_of(*of))
    test = page()
    test.run().run()
    assert len(calls) == 1
    test.session_state["workspace"] = UNMEASURED
    assert component(test.run())["measured"] is None
    assert len(calls) == 2


def test_functional_shares_and_participation_ratios_are_those_of_the_stored_moments() -> None:
    rng = np.random.default_rng(5)
    rows = {name: rng.standard_normal((9, len(SIGMA[name]))) for name in NAMES if name != O0}
    inputs = InputMoments(
        {name: x[:4].T @ x[:4] for name, x in rows.items()},
        {name: x[4:].T @ x[4:] for name, x in rows.items()},
        tokens={"prompt": 4, "answer": 5},
    )
    data = shown(replace(SMALL, sensitivity=replace(SMALL.sensitivity, inputs=inputs)))
    functional = parts(data, floats(data["functional"]))
    for module in data["modules"]:
        name, sigma = module["name"], np.array(SIGMA[module["name"]])
        if name == O0:  # what enters it was not measured
            assert np.isnan(functional[name]).all()
            assert (module["functional"], module["full"]) == (None, None)
            continue
        M = rows[name].T @ rows[name] / 9
        weights, G = sigma**2 * np.diag(M), np.diag(sigma) @ M @ np.diag(sigma)
        if not sigma.any():
            assert (module["functional"], module["full"]) == (0, 0)
            continue
        np.testing.assert_allclose(functional[name], weights / weights.sum(), rtol=1e-6, atol=1e-40)
        assert module["functional"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
        assert module["full"] == pytest.approx(np.trace(G) ** 2 / (G**2).sum())
        assert module["nuclear"] == pytest.approx(sigma.sum() ** 2 / (sigma**2).sum())


def test_without_inputs_no_functional_energy_is_shown() -> None:
    data = shown(replace(SMALL, sensitivity=replace(SMALL.sensitivity, inputs=None)))
    assert data["functional"] is None
    assert {(module["functional"], module["full"]) for module in data["modules"]} == {(None, None)}


def test_moments_of_another_rank_are_refused() -> None:
    other = InputMoments({O0: np.eye(1)}, {O0: np.eye(1)}, tokens={"prompt": 1, "answer": 1})
    with pytest.raises(PolicyError, match="calibrate this adapter"):
        shown(replace(SMALL, sensitivity=replace(SMALL.sensitivity, inputs=other)))
