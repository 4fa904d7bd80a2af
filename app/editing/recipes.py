"""The recipe of the present edit: as a file, as a command, and back again by drag and drop."""

import shlex
from dataclasses import replace

import streamlit as st

from app.editing.acts import checked
from app.frame import plain
from app.state.workspace import Workspace, keep
from surgery.errors import ExportError
from surgery.files import digest, recipes_folder, write_whole
from surgery.recipes import dump_recipe, in_one_step, parse_recipe, pinned


def recipe_panel(workspace: Workspace) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.caption(
            "Everything needed to redo this edit. The command writes the folder that the Export page writes."
        )
        recipe = workspace.recipe
        if recipe is None:
            st.caption("The recipe stands here once the base model and the calibration rows are known.")
        else:
            text = dump_recipe(pinned(recipe))
            if st.button("Copy as command", icon=":material/terminal:"):
                st.session_state["recipe-command"] = (text, _command(text))
            kept, command = st.session_state.get("recipe-command", ("", ""))
            if kept == text:
                st.code(command, language="bash")
            st.download_button(
                "Download recipe.yaml",
                text,
                "recipe.yaml",
                "text/yaml",
                on_click="ignore",
                icon=":material/download:",
            )
            with st.expander("Show the recipe"):
                st.code(text, language="yaml")
    with right:
        dropped = st.file_uploader("Drop a recipe here", type=["yaml", "yml"], key="recipe-upload")
        if dropped is not None and st.session_state.get("recipe-opened") != dropped.file_id:
            st.session_state["recipe-opened"] = dropped.file_id
            open_recipe(workspace, dropped.getvalue())


def open_recipe(workspace: Workspace, data: bytes) -> None:
    """Take a recipe's edit over; one that was made for another adapter goes on by the names of its modules."""
    recipe = in_one_step(parse_recipe(data.decode("utf-8", errors="replace")))
    plan = recipe.edit
    notes = []
    if recipe.adapter_digest and recipe.adapter_digest != workspace.adapter.digest:
        unknown = [name for name in plan.manual if name not in workspace.spectra]
        manual = {name: gains for name, gains in plan.manual.items() if name in workspace.spectra}
        plan = replace(plan, manual=manual)
        left_out = f" Gains by hand on {len(unknown)} modules that are not here were left out." if unknown else ""
        notes.append(
            f"This recipe was made for another adapter, {plain(recipe.adapter)}; its names are used here.{left_out}"
        )
    keep(checked(workspace.with_history(workspace.history.record("recipe opened", plan))))
    st.session_state["board-note"] = " ".join(notes)
    st.rerun()


def _command(text: str) -> str:
    """The line that redoes this recipe, which is kept under its own digest so that the line is whole."""
    name = digest([text])[:12]
    file = recipes_folder() / f"{name}.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    except OSError as error:
        raise ExportError(f"the recipe cannot be kept ({error.strerror})", "download it instead") from error
    return f"python -m surgery run {shlex.quote(str(file))} --out edited-{name}"
