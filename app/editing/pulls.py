"""Below the board: which calibration rows an edit or one component helps and hurts, foretold and, on request, measured."""

import math
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy import ndarray

import viz
from app.editing.fold import fold
from app.editing.measuring import busy, show_waiting, start
from app.frame import plain
from app.state import jobs
from app.state.runs import evaluation_of, newest_proof
from app.state.workspace import Workspace
from surgery.data import CalibrationPlan, Row
from surgery.edits import Pulls, component_pulls, pulls
from surgery.errors import SurgeryError
from surgery.evaluation import BASELINE, LOSS
from surgery.experiments import EDIT, known_row_changes, measure_row_changes
from surgery.sensitivity import Conflict, Sensitivity, measured_rows

HELD, OWN, MEASURED = "held out", "this edit", "measured"
THE_EDIT, ONE_COMPONENT = "The edit on the board", "One component, zeroed"


def pulls_panel(workspace: Workspace) -> None:
    """The ranking, computed while it is open."""
    fold(workspace, "Whom it helps and hurts", ":material/diversity_3:", "pulls-open", _show)


def _show(workspace: Workspace) -> None:
    measured = workspace.sensitivity
    if measured is None:
        st.caption("Whom an edit helps is told by the sensitivity of every row. Calibrate first.")
        return
    whole, found = _chosen(workspace, measured)
    if not found.own.any():
        st.caption("This changes nothing, so it helps and hurts nobody.")
        return
    changes = known_row_changes(measured, found.sigma_after)
    order = found.order
    st.plotly_chart(
        viz.pulls_by_row(
            found.told[order].tolist(),
            [None if math.isnan(each) else each for each in changes[order].tolist()],
            title=f"Expected change of every calibration row: {_name(found)}",
            name=_name(found),
        ),
        key="pulls-figure",
        alt="Expected change of the loss of every calibration row, from the most helped to the most hurt",
    )
    st.markdown(headline(found))
    if whole:
        st.caption(conflict_text(measured.moments.of_scope(tuple(found.sigma_after)).conflict, found))
        _proof(workspace, found)
    _rows(workspace, measured, found, changes)


def _chosen(workspace: Workspace, measured: Sensitivity) -> tuple[bool, Pulls]:
    """Whether the whole edit is looked at, and whom what is looked at helps and hurts."""
    cells = st.columns([2, 3, 1], vertical_alignment="bottom")
    what = cells[0].segmented_control(
        "Of", [THE_EDIT, ONE_COMPONENT], default=THE_EDIT, key="pulls-of", required=True
    )
    whole = pulls(workspace.plan, workspace.spectra, measured, workspace.edit)  # refuses what was not measured
    if what != ONE_COMPONENT:
        return True, whole
    worst = {name: _most_harmful(workspace, measured, name) for name in workspace.edit.modules}
    names = list(worst)
    first = names.index(max(names, key=lambda name: worst[name][0]))
    module = cells[1].selectbox("Module", names, first, key="pulls-module") or names[first]
    last = workspace.spectra[module].rank - 1
    component = cells[2].number_input("Component", 0, last, worst[module][1], key=f"pulls-component-{module}")
    return False, component_pulls(workspace.spectra, measured, module, int(component))


def _most_harmful(workspace: Workspace, measured: Sensitivity, name: str) -> tuple[float, int]:
    """What zeroing would gain to first order and of which component of a module: the one to look at first."""
    gain = measured.values[name].mean(axis=0) * workspace.spectra[name].sigma
    gain = np.where(np.isfinite(gain), gain, -np.inf)
    return float(gain.max()), int(gain.argmax())


def _name(found: Pulls) -> str:
    return "gᵢ·δ, the row held out" if found.fitted and found.told is found.held else "gᵢ·δ"


def headline(found: Pulls) -> str:
    """How many rows are expected to be helped and hurt, and how much of it cancels."""
    n = found.told.size
    helped, hurt = (round(share * n) for share in (found.helped, found.hurt))
    how = "by edits that these rows have not shaped"
    if not found.fitted:
        how = "to first order; no row has shaped this change, unless it was chosen by looking at these rows"
    elif found.told is not found.held:
        how = "by the edit that these very rows have shaped, so it looks too good: none can be made without some of them"
    text = f"Expected to help **{helped}** of {n} calibration rows and to hurt **{hurt}**, {how}."
    if math.isnan(found.cancelled):
        return text
    return f"{text} Of all that the rows gain and lose, **{found.cancelled:.0%}** cancels."


def conflict_text(found: Conflict, edit: Pulls) -> str:
    """Whether the rows' gradients go one way, and the two groups of them where there are two beyond chance."""
    if math.isnan(found.cosine):
        return "Too few rows have a gradient in this scope to say whether they agree."
    common = "beyond chance" if found.common else "no more than chance gives"
    text = (
        f"Gradients of two rows in this scope have a mean cosine of {found.cosine:+.3f}, {common} (random signs: "
        f"{found.by_chance:.3f}); {found.opposed:.0%} of pairs point apart."
    )
    if found.groups is None:
        return f"{text} No two groups of rows beyond chance (p = {found.p:.2f}, a normal cloud of the same shape)."
    first = found.compared[found.groups.first]
    second = found.compared[~found.groups.first]
    sides = (
        f"{group.size} rows, of which {(edit.told[group] < 0).mean():.0%} are helped" for group in (first, second)
    )
    return (
        f"{text} Two groups beyond chance (p = {found.p:.2f}): {' and '.join(sides)}; cosine {found.groups.within:+.3f} "
        f"within, {found.groups.between:+.3f} between."
    )


def _proof(workspace: Workspace, found: Pulls) -> None:
    """What a proof measured on other rows: shares can be compared, single rows cannot."""
    run = newest_proof(workspace)
    if run is None:
        return
    scores = evaluation_of(run).scores
    if EDIT not in scores or LOSS.name not in scores[EDIT].values:
        return
    st.caption(proof_text(scores[EDIT].loss - scores[BASELINE].loss, found))


def proof_text(changes: ndarray, found: Pulls) -> str:
    """The shares of held-out rows that the edit helped and hurt, beside those expected."""
    n = changes.size
    helped, hurt = float((changes < 0).mean()), float((changes > 0).mean())
    error = math.sqrt(helped * (1 - helped) / n)
    return (
        f"Its proof, on {n} other rows: the loss of {helped:.0%} ± {error:.0%} fell and that of {hurt:.0%} rose; "
        f"expected were {found.helped:.0%} and {found.hurt:.0%}. Those rows are held out, so none of them stands here."
    )


def _rows(workspace: Workspace, measured: Sensitivity, found: Pulls, changes: ndarray) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    most = max(2, min(64, measured.examples // 2))
    count = left.slider("Rows of each kind", 1, most, min(10, most), key=f"pulls-count-{most}")
    helped, hurt = found.ends(count)
    missing = [row for row in (*helped, *hurt) if math.isnan(changes[row])]
    ready = workspace.base is not None and workspace.calibration is not None
    label = f"Measure these {len(missing)} rows" if missing else "All shown are measured"
    if right.button(label, key="pulls-measure", width="stretch", disabled=busy() or not missing or not ready):
        _start(workspace, measured, found, missing)
        st.rerun()
    show_waiting()
    texts, why = _texts(workspace, measured)
    st.dataframe(
        rows_table(found, changes, (helped, hurt), texts),
        hide_index=True,
        width="stretch",
        height=min(430, 38 + 35 * (len(helped) + len(hurt))),
        key="pulls-table",
        placeholder="",
        column_config={
            **{name: st.column_config.NumberColumn(format="%+.4f") for name in (HELD, OWN, MEASURED)},
            "prompt": st.column_config.TextColumn(width="large"),
        },
    )
    if why:
        st.caption(plain(why))
    st.caption(
        "Nats per answer token. Held out: gᵢ·δ of the edits without this row, which the ranking goes by. This edit: gᵢ·δ of "
        "the edit itself, which is what was measured on request, with the model. It shows how well a slope tells of a step; "
        "these rows shaped the edit, so it proves nothing."
    )


def rows_table(
    found: Pulls, changes: ndarray, ends: tuple[list[int], list[int]], texts: tuple[Row | None, ...]
) -> pd.DataFrame:
    """A row for each that is shown. Texts come from files of any origin, and a table shows them as they are."""
    helped, hurt = ends
    rows = [*helped, *hurt]
    known = [texts[row] if texts else None for row in rows]
    table = {
        "": ["helped"] * len(helped) + ["hurt"] * len(hurt),
        "row": [row + 1 for row in rows],
        HELD: found.held[rows],
        OWN: found.own[rows],
        MEASURED: changes[rows],
        "prompt": ["" if row is None else _one_line(row.prompt) for row in known],
        "answer": ["" if row is None else _one_line(row.answer) for row in known],
    }
    return pd.DataFrame(table if found.fitted else {key: value for key, value in table.items() if key != HELD})


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _texts(workspace: Workspace, measured: Sensitivity) -> tuple[tuple[Row | None, ...], str]:
    """The rows' own words, and why they are missing where they are."""
    if workspace.calibration is None:
        return (), "The rows are not shown: this workspace does not say where they came from."
    try:
        rows = _read_again(workspace.calibration, measured.provenance.key, measured)
    except SurgeryError as error:
        return (), f"The rows are not shown: {error.problem}."
    gone = sum(row is None for row in rows)
    return rows, f"{gone} of {len(rows)} rows are no longer in the source that was measured." if gone else ""


@st.cache_resource(max_entries=2, show_spinner=False)
def _read_again(plan: CalibrationPlan, key: str, _measured: Sensitivity) -> tuple[Row | None, ...]:
    return measured_rows(_measured, plan)


def _start(workspace: Workspace, measured: Sensitivity, found: Pulls, rows: list[int]) -> None:
    """Measure the edit on these rows in the background; what comes out is stored."""
    plan = workspace.calibration
    assert plan is not None

    def work(live: Any, job: jobs.Job) -> Any:
        job.begin("measuring rows")
        measure_row_changes(live, plan, measured, found.sigma_after, rows, control=job.control)

    start(workspace, "Measuring rows", "pulled", work)
