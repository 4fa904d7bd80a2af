"""What a search is asked: where it starts, what it varies, what it is to improve, and the rows that judge."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from surgery.data import (
    CalibrationPlan,
    Row,
    Slice,
    TaskPlan,
    calibration_rows,
    parse_stored_plan,
    plan_record,
    read_slices,
    shared_keys,
)
from surgery.edits import EditPlan, edit_record, groups_text, stored_edit
from surgery.errors import DataError, PolicyError
from surgery.experiments.search.objectives import OWN, PROTECTED, TASK, Objective, objectives_named
from surgery.experiments.search.space import GROUPS, SearchSpace

_SETTINGS = {"start", "objectives", "space", "tuning", "protected", "seed", "race"}


@dataclass(frozen=True)
class SearchPlan:
    """A search.

    start: the edit that is tried first and that all others are varied from.
    tuning: the rows that judge; an edit that is chosen by them is not to be proven on them.
    objectives: names of `OBJECTIVES`, the first of which the front is sorted by.
    space: what is varied.
    protected: rows of another task, for the objectives that ask for some.
    task: a task of lm-eval, for the objective that is its metric.
    seed: of Optuna's sampler.
    race: whether trials are stopped that are worse than the unedited adapter in everything.

    Raises `PolicyError` for what makes no sense.
    """

    start: EditPlan
    tuning: CalibrationPlan
    objectives: tuple[str, ...] = ("loss",)
    space: SearchSpace = field(default_factory=SearchSpace)
    protected: CalibrationPlan | None = None
    seed: int = 0
    race: bool = True
    task: TaskPlan | None = None

    def __post_init__(self) -> None:
        wanted = self.asked
        if self.protected is None and any(each.rows == PROTECTED for each in wanted):
            raise PolicyError(
                "an objective is of protected rows, and none are named",
                "name rows of another task (--protected-data), or leave it out",
            )
        if (self.task is None) == any(each.rows == TASK for each in wanted):
            raise PolicyError(
                "a task and the objective that is its metric belong together",
                "name a task (--task) and the objective task, or neither",
            )
        if not 0 <= self.seed < 2**32:
            raise PolicyError(f"a search cannot have seed {self.seed}", "use a seed from 0 to 2**32 - 1")

    @property
    def asked(self) -> tuple[Objective, ...]:
        """Its objectives."""
        return objectives_named(self.objectives)

    @property
    def slices(self) -> dict[str, CalibrationPlan]:
        """The slices whose rows choose, by whose they are: an edit that was found is not proven on them."""
        used = {each.rows for each in self.asked}
        if not used & {OWN, PROTECTED}:  # edits are tried on a setup of some rows, whatever judges them
            used.add(OWN)
        known = {OWN: self.tuning, PROTECTED: self.protected}
        return {whose: plan for whose, plan in known.items() if plan is not None and whose in used}

    @property
    def choosing(self) -> tuple[CalibrationPlan | TaskPlan, ...]:
        """All that judges: an edit that was found is not proven on it."""
        return (*self.slices.values(), *([] if self.task is None else [self.task]))


def search_record(plan: SearchPlan) -> dict[str, Any]:
    """A plan as plain values; `parse_search` of it gives the same plan."""
    return {
        "start": edit_record(plan.start),
        "objectives": list(plan.objectives),
        "space": asdict(plan.space),
        "tuning": plan_record(plan.tuning),
        "protected": None if plan.protected is None else plan_record(plan.protected),
        "seed": plan.seed,
        "race": plan.race,
        **({} if plan.task is None else {"task": plan.task.values()}),
    }


def parse_search(record: Mapping[str, Any]) -> SearchPlan:
    """The plan of a record that `search_record` made; raises `ValueError` or `LookupError` for anything else."""
    if set(record) - {"task"} != _SETTINGS or type(record["seed"]) is not int or type(record["race"]) is not bool:
        raise ValueError("no record of a search")
    knobs, protected = record["space"]["knobs"], record["protected"]
    return SearchPlan(
        start=stored_edit(record["start"]),
        tuning=parse_stored_plan(CalibrationPlan, record["tuning"], "tuning"),
        objectives=tuple(map(str, record["objectives"])),
        space=SearchSpace(
            None if knobs is None else tuple(map(str, knobs)), tuple(map(str, record["space"]["parts"]))
        ),
        protected=None if protected is None else parse_stored_plan(CalibrationPlan, protected, "protected"),
        seed=record["seed"],
        race=record["race"],
        task=TaskPlan.of(record["task"]) if "task" in record else None,
    )


def read_judges(plan: SearchPlan, calibration: CalibrationPlan | None) -> dict[str, Slice]:
    """The rows of a search by whose they are; meant to be called before a model is loaded.

    calibration: what edits are made from, where that is known.

    Raises `DataError` for rows that cannot be read, are too few, or are calibration rows.
    """
    read = read_slices(plan.slices.values()).seen
    measured = [] if calibration is None else calibration_rows(calibration)
    for whose, each in plan.slices.items():
        if shared := shared_keys(read[each].rows, measured):
            raise DataError(
                f"{len(shared)} of the {whose} rows that judge edits were used for calibration",
                "name other rows",
            )
    return {whose: read[each] for whose, each in plan.slices.items()}


def seen_by_name(calibration: CalibrationPlan | None) -> dict[str, list[Row]]:
    """The rows that edits are made from, for the documents of a task to be compared with."""
    return {} if calibration is None else {calibration.data: calibration_rows(calibration)}


def settings(plan: SearchPlan, edit: EditPlan | None) -> dict[str, Any]:
    """The knobs of a trial's policy, and what else the search varies of an edit; nothing without an edit."""
    if edit is None:
        return {}
    parts = {name: getattr(edit, name) for name in plan.space.parts if name not in GROUPS}
    groups = {"groups": groups_text(edit.groups) or "none"} if set(GROUPS) & set(plan.space.parts) else {}
    return {**edit_record(edit)["knobs"], **parts, **groups}
