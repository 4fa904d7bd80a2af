"""The Paper page's tables: the paper's own, those of its authors' follow-up, and the settings that the text leaves open."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.frame import plain
from surgery import paper

KEYS = {
    "model": "The base model the paper's adapter was trained on",
    "task": "GSM8K: exact match; HumanEval: pass@1; IFEval: strict accuracy; CSQA: accuracy. Higher is better",
    "policy": "The edit policy of this row",
}


def table_view(number: int) -> None:
    """One table: its numbers or their changes, and what does not add up."""
    table = paper.tables()[number]
    st.markdown(f"**Table {number}. {table.title}** · {table.where}")
    as_change = False
    if table.higher_is_better is not None:
        as_change = st.toggle(
            "As changes over the unedited adapter, percentage points", key="paper-changes", persist_state="session"
        )
    shown = paper.changes(table, paper.tables()[2]) if as_change else table
    shape = "%d" if table.higher_is_better is None else "%+.1f" if as_change else "%.3f"
    config = {key: st.column_config.TextColumn(help=KEYS[key]) for key in table.keys}
    config |= {
        name: st.column_config.NumberColumn(help=meaning, format=shape) for name, meaning in shown.columns.items()
    }
    st.dataframe(
        pd.DataFrame(shown.records()), hide_index=True, width="stretch", column_config=config, placeholder="lost"
    )
    better = "" if table.higher_is_better is None else "; higher is better"
    st.caption(f"Unit: {shown.unit}{better}. The numbers are the paper's; the notes are ours.")
    st.download_button(
        "Download the table as CSV",
        table.file.read_bytes(),
        f"paper-{table.file.name}",
        "text/csv",
        on_click="ignore",
    )
    show_notes(table.notes)


def follow_up_view() -> None:
    """What the paper's authors found over eighteen adapters, with the reference."""
    found = paper.follow_up()
    st.markdown(f"**{found.title}** · [{plain(found.reference)}]({found.url})")
    frame = pd.DataFrame(list(found.rows))
    config: dict[str, Any] = {"method": st.column_config.TextColumn(width="large")}
    config |= {
        name: st.column_config.NumberColumn(help=meaning, format="%.2f") for name, meaning in found.columns.items()
    }
    st.dataframe(frame, hide_index=True, width="stretch", height="content", column_config=config)
    st.caption(found.about)
    for each in found.paired:
        st.markdown(
            f"**{each.of} − {each.against}** on the target: {each.mean:+.2f} points, 95 % {each.low:+.2f} … {each.high:+.2f}."
        )
    st.download_button(
        "Download the table as CSV",
        frame.to_csv(index=False),
        "paper-follow-up.csv",
        "text/csv",
        on_click="ignore",
    )
    show_notes(found.notes)


def open_view() -> None:
    """Settings that the text leaves open, and where ours come from."""
    about, settings = paper.unstated()
    st.markdown(plain(about))
    frame = pd.DataFrame(
        {
            "setting": [entry.setting for entry in settings],
            "of": [entry.of for entry in settings],
            "knob": [entry.knob or "" for entry in settings],
            "here": ["" if entry.ours is None else _word(entry.ours) for entry in settings],
            "the paper": [entry.paper for entry in settings],
            "where ours comes from": [entry.source for entry in settings],
        }
    )
    st.dataframe(
        frame,
        hide_index=True,
        width="stretch",
        height="content",
        column_config={
            "setting": st.column_config.TextColumn(width=230),
            "of": st.column_config.TextColumn(
                width=210, help="The policies or the step that this setting belongs to"
            ),
            "knob": st.column_config.TextColumn(
                help="Its name on the Surgery page, in recipes and on the command line"
            ),
            "here": st.column_config.TextColumn(width=150, help="The default of the workbench"),
            "the paper": st.column_config.TextColumn(width=255, help="What our copy of the text says"),
        },
    )
    st.download_button(
        "Download as CSV", frame.to_csv(index=False), "paper-open.csv", "text/csv", on_click="ignore"
    )


def _word(value: float | bool | str) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def show_notes(notes: Sequence[str]) -> None:
    """Our remarks on the numbers; nothing of the paper's wording."""
    if notes:
        st.markdown("**Our notes on these numbers**\n\n" + "\n".join(f"- {plain(note)}" for note in notes))
