"""The figures of the Spectra page: one component that holds every number and draws each choice by itself.

The server computes; the browser draws and picks. A choice comes back when the hand rests, to stand in
the page's address; a file is asked for by name and made here, with every digit.
"""

import base64
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import streamlit as st
from numpy import ndarray

import viz
from app.components import component
from app.experts import is_folded, shown
from app.frame import show_error, write_address
from app.spectra import microscope
from app.spectra.choice import NAMES, Choice, choice_from, opened, query_of
from app.spectra.files import FORMATS, MEASURE_LABELS, SHOW_LABELS, file_of, layout_of, stability_curves
from app.spectra.numbers import ERRORS, LISTED, Measured, Numbers, numbers_of, verdicts
from app.state.workspace import Workspace, current
from surgery.errors import SurgeryError
from surgery.files import digest
from surgery.sensitivity import Component

OPEN = "spectra-open"  # in the session: the module, or (module, component), that another page wants shown
_KEY = "spectra"  # in the session as long as the component stands on the page
_CHOICE, _NUMBERS, _IMPOSED = "spectra-choice", "spectra-numbers", "spectra-imposed"
_WRITTEN, _HAND = "spectra-address", "spectra-hand"  # what we wrote to the address; whether the component asked

_mount = component("spectra_board", Path(__file__).parent, "spectra")


def wanted_module() -> str | None:
    """The module that another page, or the link that was followed, wants shown; None where the hand leads."""
    wanted = st.session_state.get(OPEN)
    if wanted is not None:
        return str(wanted[0] if isinstance(wanted, tuple) else wanted)
    return None if _CHOICE in st.session_state else _words().get("module")


def show_inside(module: Any, number: Any) -> None:
    """Have this page open a component, and the fold that looks inside it, when it runs next."""
    st.session_state[OPEN] = (module, number)
    st.session_state[microscope.OPEN] = True


@st.fragment
def spectra_board() -> None:
    """Draw the spectra of the open workspace, and carry out what the browser asks for."""
    workspace = current()
    try:
        numbers, data = _numbers(workspace)
    except SurgeryError as error:
        show_error(error)
        return
    choice = _choice(workspace)
    _mount(
        key=_KEY,
        data={
            **data,
            "choice": asdict(choice),
            "imposed": st.session_state[_IMPOSED],
            "file": _file(st.session_state.get(_KEY), numbers),
        },
        on_choice_change=_take_choice,
        on_file_change=_take_question,
    )
    words = query_of(choice, shown(workspace.spectra))
    write_address(NAMES, words)
    st.session_state[_WRITTEN] = words
    if choice.view == "one":
        microscope.microscope_panel(workspace, choice.module, choice.component)


def _take_choice() -> None:
    st.session_state[_CHOICE] = choice_from(st.session_state[_KEY].get("choice"), shown(current().spectra))
    st.session_state[_HAND] = True


def _take_question() -> None:
    st.session_state[_HAND] = True


def _choice(workspace: Workspace) -> Choice:
    """What to show: what another page asked for, what the address says, or the present choice.

    The address leads on the first visit, and when the browser went back or forth in its history: then it
    says something else than we wrote. Not when the component itself asked for this run, because its next
    address may still be on its way to the browser.
    """
    spectra, present, address = shown(workspace.spectra), st.session_state.get(_CHOICE), _words()
    wanted, hand = st.session_state.pop(OPEN, None), st.session_state.pop(_HAND, False)
    stays = _KEY in st.session_state  # else the page was just entered, by a link of ours without words
    led = not hand and address != st.session_state.get(_WRITTEN) and (stays or bool(address))
    # the present choice is read anew too, because another adapter may be open by now
    choice = choice_from(address if present is None or led else asdict(present), spectra)
    if wanted is not None:
        choice = opened(wanted, choice, spectra)
    if present != choice:
        st.session_state[_IMPOSED] = uuid4().hex  # the browser follows; else it knows better than we do
        st.session_state[_CHOICE] = choice
    return choice


def _words() -> dict[str, str]:
    """Our words in the address."""
    return {name: value for name, value in st.query_params.to_dict().items() if name in NAMES}


def _file(state: Any, numbers: Numbers) -> dict[str, str] | None:
    """The file asked for in this run; `asked` tells the browser which of its questions this answers."""
    asked = (state or {}).get("file")
    if not isinstance(asked, dict) or asked.get("format") not in FORMATS:
        return None
    found = file_of(str(asked["format"]), choice_from(asked.get("choice"), numbers.spectra), numbers)
    return found and {**found, "asked": str(asked.get("id"))[:64]}


def _numbers(workspace: Workspace) -> tuple[Numbers, dict[str, Any]]:
    """Kept for the session: what was computed last, with the spectra and the measurement it belongs to."""
    spectra, sensitivity = shown(workspace.spectra), workspace.sensitivity
    of = (spectra, sensitivity)
    kept = st.session_state.get(_NUMBERS)
    if kept is None or any(now is not then for now, then in zip(of, kept[0], strict=True)):
        if sensitivity is not None and is_folded(workspace.spectra):
            sensitivity = sensitivity.of_modules(spectra)
        numbers = numbers_of(spectra, sensitivity)
        kept = st.session_state[_NUMBERS] = (of, numbers, _data(workspace, numbers))
    return kept[1], kept[2]


def _data(workspace: Workspace, numbers: Numbers) -> dict[str, Any]:
    rows, columns, places = layout_of(numbers)
    found = numbers.measured
    data = {
        "source": workspace.adapter.source,
        "rows": rows,
        "columns": columns,
        "families": list(dict.fromkeys(spectrum.family for spectrum in numbers.spectra.values())),
        "modules": [
            {
                "name": name,
                "label": name if spectrum.layer is None else f"layer {spectrum.layer} · {spectrum.family}",
                "layer": spectrum.layer,
                "family": spectrum.family,
                "rank": spectrum.rank,
                "start": numbers.starts[name],
                "row": places[name][0],
                "column": places[name][1],
                "effective": _number(numbers.effective[name]),
                "stable": _number(numbers.stable[name]),
                "k90": numbers.k90[name],
                **{ratio: _number(by_name[name]) for ratio, by_name in numbers.ratios.items()},
                "shares": found.shares[name].tolist() if found and name in found.shares else None,
            }
            for name, spectrum in numbers.spectra.items()
        ],
        "sigma": _floats(numbers.sigma),
        "share": _floats(numbers.share),
        "energy": _floats(numbers.energy),
        "functional": _floats(numbers.functional) if np.isfinite(numbers.functional).any() else None,
        "degenerate": _bytes(numbers.degenerate.astype(np.uint8)),
        "errors": ERRORS,
        "labels": {"show": list(SHOW_LABELS.items()), "measure": list(MEASURE_LABELS.items())},
        "palette": viz.PALETTE,
        "measured": found and _measured(found, numbers),
    }
    return {**data, "key": digest([repr(data)])[:16]}


def _measured(found: Measured, numbers: Numbers) -> dict[str, Any]:
    index = {name: at for at, name in enumerate(numbers.spectra)}
    return {
        "examples": found.examples,
        "mean": _floats(found.mean),
        "error": _floats(found.error),
        "magnitude": _floats(found.magnitude),
        "magnitudeError": _floats(found.magnitude_error),
        "agreement": _floats(found.agreement),
        "standing": _bytes(found.standing),
        "named": found.dichotomy.named,
        "counted": int(found.dichotomy.counts.sum()),
        "byLuck": found.dichotomy.by_luck,
        "layerShares": {
            family: {"layers": layers, "shares": shares.tolist()}
            for family, (layers, shares) in found.layer_shares.items()
        },
        "listed": LISTED,
        "lists": {kind: [_listed(each, index) for each in rows] for kind, rows in found.lists.items()},
        "stability": [
            {name: _number(value) for name, value in asdict(budget).items()} for budget in found.stability
        ],
        "curves": [
            {"words": words, "values": [_number(value) for value in values]}
            for words, values in stability_curves(found).items()
        ],
        "verdicts": verdicts(found),
    }


def _listed(each: Component, index: dict[str, int]) -> dict[str, Any]:
    return {
        "module": index[each.name],
        "component": each.component,
        "sigma": _number(each.sigma),
        "share": _number(each.energy_share),
        "mean": _number(each.mean),
        "error": _number(each.error),
        "silence": _number(each.if_zeroed),
        "silenceError": _number(each.if_zeroed_error),
    }


def _number(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else None


def _floats(values: ndarray) -> str:
    with np.errstate(over="ignore"):
        return _bytes(np.ascontiguousarray(values, dtype="<f4"))


def _bytes(values: ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
