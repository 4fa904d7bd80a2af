"""The Spectra page tells the browser every number as it is, and believes nothing of what comes back."""

from dataclasses import asdict, replace

import numpy as np

from app import spectra as spectra_board
from app.spectra.choice import Choice
from app.spectra.files import layout_of
from app.spectra.numbers import numbers_of
from surgery.spectra import Spectrum
from tests.app.conftest import D0, O0, Q0, workspace_of
from tests.app.spectra.conftest import SMALL, address, component, page, send
from tests.helpers.policies import measured as measurement


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


def test_another_adapter_keeps_what_makes_sense_for_it() -> None:
    test = page(view="one", module=Q0, component="2", scale="log")
    test.session_state["workspace"] = workspace_of({O0: [2.0, 1.0]})
    assert component(test.run())["choice"] == asdict(Choice(O0, view="one", scale="log"))


def test_a_measurement_of_another_adapter_is_a_message() -> None:
    test = page(replace(SMALL, sensitivity=measurement({O0: np.ones((3, 7))})))
    assert not test.exception
    assert "calibrate" in test.error[0].value
