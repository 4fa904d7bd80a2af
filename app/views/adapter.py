"""Adapter: open one, see what is inside, choose the base model it belongs to."""

from dataclasses import asdict
from typing import BinaryIO

import pandas as pd
import streamlit as st

from app.base_form import base_form
from app.base_proposal import base_proposal
from app.conversion_form import offer_conversion
from app.found_adapters import offer_found, opened_or_offered
from app.frame import plain, show_error, show_title
from app.hub_form import HUB, hub_form, open_or_fetch
from app.state.workspace import Workspace, current, open_source
from surgery.adapter import TASKS, unpack_adapter
from surgery.errors import SurgeryError
from surgery.files import demo_names, is_demo, uploads_folder
from surgery.spectra import ModuleFacts, module_facts, scope_scalars


def choose_adapter() -> None:
    kind = st.segmented_control(
        "Open", ["Demo", "Folder", HUB, "Upload a zip"], default="Demo", key="open-kind", persist_state="session"
    )
    if kind == HUB:
        hub_form()
        return
    if kind == "Upload a zip":
        with st.form("open-upload", border=False):
            upload = st.file_uploader("Zip of an adapter folder", type="zip", key="open-zip")
            asked = st.form_submit_button("Open", type="primary")
        if asked and upload is not None:
            opened_or_offered(kind, lambda: open_zip(upload))
        if upload is not None:
            offer_found(kind, lambda inside: open_zip(upload, inside))
        return
    if kind == "Folder":
        with st.form("open-folder", border=False):
            source = st.text_input("Adapter folder", placeholder="/path/to/adapter", key="open-path")
            asked = st.form_submit_button("Open", type="primary")
        if asked and source.strip():
            opened_or_offered(kind, lambda: open_or_fetch(source.strip(), kind))
        offer_found(kind, lambda chosen: open_or_fetch(chosen, kind))
        return
    names = [f"demo:{name}" for name in demo_names()]
    opened = current().adapter.source
    chosen = st.radio(
        "Demo adapter",
        names,
        index=names.index(opened) if opened in names else None,
        key="open-demo",
        format_func=_demo_label,
    )
    if chosen and chosen != opened:
        open_source(chosen)


def open_zip(upload: BinaryIO, inside: str | None = None) -> None:
    unpacked = uploads_folder()
    if inside is not None and inside.startswith(f"{unpacked}/"):
        open_source(inside)  # one of several adapters in a file that is unpacked already
        return
    # the upload's own name is the sender's choice, and no part of a path
    open_source(str(unpack_adapter(upload, unpacked, inside)))


def show_contents(workspace: Workspace) -> None:
    adapter = workspace.adapter
    facts, scalars = _facts(adapter.digest, workspace)
    ranks = sorted({f.rank for f in facts})
    cells = st.columns(5)
    cells[0].metric("Modules", len(facts), help="Adapted projections in the file.")
    cells[1].metric("Layers", len(adapter.layers))
    cells[2].metric("Rank", _span(ranks))
    cells[3].metric("Scaling α/r", _span(sorted({round(f.scaling, 4) for f in facts})))
    cells[4].metric(
        "Edited scalars",
        f"{scalars['residual'] or scalars['all']:,}",
        help="Singular values in the default scope: the residual writers (paper Eq. 8), or all where none is known.",
    )
    trained_on = plain(adapter.base_name or "an unnamed base")
    st.caption(
        f"{plain(_task(adapter.task))} · trained on {trained_on} · {adapter.kind} in {_dtypes(workspace)} · attention inputs {scalars['attention-inputs']:,} and "
        f"all modules {scalars['all']:,} singular values"
    )
    for note in adapter.notes:
        st.info(note, icon=":material/info:")
    if is_demo(adapter.source):
        _show_card(adapter.source)
    st.markdown("**Families**")
    st.dataframe(_by_family(facts), hide_index=True, width="stretch")
    with st.expander(f"All {len(facts)} modules"):
        st.dataframe(pd.DataFrame(_record(f) for f in facts), hide_index=True, width="stretch", height=380)


@st.cache_resource(max_entries=4, show_spinner=False)
def _facts(digest: str, _workspace: Workspace) -> tuple[list[ModuleFacts], dict[str, int]]:
    """Facts of all modules and the singular values of every named scope; thousands of modules take a second."""
    return module_facts(_workspace.adapter, _workspace.spectra), scope_scalars(_workspace.spectra)


def _show_card(source: str) -> None:
    import json

    from surgery.files import demo_folder

    card = json.loads((demo_folder(source) / "card.json").read_text())
    st.caption(
        f"Made by this project: {card['task']}, {card['examples']:,} examples; exact match on "
        f"{card['exact_match_examples']} held-out examples {card['exact_match_base']:.1%} before and "
        f"{card['exact_match_adapter']:.1%} after training."
    )


def _demo_label(source: str) -> str:
    return {"demo:kinship": "Kinship: name a family relation", "demo:arithmetic": "Arithmetic: short sums"}.get(
        source, source
    )


def _by_family(facts: list[ModuleFacts]) -> pd.DataFrame:
    rows = []
    for family in dict.fromkeys(f.family for f in facts):
        members = [f for f in facts if f.family == family]
        shapes = {f.shape for f in members}
        rows.append(
            {
                "family": family,
                "modules": len(members),
                "out × in": " × ".join(map(str, shapes.pop())) if len(shapes) == 1 else "various",
                "rank": _span(sorted({f.rank for f in members})),
                "mean ‖ΔW‖": round(sum(f.norm for f in members) / len(members), 3),
                "mean effective rank": round(sum(f.effective_rank for f in members) / len(members), 2),
                "mean k for 90 % energy": round(sum(f.k90 for f in members) / len(members), 1),
            }
        )
    return pd.DataFrame(rows)


def _record(facts: ModuleFacts) -> dict[str, object]:
    record = asdict(facts)
    record["shape"] = " × ".join(map(str, facts.shape))
    return record


def _dtypes(workspace: Workspace) -> str:
    return ", ".join(sorted({str(f.B.dtype) for f in workspace.adapter.modules.values()}))


def _task(task: str) -> str:
    """What a model with an adapter of this task is, as the beginning of a line."""
    return f"A {TASKS[task]}" if task in TASKS else f"Of the task {task}"


def _span(values: list[float] | list[int]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"


show_title(
    "Adapter", "Open a trained LoRA adapter and see what is inside. The base model is needed only to measure."
)
controls, contents = st.columns([1, 2.4], gap="large")
with controls:
    try:
        choose_adapter()
    except SurgeryError as error:
        show_error(error)
    offer_conversion()
    st.divider()
    st.markdown("**Base model**")
    base_proposal(current())
    base_form(current())
    st.page_link(
        "views/surgery.py", label="Next: change its singular values on the Surgery page", icon=":material/tune:"
    )
with contents:
    show_contents(current())
