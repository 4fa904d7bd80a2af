"""Export: write the edited adapter, read it back, take it home with the recipe that redoes it."""

import io
import zipfile
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.frame import plain, show_error, show_title
from app.offer import offer_calibration
from app.running import waits_for
from app.smaller_form import form_picker
from app.state import jobs
from app.state.workspace import Workspace, current, keep
from surgery.adapter import TASKS
from surgery.errors import SurgeryError
from surgery.export import (
    RECORD_FILE,
    PeftLoading,
    Smaller,
    Verification,
    dump_record,
    export,
    export_recipe,
    record_of,
)
from surgery.files import proposed_export
from surgery.recipes import dump_recipe, pinned

KIND = "reload"


def write_panel(workspace: Workspace) -> None:
    st.markdown("**Write**")
    if workspace.lacks_sensitivities or (workspace.recipe is None and _runs(workspace)):
        offer_calibration(
            workspace,
            "The edited adapter is written here, read back and compared, with the recipe that redoes it.",
        )
        return
    with st.form("export", border=False):
        folder = st.text_input("New folder", str(_proposal(workspace)), help="Nothing that exists is overwritten.")
        form = form_picker(workspace)
        asked = st.form_submit_button("Write and verify", type="primary")
    if asked:
        try:
            verification = _written(workspace, folder.strip(), form)
        except SurgeryError as error:
            show_error(error)
        else:
            keep(workspace.with_export(verification))
            st.rerun()


def _runs(workspace: Workspace) -> bool:
    """Whether a model is run for adapters of this one's task, so that there can be a calibration."""
    return workspace.adapter.task in TASKS


def _written(workspace: Workspace, folder: str, form: Smaller | None) -> Verification:
    """The edit written out, with the recipe that redoes it where there is one."""
    adapter, spectra, edit = workspace.adapter, workspace.spectra, workspace.edit
    if workspace.recipe is not None:
        return export_recipe(adapter, spectra, edit, workspace.recipe, folder, workspace.sensitivity, form)
    record = record_of(adapter.digest, workspace.plan, workspace.sensitivity)
    documents = {RECORD_FILE: dump_record(record)}
    return export(adapter, spectra, edit, folder, documents=documents, base=workspace.base, form=form)


def written_panel(workspace: Workspace) -> None:
    written = workspace.exported
    if written is None:
        return
    st.success(f"Written, read back and compared: `{written.folder}`", icon=":material/verified:")
    cells = st.columns(4)
    cells[0].metric("Tensors edited", written.edited)
    cells[1].metric("Byte-equal", written.untouched)
    cells[2].metric(
        "Rounding",
        f"{written.rounding:.1e}",
        help="Largest relative error of an edited ΔW′ after rounding to the file's dtype.",
    )
    _tell_loading(cells[3], written.loading)
    if written.layout is not None:
        st.caption(" ".join(f"{text[0].upper()}{text[1:]}." for text in written.served))
    actions = st.columns(2)
    actions[0].download_button(
        "Download as zip",
        lambda: _zipped(written.folder),
        f"{written.folder.name}.zip",
        "application/zip",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )
    if not _runs(workspace):
        return
    if waits_for(KIND, "The reload is under way. How far its logits agree appears here when it ends."):
        return
    if actions[1].button("Reload with PEFT and compare", width="stretch", icon=":material/compare:"):
        start_reload(workspace, written.folder)
        st.rerun()
    compared = st.session_state.get("reload-result")
    if compared is not None and compared[0] == written.folder:
        st.info(
            f"Loaded by PEFT, the written folder gives the logits of the live preview to a relative error of "
            f"{compared[1]:.1e} on {compared[2]} calibration rows.",
            icon=":material/check:",
        )


def _tell_loading(cell: DeltaGenerator, loading: PeftLoading) -> None:
    """How many modules PEFT applies, found by its own loading onto the base's empty architecture."""
    known = loading.applied is not None
    cell.metric(
        "PEFT applies",
        f"{loading.applied} / {loading.modules}" if known else "not checked",
        help="Modules that PEFT's own loading of the written folder puts into the base model's architecture.",
    )
    st.caption(plain(f"{loading}."))


def start_reload(workspace: Workspace, folder: Path) -> None:
    adapter, spectra, edit = workspace.adapter, workspace.spectra, workspace.edit
    base, plan = workspace.base, workspace.calibration
    if base is None or plan is None:
        return

    def work(job: jobs.Job, models: jobs.Models) -> tuple[float, int]:
        from surgery.export import peft_agreement

        job.begin("loading the base model")
        loaded = models.base(base, adapter, job.control)
        job.begin("comparing logits")
        return peft_agreement(loaded, adapter, spectra, edit, folder, plan)

    def collect(result: tuple[float, int]) -> None:
        st.session_state["reload-result"] = (folder, *result)

    jobs.start(KIND, "Reload", work, collect)


def recipe_panel(workspace: Workspace) -> None:
    st.markdown("**Recipe**")
    recipe = workspace.recipe
    if recipe is None:
        st.caption("The recipe stands here once the base model and the calibration rows are known.")
        return
    text = dump_recipe(pinned(recipe))
    st.caption("Save it and run the command: the same folder comes out, byte for byte on the same machine.")
    st.code("python -m surgery run recipe.yaml", language="bash")
    st.download_button(
        "Download recipe.yaml", text, "recipe.yaml", "text/yaml", on_click="ignore", icon=":material/download:"
    )
    st.code(text, language="yaml", height=420)


def _proposal(workspace: Workspace) -> Path:
    stem = workspace.adapter.source.rpartition(":")[2].rpartition("/")[2].partition("@")[0] or "adapter"
    return proposed_export(f"{stem}-{workspace.plan.policy.name}")


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return buffer.getvalue()


show_title("Export", "A drop-in PEFT adapter: same config, names, shapes and dtypes, new singular values.")
left, right = st.columns([1.2, 1], gap="large")
with left:
    write_panel(current())
    written_panel(current())
with right:
    recipe_panel(current())
