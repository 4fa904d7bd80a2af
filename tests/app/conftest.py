"""A home and a session of its own for every test, and a small workspace with everything an adapter may bring."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.components.v2.manifest_scanner import scan_component_manifests

from app.state.workspace import Workspace
from tests.helpers.hub_server import hub
from tests.helpers.policies import measured, spectrum

__all__ = ["hub"]

O0, O1, Q0 = (f"model.layers.{at}" for at in ("0.self_attn.o_proj", "1.self_attn.o_proj", "0.self_attn.q_proj"))
D0, D1 = (f"model.layers.{layer}.mlp.down_proj" for layer in (0, 1))
SIGMA = {
    O0: [4.0, 3.0, 2.0, 1.0],
    D0: [2.0, 1.0],  # another rank
    Q0: [3.0, 2.0, 1.0],  # outside the residual writers
    O1: [5.0, 1.0, 1e-20, 0.0],  # two null components
    D1: [0.0, 0.0],  # a zero update
}


@pytest.fixture(scope="session", autouse=True)
def packages_scanned_once() -> Iterator[None]:
    """A server looks for components in every installed package when it starts; AppTest starts one for every page."""
    with pytest.MonkeyPatch.context() as patch:
        scanner = "streamlit.components.v2.manifest_scanner.scan_component_manifests"
        patch.setattr(scanner, cache(scan_component_manifests))
        yield


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    st.session_state.clear()  # outside a page all tests share one
    return tmp_path / "home"


def workspace_of(sigma: dict[str, list[float]], examples: int = 6) -> Workspace:
    """A workspace on made-up spectra with made-up sensitivities."""
    rng = np.random.default_rng(2)
    spectra = {name: spectrum(name, values) for name, values in sigma.items()}
    families = tuple(dict.fromkeys(found.family for found in spectra.values()))
    adapter = SimpleNamespace(digest="d" * 64, source="made up", families=families, layers=(0, 1))
    sensitivity = measured({name: rng.normal(0, 0.01, (examples, len(s))) for name, s in sigma.items()})
    return Workspace(adapter, spectra, sensitivity=sensitivity)


@pytest.fixture(scope="session")
def small() -> Workspace:
    return workspace_of(SIGMA)
