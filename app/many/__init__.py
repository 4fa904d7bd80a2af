"""The set of adapters that a person has open on the page "Many adapters": opened in the background, kept in the session."""

import streamlit as st

from app.frame import show_error
from app.running import waits_for
from app.state import jobs
from surgery.adapter_sets import AdapterSet, open_set
from surgery.errors import SurgeryError
from surgery.spectra import adapter_folders

KIND = "adapter-set"
_SET, _FOLDER = "many-set", "many-folder"


def opened_set() -> AdapterSet | None:
    """The set that is open in this session."""
    return st.session_state.get(_SET)


def set_form() -> None:
    """Name the folder; what is found below it is looked at in the background."""
    with st.form("many-open", border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        folder = left.text_input(
            "Folder above the adapters, or of a training with its checkpoints",
            key=_FOLDER,
            placeholder="/path/to/adapters",
            persist_state="session",
        )
        asked = right.form_submit_button("Open", type="primary", width="stretch")
    if asked and folder.strip():
        try:
            found = len(adapter_folders(folder.strip()))  # says at once where there is none
        except SurgeryError as error:
            show_error(error)
        else:
            _start(folder.strip(), found)
            st.rerun()
    if opened_set() is None:
        st.caption(
            "Every PEFT adapter below the folder is opened, or refused with its reason. Checkpoints beside each other "
            "(`checkpoint-500`, `checkpoint-1000` …) are put in the order of their steps. No base model is needed."
        )
    waits_for(KIND, "The adapters are looked at one after the other. They appear here when that has ended.")


def _start(folder: str, count: int) -> None:
    def work(job: jobs.Job, _: jobs.Models) -> AdapterSet:
        return open_set(folder, control=job.control)

    def collect(found: AdapterSet) -> None:
        st.session_state[_SET] = found

    jobs.start(KIND, f"Opening {count} adapters", work, collect, needs_model=False)
