"""The Spectra page tells the browser every number as it is, and believes nothing of what comes back."""

import base64
import csv
import io
import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import spectra as spectra_board
from app.spectra.choice import Choice, choice_from, first_choice, opened, query_of
from app.spectra.files import file_of, layout_of
from app.spectra.numbers import UNKNOWN, numbers_of, verdicts
from app.state.workspace import Workspace
from surgery.spectra import Spectrum
from tests.app.conftest import D0, D1, O0, O1, Q0, SIGMA, workspace_of
from tests.helpers.policies import measured as measurement

SMALL = workspace_of(SIGMA, examples=40)
UNMEASURED = replace(SMALL, sensitivity=None)
NAMES = list(SIGMA)


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


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# What the browser is told.


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


def planned(means: dict[str, list[float]], noise: float = 0.01, examples: int = 40) -> Workspace:
    """Sensitivities with exactly these means, and standard errors of about noise/√examples."""
    rng = np.random.default_rng(5)
    values = {}
    for name, wanted in means.items():
        g = rng.normal(0, noise, (examples, len(wanted)))
        values[name] = g - g.mean(axis=0) + np.array(wanted)
    return replace(SMALL, sensitivity=measurement(values))


PLAN = {
    O0: [0.1, -0.1, 0.0001, 0.2],
    D0: [-0.3, 0.3],
    Q0: [0.0, -0.0001, 0.5],
    O1: [0.1, -0.2, 0.3, 0.3],
    D1: [0.1, 0.1],
}


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


def placed(names: dict[str, tuple[int | None, str]]) -> tuple[list[str], list[str], dict[str, tuple[int, int]]]:
    spectra = {
        name: Spectrum(name, layer, family, np.eye(1), np.ones(1), np.eye(1))
        for name, (layer, family) in names.items()
    }
    return layout_of(numbers_of(spectra, None))


def test_families_are_rows_layers_columns_and_modules_without_a_layer_follow() -> None:
    names = {"a0": (0, "q"), "b0": (0, "o"), "a4": (4, "q"), "head": (None, "lm_head"), "embed": (None, "embed")}
    rows, columns, places = placed(names)
    assert rows == ["q", "o", "no layer"]
    assert columns[:2] == ["0", "4"]
    assert places == {"a0": (0, 0), "b0": (1, 0), "a4": (0, 1), "head": (2, 0), "embed": (2, 1)}


def test_experts_of_one_layer_share_no_cell() -> None:
    names = {f"l{layer}e{expert}": (layer, "up") for layer in (0, 1) for expert in range(3)}
    rows, columns, places = placed(names)
    assert rows == ["up #0", "up #1", "up #2"]
    assert len(set(places.values())) == 6
    assert columns == ["0", "1"]


def test_an_adapter_without_layers_fills_rows_from_the_left() -> None:
    rows, columns, places = placed({f"m{n}": (None, "linear") for n in range(10)})
    assert rows == ["no layer"] * 2
    assert len(columns) == 8
    assert places["m9"] == (1, 1)


# Files.


@pytest.mark.parametrize("workspace", [SMALL, UNMEASURED], ids=["measured", "unmeasured"])
def test_the_table_of_components_holds_every_digit(workspace: Workspace) -> None:
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    found = file_of("csv", Choice(O0), numbers)
    rows = table(found["text"])
    assert found["name"] == "spectra-all.csv"
    assert [(row["module"], int(row["component"])) for row in rows] == [
        (name, k) for name, sigma in SIGMA.items() for k in range(len(sigma))
    ]
    for row in rows:
        name, k = row["module"], int(row["component"])
        assert float(row["sigma"]) == SIGMA[name][k]
        if workspace is SMALL:
            g = SMALL.sensitivity.values[name][:, k]
            assert float(row["mean_g"]) == pytest.approx(g.mean(), rel=1e-13)
            assert float(row["mean_abs_g_standard_error"]) == pytest.approx(scipy.stats.sem(np.abs(g)), rel=1e-13)
            assert row["standing"] in ("helps", "neutral", "hurts", "")
        else:
            assert "mean_g" not in row
    one = table(file_of("csv", Choice(Q0, view="one"), numbers)["text"])
    assert one == [row for row in rows if row["module"] == Q0]


def test_the_tables_of_the_other_views_hold_what_they_draw() -> None:
    workspace = planned(PLAN)
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    depth = {row["module"]: row for row in table(file_of("csv", Choice(O0, view="depth"), numbers)["text"])}
    assert float(depth[O0]["effective_rank"]) == pytest.approx(
        math.exp(scipy.stats.entropy(np.array(SIGMA[O0]) / 10)), rel=1e-13
    )
    assert float(depth[O0]["energy_hurts"]) == pytest.approx(17 / 30)
    assert depth[D1]["energy_hurts"] == ""
    listed = table(file_of("csv", Choice(O0, view="lists", list="helpful"), numbers)["text"])
    assert {(row["name"], int(row["component"])) for row in listed} == {(O0, 1), (D0, 0), (O1, 1)}
    stability = table(file_of("csv", Choice(O0, view="stability"), numbers)["text"])
    assert [int(row["examples"]) for row in stability] == [32, 40]


@pytest.mark.parametrize("workspace", [SMALL, UNMEASURED], ids=["measured", "unmeasured"])
@pytest.mark.parametrize("show", ["sigma", "energy", "mean", "magnitude"])
def test_every_view_becomes_a_page_of_its_own(workspace: Workspace, show: str) -> None:
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    for view in ("all", "one", "depth", "stability"):
        found = file_of("html", Choice(O1, view=view, show=show, scale="log"), numbers)
        if found is None:
            assert (view, workspace) == ("stability", UNMEASURED)
            continue
        assert "Plotly.newPlot" in found["text"]
        assert '<script src="http' not in found["text"]
        assert found["name"].endswith(".html")
    assert file_of("html", Choice(O1, view="lists"), numbers) is None


# What the browser or an address sends.


@given(
    st.dictionaries(
        st.sampled_from([*asdict(Choice("")), "x"]),
        st.one_of(
            st.text(max_size=9), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text(max_size=3)),
            st.sampled_from([*NAMES, "one", "energy", "log", "-sigma", "o_proj", "3", "²", "٣"]),
        ),
    )
)  # fmt: skip
def test_any_record_makes_a_choice_that_can_be_shown_and_linked(record: dict[str, Any]) -> None:
    choice = choice_from(record, SMALL.spectra)
    assert choice.module in SMALL.spectra
    assert 0 <= choice.component < SMALL.spectra[choice.module].rank
    assert choice_from(query_of(choice, SMALL.spectra), SMALL.spectra) == choice
    assert choice_from(asdict(choice), SMALL.spectra) == choice


@pytest.mark.parametrize("record", [None, 5, "all", [], True, [("view", "one")]], ids=str)
def test_what_is_no_record_is_the_first_choice(record: Any) -> None:
    assert choice_from(record, SMALL.spectra) == first_choice(SMALL.spectra) == Choice(O0)


def test_an_adapter_without_modules_has_a_choice_too() -> None:
    assert choice_from({"module": "m", "component": 1}, {}) == Choice("")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Q0, (Q0, 0, "one")),
        ((D0, 1), (D0, 1, "one")),
        ((D0, 9), (D0, 0, "one")),
        ((D0, "x"), (D0, 0, "one")),
        ("nothing", (O0, 0, "all")),
        (("nothing", 1), (O0, 0, "all")),
        ((), (O0, 0, "all")),
        (7, (O0, 0, "all")),
    ],
    ids=str,
)
def test_another_page_can_open_a_module_or_a_component(request_: Any, expected: tuple[str, int, str]) -> None:
    choice = opened(request_, Choice(O0), SMALL.spectra)
    assert (choice.module, choice.component, choice.view) == expected


# The page.


def script() -> None:
    from app.spectra import spectra_board

    spectra_board()


def page(workspace: Workspace = SMALL, **query: str) -> AppTest:
    test = AppTest.from_function(script, default_timeout=60)
    test.session_state["workspace"] = workspace
    for name, value in query.items():
        test.query_params[name] = value
    return test.run()


def address(test: AppTest) -> dict[str, str]:
    """A test holds what it set itself as lists, and what the page set as text."""
    return {name: each if isinstance(each, str) else each[0] for name, each in test.query_params.items()}


def component(test: AppTest) -> dict[str, Any]:
    assert not test.exception
    (found,) = test.get("bidi_component")
    return json.loads(found.proto.json)


def send(test: AppTest, choice: Any = None, file: Any = None) -> AppTest:
    """Run the page again as a browser does that reports a choice or asks for a file."""
    (found,) = test.get("bidi_component")
    states = test._tree.get_widget_states()
    if choice is not None:
        states.widgets.add(id=found.proto.id, json_value=json.dumps({"choice": choice}))
    if file is not None:
        payload = json.dumps([{"event": "file", "value": file}])
        states.widgets.add(id=f"$$STREAMLIT_INTERNAL_KEY_{found.proto.id}__events", json_trigger_value=payload)
    return test._run(states)


def test_a_link_reopens_its_view_and_leaves_the_words_of_others_alone() -> None:
    wanted = {"view": "one", "module": Q0, "component": "2", "scale": "log", "w": "0123456789ab", "x": "y"}
    test = page(**wanted)
    assert component(test)["choice"] == asdict(Choice(Q0, 2, view="one", scale="log"))
    assert address(test) == wanted


def test_a_choice_is_written_to_the_address_and_kept() -> None:
    test = page(w="0123456789ab")
    imposed = component(test)["imposed"]
    choice = {**asdict(Choice(D0, 1, view="lists", list="helpful", sort="-sigma"))}
    send(test, choice)
    assert address(test) == {
        "w": "0123456789ab", "view": "lists", "module": D0, "component": "1", "list": "helpful", "sort": "-sigma",
    }  # fmt: skip
    assert component(test)["choice"] == choice
    assert component(test)["imposed"] == imposed  # the browser made it, so it is not told to follow


@pytest.mark.parametrize(
    "query",
    [
        {"view": "<script>"}, {"module": "../../etc/passwd"}, {"component": "-1"}, {"component": "9" * 400},
        {"component": "²"}, {"family": "' OR 1"}, {"sort": "__class__"}, {"list": "KINDS"}, {"view": "ALL"},
    ],
    ids=str,
)  # fmt: skip
def test_an_address_that_makes_no_sense_opens_the_first_view(query: dict[str, str]) -> None:
    test = page(**query)
    assert component(test)["choice"] == asdict(Choice(O0))
    assert not test.query_params


@pytest.mark.parametrize("choice", [[], 5, "x", {"view": 3}, {"module": ["a"]}, {"component": {}}], ids=str)
def test_a_hostile_choice_changes_nothing(choice: Any) -> None:
    assert component(send(page(), choice))["choice"] == asdict(Choice(O0))


def test_the_browsers_history_leads_and_the_hand_does_not_wait_for_the_address() -> None:
    test = page(view="depth")
    send(test, asdict(Choice(O0, view="lists")))
    assert address(test) == {"view": "lists"}
    test.query_params["view"] = "depth"  # back
    assert component(test.run())["choice"]["view"] == "depth"
    test.query_params["view"] = "stability"  # an address of before, because the next is still on its way
    assert component(send(test, asdict(Choice(O0, view="one"))))["choice"]["view"] == "one"
    assert address(test) == {"view": "one"}
    test.query_params.clear()  # back to the start
    assert component(test.run())["choice"]["view"] == "all"


def test_another_page_opens_a_component_once() -> None:
    test = page(view="depth")
    before = component(test)["imposed"]
    test.session_state[spectra_board.OPEN] = (D0, 1)
    data = component(test.run())
    assert data["choice"] == asdict(Choice(D0, 1, view="one"))
    assert data["imposed"] != before
    assert spectra_board.OPEN not in test.session_state
    send(test, asdict(Choice(D0, 1, view="all")))
    assert component(test)["choice"]["view"] == "all"


def test_a_file_comes_once_and_for_the_choice_it_was_asked_with() -> None:
    test = send(page(), file={"format": "csv", "id": "7", "choice": {"view": "one", "module": Q0}})
    found = component(test)["file"]
    assert (found["asked"], found["type"]) == ("7", "text/csv")
    assert [float(row["sigma"]) for row in table(found["text"])] == SIGMA[Q0]
    assert component(test.run())["file"] is None


@pytest.mark.parametrize(
    "file",
    [5, "csv", [], {}, {"format": "exe"}, {"format": ["csv"]}, {"format": "html", "choice": {"view": "lists"}}],
    ids=str,
)
def test_a_file_that_there_is_not_does_not_come(file: Any) -> None:
    assert component(send(page(), file=file))["file"] is None


def test_the_numbers_are_computed_once_for_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(spectra_board, "numbers_of", lambda *of: calls.append(of) or numbers_of(*of))
    test = page()
    test.run().run()
    assert len(calls) == 1
    test.session_state["workspace"] = UNMEASURED
    assert component(test.run())["measured"] is None
    assert len(calls) == 2


def test_another_adapter_keeps_what_makes_sense_for_it() -> None:
    test = page(view="one", module=Q0, component="2", scale="log")
    test.session_state["workspace"] = workspace_of({O0: [2.0, 1.0]})
    assert component(test.run())["choice"] == asdict(Choice(O0, view="one", scale="log"))


def test_a_measurement_of_another_adapter_is_a_message() -> None:
    test = page(replace(SMALL, sensitivity=measurement({O0: np.ones((3, 7))})))
    assert not test.exception
    assert "calibrate" in test.error[0].value
