"""Runs to report: through the real store, on a demo whose edit can be made again."""

from collections.abc import Callable

import pytest

from app.state.workspace import Workspace, workspace_for
from surgery.evaluation import Evaluation
from surgery.runs import Run
from tests.helpers.proofs import kept_proof

Keep = Callable[[Evaluation], Run]


@pytest.fixture(scope="session")
def kinship() -> Workspace:
    return workspace_for("demo:kinship")


@pytest.fixture
def kept(kinship: Workspace) -> Keep:
    """Keeps an evaluation as the run of the demo's present edit."""
    return lambda evaluation: kept_proof(kinship, "rows.jsonl", evaluation)
