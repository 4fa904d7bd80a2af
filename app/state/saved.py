"""A person's workspace on disk, so that a reloaded or reopened page finds it again.

Each browser session writes one small file, named by an id that stands in the page's address. A visit
without an id takes up the newest workspace that no open page holds. Sensitivities and proofs are found again
in their stores, and jobs that still run by the workspace that started them.
"""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.state.undo import History, Step
from app.state.workspace import Workspace, keep, stored_sensitivity, with_shipped, workspace_for
from surgery.data import (
    CalibrationPlan,
    EvaluationPlan,
    TaskPlan,
    parse_questions,
    parse_stored_plan,
    parse_task,
    plan_record,
    question_record,
)
from surgery.edits import edit_record, stored_edit
from surgery.errors import SurgeryError
from surgery.files import workspaces_folder, write_whole
from surgery.model import BaseChoice
from surgery.sensitivity import Sensitivity, stored_sensitivity_file

PARAMETER = "w"
ID = "workspace-id"  # in the session: the name of its file
_SCHEMA = 1
_ID = re.compile(r"[0-9a-f]{12}")


class Holders:
    """Which workspaces the open pages of this server hold."""

    def __init__(self) -> None:
        self._sessions: dict[str, str] = {}
        self._lock = threading.Lock()

    def claim(self, workspace_id: str, session: str) -> bool:
        """Hold the workspace for `session`, unless another page that is still connected does."""
        with self._lock:
            holder = self._sessions.get(workspace_id, session)
            if holder != session and Runtime.exists() and Runtime.instance().is_active_session(holder):
                return False
            self._sessions[workspace_id] = session
            return True


@st.cache_resource(show_spinner=False)
def holders() -> Holders:
    """The one list of this server."""
    return Holders()


def attach() -> str | None:
    """Find this session's workspace again on its first run.

    A page whose address names a workspace that another page holds works on a copy of its own; the id of the
    workspace that was copied in this run is returned.
    """
    name, copied = st.session_state.get(ID), None
    if name is None:
        asked = st.query_params.get(PARAMETER, "")
        name, found = _found(asked)
        st.session_state[ID] = name
        if found is not None:
            keep(found)
            copied = asked if _ID.fullmatch(asked) and asked != name else None
    if st.query_params.get(PARAMETER) != name:
        st.query_params[PARAMETER] = name
    return copied


def _found(asked: str) -> tuple[str, Workspace | None]:
    """The id to write to from now on, and the workspace to begin with."""
    context = get_script_run_ctx(suppress_warning=True)
    session = context.session_id if context else ""
    fresh = uuid4().hex[:12]
    if _ID.fullmatch(asked):
        name = asked if holders().claim(asked, session) else fresh
    else:
        name = asked = next((free for free in _newest_first() if holders().claim(free, session)), fresh)
    found = restore(asked)
    if found is None and _file(asked).exists():
        # what cannot be restored now, because its adapter is away, is not to be written over
        name = fresh
        st.session_state["board-note"] = "The last workspace could not be opened again; it is kept as it is."
    holders().claim(name, session)
    return name, found


def save(workspace: Workspace, name: str) -> None:
    """Write the workspace, whole or not at all, when it differs from what was written last."""
    text = json.dumps(record_of(workspace), ensure_ascii=False, indent=1)
    if st.session_state.get("workspace-saved") == text:
        return
    write_whole(_file(name), text.encode())
    st.session_state["workspace-saved"] = text


def restore(name: str) -> Workspace | None:
    """The workspace of that id; None when there is none or its adapter is gone or changed."""
    file = _file(name)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.get("schema") != _SCHEMA:
            return None
        # a page that is opened again fetches nothing unasked
        workspace = workspace_for(record["adapter"]["source"], download=False)
        if workspace.adapter.digest != record["adapter"]["digest"]:
            return None
        return _filled(workspace, record)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None  # a page that opens fresh is better than one that does not open


def _folder() -> Path:
    folder = workspaces_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _file(name: str) -> Path:
    return _folder() / f"{name}.json"


def _newest_first() -> list[str]:
    files = sorted(_folder().glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.stem for file in files if _ID.fullmatch(file.stem)]


def record_of(workspace: Workspace) -> dict[str, Any]:
    """What is written of a workspace, for `restore` to read."""
    sensitivity = workspace.sensitivity
    return {
        "schema": _SCHEMA,
        "adapter": {"source": workspace.adapter.source, "digest": workspace.adapter.digest},
        **{name: plan and plan_record(plan) for name, plan in _plans(workspace).items()},
        "sensitivity": sensitivity.provenance.key if sensitivity and not sensitivity.shipped else None,
        "protected": [
            {"plan": plan_record(plan), "sensitivity": measured.provenance.key}
            for plan, measured in zip(workspace.protected, sensitivity.protected, strict=True)
        ]
        if sensitivity
        else [],
        "history": [{"label": step.label, "edit": edit_record(step.plan)} for step in workspace.history.steps],
        "chosen": [
            question_record(plan) if isinstance(plan, TaskPlan) else plan_record(plan) for plan in workspace.chosen
        ],
        "guards": [question_record(guard) for guard in workspace.guards],
        "at": workspace.history.at,
        "shelf": {name: edit_record(plan) for name, plan in workspace.shelf.items()},
    }


def _plans(workspace: Workspace) -> dict[str, Any]:
    return {
        "base": workspace.base,
        "calibration": workspace.calibration,
        "evaluation": workspace.evaluation,
        "tuning": workspace.tuning,
    }


def _filled(workspace: Workspace, record: dict[str, Any]) -> Workspace:
    kinds = {
        "base": BaseChoice,
        "calibration": CalibrationPlan,
        "evaluation": EvaluationPlan,
        "tuning": CalibrationPlan,
    }
    record = {"tuning": None, **record}
    plans = {name: record[name] and parse_stored_plan(kind, record[name], name) for name, kind in kinds.items()}
    steps = tuple(Step(str(step["label"]), stored_edit(step["edit"])) for step in record["history"])
    if not steps:
        raise ValueError("a history is never empty")
    shelf = {str(name): stored_edit(edit) for name, edit in record["shelf"].items()}
    history = History(steps).jump(int(record["at"]))
    measured = _measured(workspace, record["sensitivity"], plans["calibration"])
    chosen = tuple(
        parse_task(each, "chosen") if "task" in each else parse_stored_plan(CalibrationPlan, each, "chosen")
        for each in record.get("chosen", [])
    )
    guards = parse_questions(record.get("guards", []), "guards")
    whole = replace(
        workspace,
        **plans,
        history=history,
        shelf=shelf,
        sensitivity=measured,
        chosen=chosen,
        guards=guards if plans["evaluation"] else (),
    )
    found = with_shipped(whole)
    for each in record.get("protected", []):
        plan = parse_stored_plan(CalibrationPlan, each["plan"], "protected")
        beside = _measured(workspace, each["sensitivity"], plan)
        found = found if beside is None else found.with_protected(plan, beside)
    return found


def _measured(workspace: Workspace, key: str | None, plan: CalibrationPlan | None) -> Sensitivity | None:
    """What was measured here and is still stored; None for sensitivities that shipped with a demo."""
    if not key or plan is None:
        return None
    try:
        file = stored_sensitivity_file(key, plan.batch_size, base_inputs=plan.base_inputs)
        found = stored_sensitivity(file)
    except SurgeryError:
        return None
    return found if found.provenance.adapter == workspace.adapter.digest else None
