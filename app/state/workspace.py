"""What one person has open: a frozen record, replaced as the work goes on.

Setting a stage clears the stages that follow from it: a new edit voids the export, a new adapter voids
everything. Proofs are not held here: the history of runs knows which belong to the present edit.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import streamlit as st

from app.state.undo import History, Step
from surgery.adapter import Adapter, open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan, Question, TaskPlan
from surgery.edits import Edit, EditPlan, Expectation, expected
from surgery.errors import DataError
from surgery.export import Verification
from surgery.files import demo_names, file_stamp, is_demo
from surgery.model import BaseChoice
from surgery.recipes import Recipe, demo_plans
from surgery.sensitivity import Sensitivity, load_sensitivity, shipped_measurements
from surgery.spectra import Spectrum, decompose

_KEY, _REFUSED = "workspace", "refused-source"


@dataclass(frozen=True)
class Workspace:
    """Adapter → base and plans → sensitivities → edit → export.

    `tuning` names the rows on which edits were measured and chosen, once that was done, and `chosen` those that judged
    in a search. `protected` are the plans of the slices that an edit is not to hurt, whose measurements are
    `sensitivity.protected`, in this order. `guards` are asked beside `evaluation`.
    """

    adapter: Adapter
    spectra: dict[str, Spectrum]
    base: BaseChoice | None = None
    calibration: CalibrationPlan | None = None
    evaluation: EvaluationPlan | None = None
    sensitivity: Sensitivity | None = None
    tuning: CalibrationPlan | None = None
    history: History = field(default_factory=History)
    shelf: Mapping[str, EditPlan] = field(default_factory=dict)
    exported: Verification | None = None
    protected: tuple[CalibrationPlan, ...] = ()
    chosen: tuple[CalibrationPlan | TaskPlan, ...] = ()
    guards: tuple[Question, ...] = ()

    def with_base(self, base: BaseChoice | None) -> "Workspace":
        return replace(self, base=base, sensitivity=None, protected=(), exported=None)

    def with_sensitivity(self, plan: CalibrationPlan, sensitivity: Sensitivity) -> "Workspace":
        """Another measurement to edit for; what is protected stays beside it."""
        beside = self.sensitivity.protected if self.sensitivity else ()
        sensitivity = replace(sensitivity, protected=beside) if beside else sensitivity
        return replace(self, calibration=plan, sensitivity=sensitivity, tuning=None, exported=None)

    def with_protected(self, plan: CalibrationPlan, measured: Sensitivity) -> "Workspace":
        """One more slice that edits are not to hurt, measured on this adapter; none without sensitivities to edit for."""
        if self.sensitivity is None or plan in self.protected:
            return self
        beside = (*self.sensitivity.protected, replace(measured, protected=()))
        return self._with_beside((*self.protected, plan), beside)

    def without_protected(self, plan: CalibrationPlan) -> "Workspace":
        """Without one of the protected slices."""
        if self.sensitivity is None:
            return self
        kept = [i for i, each in enumerate(self.protected) if each != plan]
        beside = self.sensitivity.protected
        return self._with_beside(tuple(self.protected[i] for i in kept), tuple(beside[i] for i in kept))

    def _with_beside(self, plans: tuple[CalibrationPlan, ...], beside: tuple[Sensitivity, ...]) -> "Workspace":
        assert self.sensitivity is not None
        measured = replace(self.sensitivity, protected=beside)
        return replace(self, protected=plans, sensitivity=measured, exported=None)

    @property
    def measured_key(self) -> str:
        """Identity of what edits are made from, the protected slices among it; empty without any."""
        if self.sensitivity is None:
            return ""
        every = (self.sensitivity, *self.sensitivity.protected)
        return " ".join(each.provenance.key for each in every)

    def with_tuning(self, plan: CalibrationPlan) -> "Workspace":
        """The rows that edits were measured and chosen on: from now on no proof may use them."""
        return replace(self, tuning=plan)

    def with_chosen(self, plans: Iterable[CalibrationPlan | TaskPlan]) -> "Workspace":
        """Rows that judged in a search: from now on no proof may use them either."""
        new = [plan for plan in plans if plan not in self.chosen]
        return replace(self, chosen=(*self.chosen, *new))

    @property
    def plan(self) -> EditPlan:
        """What the present edit does."""
        return self.history.present

    def with_edit(self, label: str, **changes: Any) -> "Workspace":
        """Change policy, scope, energy, sigma_min or manual gains; nothing is voided if nothing changed."""
        return self.with_history(self.history.record(label, replace(self.plan, **changes)))

    def with_history(self, history: History) -> "Workspace":
        if history.present == self.plan:
            return replace(self, history=history)
        return replace(self, history=history, exported=None)

    def with_shelf(self, shelf: Mapping[str, EditPlan]) -> "Workspace":
        return replace(self, shelf=dict(shelf))

    def with_kept(self, wanted: str, plan: EditPlan) -> "Workspace":
        """One more recipe on the shelf, under the wanted name or with the first number that is free."""
        name, number = wanted.strip() or "recipe", 2
        while name in self.shelf:
            name, number = f"{wanted.strip() or 'recipe'} {number}", number + 1
        return self.with_shelf({**self.shelf, name: plan})

    def with_evaluation(self, plan: EvaluationPlan, guards: Iterable[Question] = ()) -> "Workspace":
        """The held-out rows that the edit is proven on, and what is asked beside them, for its recipe."""
        return replace(self, evaluation=plan, guards=tuple(guards))

    def with_export(self, verification: Verification) -> "Workspace":
        return replace(self, exported=verification)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the present edit, once base and calibration are known."""
        if self.base is None or self.calibration is None:
            return None
        return Recipe(
            adapter=self.adapter.source,
            adapter_digest=self.adapter.digest,
            base=self.base,
            calibration=self.calibration,
            edit=self.plan,
            evaluation=self.evaluation,
            tuning=self.tuning,
            calibration_digest=self.sensitivity.rows if self.sensitivity else "",
            protected=self.protected,
            protected_digests=tuple(each.rows for each in self.sensitivity.protected) if self.sensitivity else (),
            chosen=self.chosen,
            guards=self.guards,
        )

    @property
    def lacks_sensitivities(self) -> bool:
        """Whether the plan cannot be applied before a calibration, or before one that has what it works from."""
        if self.sensitivity is None:
            return self.plan.needs_sensitivity
        return self.plan.needs_inputs and self.sensitivity.inputs is None

    @cached_property
    def edit(self) -> Edit:
        """The present edit; raises `PolicyError` when it needs sensitivities that are not there."""
        return self.plan.apply(self.spectra, self.sensitivity)

    @cached_property
    def expectation(self) -> Expectation | None:
        """What is expected of the present edit on held-out rows; None where its modules are not measured."""
        return expected(self.plan, self.spectra, self.sensitivity, self.edit)


def current() -> Workspace:
    """The open workspace; a first visit opens the first demo."""
    if _KEY not in st.session_state:
        open_source(f"demo:{demo_names()[0]}")
    workspace: Workspace = st.session_state[_KEY]
    return workspace


def keep(workspace: Workspace) -> Workspace:
    """Make `workspace` the open one."""
    st.session_state[_KEY] = workspace
    return workspace


def workspace_for(source: str, *, download: bool = True) -> Workspace:
    """A fresh workspace on an adapter, named as `open_adapter` takes it; demos bring their base and slices."""
    return workspace_on(open_adapter(source, download=download))


def workspace_on(read: Adapter) -> Workspace:
    """A fresh workspace on an adapter that was opened."""
    source = read.source
    adapter, spectra = _shared(source, read.digest, read)
    fresh = Workspace(adapter, spectra)
    if is_demo(source):
        base, calibration, evaluation = demo_plans(source)
        fresh = replace(fresh, base=base, calibration=calibration, evaluation=evaluation)
    return with_shipped(fresh)


def with_shipped(workspace: Workspace) -> Workspace:
    """With the sensitivities that ship with a demo, where none are measured and neither base nor rows are others."""
    if workspace.sensitivity is not None:
        return workspace
    for measurement in shipped_measurements(workspace.adapter.digest):
        plan = workspace.calibration or measurement.plan
        if plan is not None and measurement.is_of(workspace.base, plan):
            with suppress(DataError):  # a damaged file is as none: the pages then ask for a calibration
                return replace(workspace, calibration=plan, sensitivity=stored_sensitivity(measurement.file))
    return workspace


def open_source(source: str) -> Workspace:
    """Open an adapter in this session.

    The policy, its scope and its rules stay as they are, and so do the recipes on the shelf; what was
    measured or set by hand on the adapter before does not.
    """
    st.session_state[_REFUSED] = source
    fresh = workspace_for(source)
    del st.session_state[_REFUSED]
    return take_up(fresh)


def take_up(fresh: Workspace) -> Workspace:
    """Make a fresh workspace the open one, as `open_source` does."""
    before: Workspace | None = st.session_state.get(_KEY)
    if before is not None:
        plan = replace(before.plan, manual={})
        fresh = replace(fresh, history=History((Step("start", plan),)), shelf=before.shelf)
    return keep(fresh)


def refused_source() -> str:
    """What this session last asked to open and was refused; empty once something opens."""
    return str(st.session_state.get(_REFUSED, ""))


@st.cache_resource(max_entries=4, show_spinner=False)
def _shared(source: str, digest: str, _adapter: Adapter) -> tuple[Adapter, dict[str, Spectrum]]:
    """An adapter and its spectra are never changed, so sessions share them as long as the files are the same."""
    return _adapter, decompose(_adapter)


def stored_sensitivity(file: Path) -> Sensitivity:
    """What is stored in `file`; sessions share it as long as the file is the same. Raises as `load_sensitivity`."""
    try:
        stamp = file_stamp(file)
    except OSError:
        return load_sensitivity(file)  # which says what is wrong
    held = _held_sensitivities()
    found = held.get((file, stamp))
    if found is None:
        found = held[file, stamp] = load_sensitivity(file)
    return found


@st.cache_resource(show_spinner=False)
def _held_sensitivities() -> WeakValueDictionary[tuple[Path, tuple[int, int, int]], Sensitivity]:
    """Those that a session holds, and no other: megabytes each, and read in milliseconds."""
    return WeakValueDictionary()
