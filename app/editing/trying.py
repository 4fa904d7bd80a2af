"""Try it: one prompt, answered by the unedited and by the edited adapter side by side, as the tokens come."""

import html
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.editing.measuring import TRY, WHOLE, busy, ready, result_of, start
from app.state import jobs
from app.state.workspace import Workspace
from surgery.data import CLASSIFIERS, choose, read_source
from surgery.edits import Edit

_ANSWER_TOKENS = 160


def try_panel(workspace: Workspace) -> None:
    """One prompt, answered by the unedited and by the edited adapter in one batch, as the tokens come."""
    if ready(workspace):
        try_box(workspace, workspace.edit)


def try_box(workspace: Workspace, edit: Edit, of: str = "") -> None:
    """The prompt box for an edit of the open adapter; `of` names one that is not the present edit."""
    assert workspace.calibration is not None
    if "try-prompt" not in st.session_state:
        found = read_source(workspace.calibration.data, workspace.calibration.fields)
        rows = choose(found.rows, 1, seed=1)
        st.session_state["try-prompt"] = rows[0].prompt
    labels = workspace.adapter.task in CLASSIFIERS
    prompt = st.text_area("Text" if labels else "Prompt", key="try-prompt", height=100)
    if st.button("Label" if labels else "Answer", type="primary", disabled=busy() or not prompt.strip()):
        start_answering(workspace, prompt, edit, of)
        st.rerun()
    if jobs.active(TRY) is not None:
        stream_view()
    else:
        answers = result_of(_slot(of), workspace, WHOLE if of else ())
        if answers is not None:
            side_by_side(answers, done=True)


def _slot(of: str) -> str:
    """Where the answers of an edit are left; those of a trial do not depend on the present edit."""
    return f"answered {of}".strip()


def start_answering(workspace: Workspace, prompt: str, edit: Edit, of: str = "") -> None:
    encoding = workspace.calibration.encoding if workspace.calibration else None

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.model import stream_answers

        assert encoding is not None
        job.begin("answering")
        variants = {"unedited": None, "edited": edit.sigma_after}
        for answers in stream_answers(live, prompt, variants, encoding, limit=_ANSWER_TOKENS, control=job.control):
            job.partial = answers
        return job.partial

    start(workspace, "Answer", _slot(of), work, kind=TRY, free=WHOLE if of else ())


@st.fragment(run_every=0.25)
def stream_view() -> None:
    job = jobs.active(TRY)
    if job is None or job.finished:
        st.rerun()
        return
    if job.partial:
        side_by_side(job.partial, done=False)
    else:
        st.caption(f"{'waiting for the model' if job.state == 'waiting' else job.step or 'starting'} …")


def side_by_side(answers: Mapping[str, str], *, done: bool) -> None:
    from surgery.model import difference

    runs = difference(answers["unedited"], answers["edited"]) if done else []
    for column, (name, mark) in zip(st.columns(2), (("unedited", "gone"), ("edited", "new")), strict=True):
        with column.container(border=True):
            st.caption(name)
            if not done:
                st.text(answers[name] or " ")
            else:
                shown = "".join(_marked(text, kind) for kind, text in runs if kind in ("same", mark))
                st.html(f'<div style="white-space:pre-wrap">{shown or "&nbsp;"}</div>')
    if done and answers["unedited"] == answers["edited"]:
        st.caption("Both answers are the same.")


def _marked(text: str, kind: str) -> str:
    """One run of an answer as HTML; an answer is a model's text, so it is escaped."""
    safe = html.escape(text)
    if kind == "same":
        return safe
    tag = "ins" if kind == "new" else "del"
    ink = "#0f8a8a" if kind == "new" else "#d1495b"
    return f'<{tag} style="background:{ink}2e;text-decoration-color:{ink}">{safe}</{tag}>'
