"""The Spectra page on a made-up workspace."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from app.state.workspace import Workspace
from tests.app.conftest import D0, D1, O0, O1, Q0, SIGMA, workspace_of
from tests.helpers.policies import measured as measurement

SMALL = workspace_of(SIGMA, examples=40)
UNMEASURED = replace(SMALL, sensitivity=None)
NAMES = list(SIGMA)


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
