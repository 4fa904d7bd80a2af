"""Below the board: measure what is predicted, sweep and search knobs, try the edit out, take the recipe along."""

import html
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

import viz
from app import jobs
from app.board.acts import check
from app.frame import plain, show_error
from app.workspace import Workspace, current, keep
from surgery.calibration import choose, read_rows
from surgery.demo import data_file
from surgery.edit import preview
from surgery.errors import ExportError, SurgeryError
from surgery.evaluate import Effect
from surgery.home import digest, home
from surgery.policy import knob_values, knobs_of
from surgery.recipe import CalibrationPlan, dump_recipe, edit_record, parse_recipe

KIND = "bench"
TRY = "try"
_ANSWER_TOKENS = 160


@dataclass(frozen=True)
class Measured:
    """What one job gave, and what it was measured with."""

    key: str
    value: Any


def bench(workspace: Workspace) -> None:
    """The folded tools of the Surgery page; each knows what it still needs."""
    tabs = st.tabs(["Measure", "Sweep a knob", "Search", "Try it", "Recipe"], on_change="rerun", key="bench-tab")
    panels: tuple[Callable[[Workspace], None], ...] = (
        measure_panel,
        sweep_panel,
        search_panel,
        try_panel,
        recipe_panel,
    )
    for tab, panel in zip(tabs, panels, strict=True):
        if tab.open:
            with tab:
                try:
                    panel(workspace)
                except SurgeryError as error:
                    show_error(error)


def measure_panel(workspace: Workspace) -> None:
    st.caption(
        "Predicted comes from the stored sensitivities, to first order. Measured runs the model: on the calibration "
        "rows, where the two test each other, and on tuning rows that the sensitivities have not seen."
    )
    if not _ready(workspace):
        return
    if st.button("Measure this edit", type="primary", disabled=_busy()):
        start_measuring(workspace)
        st.rerun()
    _show_progress()
    result = _result("measured", workspace)
    if result is None:
        return
    numbers = preview(workspace.edit(), workspace.sensitivity)
    cells = st.columns(3)
    if numbers is not None:
        cells[0].metric("Predicted, calibration rows", f"{numbers.predicted:+.4f} ± {numbers.standard_error:.4f}")
    for cell, (name, effects) in zip(cells[1:], result.items(), strict=False):
        effect: Effect = effects["edit"]
        cell.metric(
            f"Measured, {name} rows",
            f"{effect.mean:+.4f} ± {effect.standard_error:.4f}",
            "within noise" if not effect.certain else "lower is better",
            delta_color="off",
            delta_arrow="off",
        )


def start_measuring(workspace: Workspace) -> None:
    edit, tuning = workspace.edit(), _tuning(workspace)

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.run import calibration_slice
        from surgery.tuning import measure_edits

        assert workspace.calibration is not None
        slices = {
            "calibration": calibration_slice(live, workspace.calibration),
            "tuning": calibration_slice(live, tuning),
        }
        job.begin("measuring")
        return measure_edits(live, slices, {"edit": edit}, progress=job.progress, cancelled=job.cancelled)

    _start(workspace, "Measuring", "measured", work)


def sweep_panel(workspace: Workspace) -> None:
    from surgery.tuning import KnobPoint, sweep_knob, sweep_values

    values_now = knob_values(workspace.plan.policy)
    sliding = [knob for knob in knobs_of(workspace.plan.policy) if knob.slides and knob.matters(values_now)]
    if not sliding or not _ready(workspace):
        st.caption("" if sliding else "This policy has no knob to sweep.")
        return
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    name = left.selectbox("Knob", [knob.name for knob in sliding], key="sweep-knob", persist_state="session")
    count = middle.number_input("Values", 3, 25, 9, key="sweep-count")
    knob = next((knob for knob in sliding if knob.name == name), sliding[0])
    if right.button("Sweep", type="primary", disabled=_busy(), width="stretch"):
        rank = max(module.sigma.size for module in workspace.edit().modules.values())
        values = sweep_values(knob, int(count), high=rank if knob.kind is int else None)
        tuning = _tuning(workspace)

        def work(live: Any, job: jobs.Job) -> Any:
            from surgery.run import calibration_slice

            slice_ = calibration_slice(live, tuning)
            job.begin(f"sweeping {knob.name}")
            points = sweep_knob(
                live, slice_, workspace.spectra, workspace.plan, knob.name, values, workspace.sensitivity,
                progress=job.progress, cancelled=job.cancelled,
            )  # fmt: skip
            return knob.name, points

        _start(workspace, "Sweep", "swept", work, free=knob.name)
        st.rerun()
    _show_progress()
    result = _result("swept", workspace, knob.name)
    if result is None:
        return
    swept, points = result
    found: list[KnobPoint] = points
    st.plotly_chart(
        viz.sweep_curve(
            [point.value for point in found],
            [point.measured.mean for point in found],
            [point.measured.low for point in found],
            [point.measured.high for point in found],
            [point.predicted.predicted if point.predicted else None for point in found],
            title=f"Loss along {swept}",
            knob=swept,
        ),
        key="sweep-figure",
        alt=f"Measured and predicted change of the loss along {swept}",
    )
    st.caption("Grey points are within noise: their 95 % interval holds zero. The rest of the plan was kept.")


def search_panel(workspace: Workspace) -> None:
    from surgery.tuning import Search, search

    st.caption("Optuna proposes knobs of this policy, the tuning rows judge them. Stop keeps the best so far.")
    if not _ready(workspace):
        return
    left, middle, right = st.columns([1, 1, 1], vertical_alignment="bottom")
    trials = left.number_input("Trials at most", 2, 500, 20, key="search-trials")
    minutes = middle.number_input("Minutes at most", 1, 600, 10, key="search-minutes")
    if right.button("Search", type="primary", disabled=_busy(), width="stretch"):
        tuning = _tuning(workspace)

        def work(live: Any, job: jobs.Job) -> Any:
            from surgery.run import calibration_slice

            slice_ = calibration_slice(live, tuning)
            job.begin("searching")
            return search(
                live, slice_, workspace.spectra, workspace.plan, workspace.sensitivity,
                trials=int(trials), seconds=60.0 * minutes,
                progress=job.count, cancelled=job.cancelled,
            )  # fmt: skip

        _start(workspace, "Search", "searched", work, free="*")
        st.rerun()
    _show_progress()
    found: Search | None = _result("searched", workspace, "*")
    if found is None:
        return
    best = found.best.measured
    st.metric("Best on the tuning rows", f"{best.mean:+.4f} ± {best.standard_error:.4f}", border=True)
    st.warning(found.warning, icon=":material/info:")
    st.dataframe(
        [
            {"Δ loss": trial.measured.mean, "± s.e.": trial.measured.standard_error}
            | edit_record(trial.plan)["knobs"]
            for trial in sorted(found.trials, key=lambda trial: trial.measured.mean)
        ],
        height=220,
    )
    if st.button("Open the best", icon=":material/check:"):
        keep(workspace.with_history(workspace.history.record("best of search", found.best.plan)))
        st.rerun()


def try_panel(workspace: Workspace) -> None:
    """One prompt, answered by the unedited and by the edited adapter in one batch, as the tokens come."""
    if not _ready(workspace):
        return
    assert workspace.calibration is not None
    if "try-prompt" not in st.session_state:
        rows = choose(read_rows(data_file(workspace.calibration.data)), 1, seed=1)
        st.session_state["try-prompt"] = rows[0].prompt
    prompt = st.text_area("Prompt", key="try-prompt", height=100)
    if st.button("Answer", type="primary", disabled=_busy() or not prompt.strip()):
        start_answering(workspace, prompt)
        st.rerun()
    if jobs.active(TRY) is not None:
        stream_view()
    else:
        answers = _result("answered", workspace)
        if answers is not None:
            side_by_side(answers, done=True)


def start_answering(workspace: Workspace, prompt: str) -> None:
    edit = workspace.edit()
    encoding = workspace.calibration.encoding if workspace.calibration else None

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.answers import stream_answers

        assert encoding is not None
        job.begin("answering")
        variants = {"unedited": None, "edited": edit.sigma_after}
        for answers in stream_answers(
            live, prompt, variants, encoding, limit=_ANSWER_TOKENS, cancelled=job.cancelled
        ):
            job.partial = answers
        return job.partial

    _start(workspace, "Answer", "answered", work, kind=TRY)


@st.fragment(run_every=0.25)
def stream_view() -> None:
    job = jobs.active(TRY)
    if job is None or job.finished:
        st.rerun()
        return
    if st.button("Stop", key="stop-try", disabled=job.cancelled()):
        job.cancel()
    if job.partial:
        side_by_side(job.partial, done=False)
    else:
        st.caption(f"{'waiting for the model' if job.state == 'waiting' else job.step or 'starting'} …")


def side_by_side(answers: Mapping[str, str], *, done: bool) -> None:
    from surgery.answers import difference

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


def recipe_panel(workspace: Workspace) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.caption(
            "Everything needed to redo this edit. The command writes the folder that the Export page writes."
        )
        recipe = workspace.recipe
        if recipe is None:
            st.caption("Known once the base and the calibration rows are.")
        else:
            text = dump_recipe(recipe)
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
    recipe = parse_recipe(data.decode("utf-8", errors="replace"))
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
    check(workspace, plan)
    keep(workspace.with_history(workspace.history.record("recipe opened", plan)))
    st.session_state["board-note"] = " ".join(notes)
    st.rerun()


def _command(text: str) -> str:
    """The line that redoes this recipe, which is kept under its own digest so that the line is whole."""
    name = digest([text])[:12]
    file = home() / "recipes" / f"{name}.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        raise ExportError(f"the recipe cannot be kept ({error.strerror})", "download it instead") from error
    return f"python -m surgery run {shlex.quote(str(file))} --out edited-{name}"


def _ready(workspace: Workspace) -> bool:
    if workspace.base is None or workspace.calibration is None:
        st.caption("Choose a base model on the Adapter page and rows on the Spectra page first.")
        return False
    return True


def _busy() -> bool:
    return jobs.active(KIND) is not None or jobs.active(TRY) is not None


def _show_progress() -> None:
    if jobs.active(KIND) is not None:
        jobs.show_progress(KIND)


def _start(
    workspace: Workspace,
    title: str,
    slot: str,
    work: Callable[[Any, jobs.Job], Any],
    *,
    kind: str = KIND,
    free: str = "",
) -> None:
    """Start a job on the live model; its result belongs to this workspace as it is now, but for knob `free`."""
    adapter, spectra, base = workspace.adapter, workspace.spectra, workspace.base
    key = _key(workspace, free)

    def whole(job: jobs.Job, models: jobs.Models) -> Any:
        from surgery.live import LiveModel

        assert base is not None
        job.begin("loading the base model")
        with LiveModel(models.base(base), adapter, spectra) as live:
            return work(live, job)

    def collect(result: Any) -> None:
        st.session_state[f"bench-{slot}"] = Measured(key, result)

    jobs.start(kind, title, whole, collect)


def _tuning(workspace: Workspace) -> CalibrationPlan:
    """The tuning rows; from here on the workspace knows that they were used to choose."""
    from surgery.tuning import tuning_plan

    assert workspace.calibration is not None
    plan = tuning_plan(workspace.calibration)
    keep(current().with_tuning(plan))
    return plan


def _result(slot: str, workspace: Workspace, free: str = "") -> Any:
    """What a job left in `slot`, unless anything it was measured with has changed since."""
    found: Measured | None = st.session_state.get(f"bench-{slot}")
    if found is None:
        return None
    if found.key != _key(workspace, free):
        st.caption("The last result was of another edit, calibration or base model.")
        return None
    return found.value


def _key(workspace: Workspace, free: str = "") -> str:
    """Everything a measurement depends on, but for the knob `free` that it varies, or `*` for all knobs."""
    record = edit_record(workspace.plan)
    record["knobs"] = {k: v for k, v in record["knobs"].items() if free not in (k, "*")}
    measured = workspace.sensitivity.provenance.key if workspace.sensitivity else ""
    return digest(
        [repr(record), workspace.adapter.digest, repr(workspace.base), repr(workspace.calibration), measured]
    )
