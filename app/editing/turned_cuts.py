"""Cuts of rank that turn the directions to what the inputs hold, beside those of the rank table, and their export."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import streamlit as st

from app.frame import plain
from app.state.workspace import Workspace
from surgery.adapter import in_scope
from surgery.edits import EditPlan, Kept, Turned, kept_by_turned, turned_cuts, turned_modules
from surgery.errors import PolicyError
from surgery.export import Layout, Smaller, export_truncations, layout_of, turned_documents
from surgery.files import proposed_export
from surgery.policies import Rank
from surgery.spectra import Spectrum

TURNED = {
    "activation-aware, one threshold": Rank(cut="para"),
    "activation-aware, the share of each module": Rank(cut="energy"),
    "activation-aware, a fixed rank": Rank(),
}
_MOST = 1000  # modules that are turned while a hand waits: a fifth of a millisecond each and cut
_HELD = "rank-turned"


@dataclass(frozen=True)
class TurnedCut:
    """A cut with directions of its own, what it keeps, and how its file would lie, ragged and padded."""

    cut: Mapping[str, Spectrum]
    kept: Kept
    ragged: Layout
    padded: Layout


def turned_outcome(workspace: Workspace, plan: EditPlan) -> TurnedCut:
    """What the activation-aware cut of a plan would be; raises `PolicyError` where that is not known or takes too long."""
    policy = plan.policy
    assert isinstance(policy, Rank)
    found = _turned(workspace, plan.scope)
    cut = turned_cuts(workspace.spectra, found, policy)
    ranks = {name: part.rank for name, part in cut.items()}
    ragged, padded = (layout_of(workspace.adapter, ranks, Smaller(pad)) for pad in (None, 0))
    return TurnedCut(cut, kept_by_turned(workspace.spectra, found, cut), ragged, padded)


def _turned(workspace: Workspace, scope: str) -> Mapping[str, Turned]:
    """The directions of all modules in scope, which no slider turns: found once for a measurement and a scope."""
    if workspace.sensitivity is None:
        raise PolicyError("the inputs were not measured, and none were given", "measure first")
    names = in_scope(workspace.spectra, scope)
    if len(names) > _MOST:
        raise PolicyError(
            f"{len(names):,} modules are not turned while you wait: σ²q is the nearest on fixed directions",
            "surgery resize --by activation writes this cut",
        )
    inputs = workspace.sensitivity.inputs
    held = st.session_state.get(_HELD)
    if held is None or held[0] is not inputs or held[1:3] != (workspace.adapter.digest, scope):
        held = inputs, workspace.adapter.digest, scope, turned_modules(workspace.spectra, inputs, names)
        st.session_state[_HELD] = held
    found: Mapping[str, Turned] = held[3]
    return found


def write_turned(workspace: Workspace, name: str, plan: EditPlan) -> None:
    """Ask for a folder and write the cut there: it is an adapter of its own, which the board cannot hold."""
    st.caption(
        "This cut turns the directions inside each module, so it is no edit of the singular values that the board could "
        "hold: it is written as an adapter of its own, and proven as another adapter beside this one."
    )
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    folder = left.text_input(
        "New folder for the cut", str(proposed_export(f"{name} {workspace.adapter.digest[:6]}"))
    )
    if not right.button("Write this cut", key="rank-write", width="stretch"):
        return
    policy = plan.policy
    assert workspace.sensitivity is not None
    assert isinstance(policy, Rank)
    found = turned_outcome(workspace, plan)
    told = replace(plan, policy=replace(policy, by="functional"))
    written = export_truncations(
        workspace.adapter,
        found.cut,
        folder.strip(),
        Smaller(),
        documents=turned_documents(workspace.adapter.digest, told, workspace.sensitivity),
        base=workspace.base,
    )
    st.success(
        plain(
            f"Written, read back and compared: {written.folder}, {found.ragged.bytes / 1e6:.2f} MB, largest relative "
            f"error of a ΔW′ {written.rounding:.1e}."
        ),
        icon=":material/verified:",
    )
