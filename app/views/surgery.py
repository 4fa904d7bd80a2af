"""Surgery: turn knobs and pull bars, and see at once what happens to every singular value."""

from collections.abc import Mapping

import numpy as np
import streamlit as st

import viz
from app.editing import board, tour
from app.editing.bench import bench
from app.editing.expecting import expectation_text
from app.editing.headroom import headroom_panel
from app.editing.pulls import pulls_panel
from app.editing.rank_table import rank_panel
from app.editing.shape_table import shape_panel
from app.experts import expert_picker
from app.frame import plain
from app.offer import offer_calibration
from app.state.workspace import Workspace, current, keep
from surgery.adapter import SCOPES, in_scope, modules_in, scope_for
from surgery.edits import EditPlan, expected, preview, summary
from surgery.errors import SurgeryError
from surgery.policies import POLICIES, make_policy


def change(workspace: Workspace) -> None:
    keep(workspace)
    st.rerun()


def bar(workspace: Workspace) -> None:
    """The heading and the page's tools in one row of few elements: each one costs every answer a little."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.subheader("Surgery", anchor=False, width="content")
        if st.button("History", icon=":material/history:"):
            history_list(workspace)
        if st.button(f"Scope: {plain(_scope_name(workspace.plan.scope))}", icon=":material/filter_alt:"):
            scope_picker(workspace)
        if workspace.plan.scope != "all" and st.button(
            "All families", help="Edit every module of the adapter", key="all-families"
        ):
            set_scope(workspace, list(workspace.spectra), "all")
        with st.popover("Keep as a recipe", icon=":material/bookmark_add:"):
            keep_form(workspace)
        if not tour.running() and st.button(
            "Tour", icon=":material/school:", help="Six short steps on this adapter"
        ):
            tour.start(workspace)


def jump(at: int) -> None:
    keep(current().with_history(current().history.jump(at)))


@st.dialog("History")
def history_list(workspace: Workspace) -> None:
    """Every plan so far, the latest first; a button each, because a list would send its old choice again."""
    history = workspace.history
    for at in reversed(range(len(history.steps))):
        if st.button(
            f"{at + 1} · {plain(history.steps[at].label)}",
            key=f"step-{at}",
            type="primary" if at == history.at else "tertiary",
            disabled=at == history.at,
            on_click=jump,
            args=(at,),
        ):
            st.rerun()  # closes the list


@st.dialog("Which modules to edit", width="large")
def scope_picker(workspace: Workspace) -> None:
    names = list(workspace.spectra)
    named, by_kind, by_table, by_text = st.tabs(["Named", "Families and layers", "Table", "Expression"])
    with named:
        for scope in SCOPES:
            chosen = modules_in(names, scope)
            scalars = sum(workspace.spectra[name].rank for name in chosen)
            if st.button(f"{scope}: {scalars:,} scalars", key=f"scope-{scope}", disabled=not chosen):
                set_scope(workspace, chosen)
    with by_kind:
        families = list(workspace.adapter.families)
        layers = workspace.adapter.layers
        present = _matched(names, workspace.plan.scope)
        active = [f for f in families if any(workspace.spectra[name].family == f for name in present)]
        wanted = st.pills("Families", families, selection_mode="multi", default=active, key="scope-families")
        low, high = (layers[0], layers[-1]) if layers else (0, 0)
        first, last = (
            st.slider("Layers", low, high, (low, high), key="scope-layers") if high > low else (low, high)
        )
        chosen = [
            name
            for name, spectrum in workspace.spectra.items()
            if spectrum.family in wanted and (spectrum.layer is None or first <= spectrum.layer <= last)
        ]
        _apply_button(workspace, chosen, "scope-by-kind")
    with by_table:
        chosen = scope_table(workspace, set(_matched(names, workspace.plan.scope)))
        _apply_button(workspace, chosen, "scope-by-table")
    with by_text:
        text = st.text_input("Modules whose path matches", workspace.plan.scope, key="scope-text")
        chosen = _matched(names, text)
        if not chosen:
            st.caption("matches no module, or is no expression")
        _apply_button(workspace, chosen, "scope-by-text", text)


def scope_table(workspace: Workspace, present: set[str]) -> list[str]:
    import pandas as pd

    families = list(workspace.adapter.families)
    rows: dict[str, dict[str, list[str]]] = {}  # modules by layer and family, the experts of a layer together
    for name, spectrum in workspace.spectra.items():
        label = name if spectrum.layer is None else str(spectrum.layer)
        rows.setdefault(label, {}).setdefault(spectrum.family, []).append(name)
    table = pd.DataFrame(
        [[bool(members) and present.issuperset(members) for members in cells] for cells in _cells(rows, families)],
        index=list(rows),
        columns=families,
    )
    edited = st.data_editor(table, key=f"scope-table-{hash(frozenset(present))}", height=260)
    return [
        name
        for label, cells in zip(rows, _cells(rows, families), strict=True)
        for family, members in zip(families, cells, strict=True)
        if edited.loc[label, family]
        for name in members
    ]


def _cells(rows: Mapping[str, Mapping[str, list[str]]], families: list[str]) -> list[list[list[str]]]:
    return [[row.get(family, []) for family in families] for row in rows.values()]


def _apply_button(workspace: Workspace, chosen: list[str], key: str, scope: str | None = None) -> None:
    scalars = sum(workspace.spectra[name].rank for name in chosen)
    if st.button(f"Edit these {len(chosen)} modules: {scalars:,} scalars", key=key, disabled=not chosen):
        set_scope(workspace, chosen, scope)


def set_scope(workspace: Workspace, chosen: list[str], scope: str | None = None) -> None:
    """The scope that selects these modules; gains by hand outside it are dropped, and undo brings them back."""
    scope = scope or scope_for(workspace.spectra, chosen)
    manual = {name: gains for name, gains in workspace.plan.manual.items() if name in set(chosen)}
    change(workspace.with_edit(f"scope {_scope_name(scope)}", scope=scope, manual=manual))


def _matched(names: list[str], scope: str) -> list[str]:
    try:
        return in_scope(names, scope)
    except SurgeryError:
        return []


def _scope_name(scope: str) -> str:
    return (
        scope
        if len(scope) <= 24
        else f"{scope.count('|') + 1} paths"
        if scope.startswith("^(")
        else scope[:22] + "…"
    )


def keep_form(workspace: Workspace) -> None:
    with st.form("keep-recipe", border=False, clear_on_submit=True):
        name = st.text_input("Name", placeholder=workspace.plan.policy.name, max_chars=40)
        if st.form_submit_button("Keep", type="primary"):
            change(workspace.with_kept(name or workspace.plan.policy.name, workspace.plan))


def shelf(workspace: Workspace) -> None:
    """Kept recipes side by side: what each does to every component and what theory says of it."""
    if not workspace.shelf:
        return
    st.markdown("##### Kept recipes")
    entries = list(workspace.shelf.items())
    for first in range(0, len(entries), 4):
        for column, (name, plan) in zip(st.columns(4), entries[first : first + 4], strict=False):
            with column.container(border=True):
                card(workspace, name, plan)


def card(workspace: Workspace, name: str, plan: EditPlan) -> None:
    st.markdown(f"**{plain(name)}** · {plan.policy.name}")
    try:
        edit = plan.apply(workspace.spectra, workspace.sensitivity)
    except SurgeryError as error:
        st.caption(plain(error.problem))
    else:
        numbers = preview(edit, workspace.sensitivity)
        told = expected(plan, workspace.spectra, workspace.sensitivity, edit)
        if told is not None:
            st.caption(expectation_text(told))
        rank = max(module.gains.size for module in edit.modules.values())
        gains = np.full((len(edit.modules), rank), np.nan)
        for row, module in enumerate(edit.modules.values()):
            gains[row, : module.gains.size] = module.gains
        st.image(viz.gain_thumbnail(gains), width="stretch")
        moved = (numbers or summary(edit)).nuclear_norm_moved
        st.caption(f"{edit.scalars:,} scalars · {moved:.1%} of the nuclear norm moved")
    with st.container(horizontal=True, gap="small"):
        if st.button("Open", key=f"open-{name}"):
            change(workspace.with_history(workspace.history.record(f"recipe {name}", plan)))
        if st.button("", key=f"copy-{name}", icon=":material/content_copy:", help="Duplicate"):
            change(workspace.with_kept(f"{name} copy", plan))
        if st.button("", key=f"drop-{name}", icon=":material/delete:", help="Delete"):
            change(workspace.with_shelf({k: v for k, v in workspace.shelf.items() if k != name}))


workspace = current()
bar(workspace)
note = st.session_state.pop("board-note", "")
if note:
    st.info(note)
if tour.running():
    tour.tour(workspace)
if workspace.lacks_sensitivities:
    offer_calibration(
        workspace,
        "The board stands here: drag a knob or a bar, and every singular value, its gain and the expected change of "
        "the loss follow.",
    )
    if workspace.history.can_undo and st.button("Undo", icon=":material/undo:"):
        change(workspace.with_history(workspace.history.jump(workspace.history.at - 1)))
    free = [
        name for name, kind in POLICIES.items() if not EditPlan(kind()).needs_sensitivity and name != "identity"
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Or start with a policy that needs no calibration:", width="content")
        for name in free:
            if st.button(name, key=f"free-{name}"):
                change(workspace.with_edit(f"policy {name}", policy=make_policy(name)))
else:
    expert_picker(workspace.spectra)
    board()
    pulls_panel(workspace)
    shape_panel(workspace)
    headroom_panel(workspace)
    rank_panel(workspace)
    shelf(workspace)
    bench(workspace)
