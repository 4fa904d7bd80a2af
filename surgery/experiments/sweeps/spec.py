"""A sweep as a YAML file: adapters × tasks × edits, as the paper's Tables 2 to 5 vary them (§5.2 to §5.4).

Every list under `edits` is an axis; each entry there is one grid, or a recipe file, and the sweep is their union. What a
value may be is what a recipe allows for the same setting. An entry under `adapters` is one adapter, or all below a
folder: `set: FOLDER`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surgery.data import (
    ALLOW,
    REFUSE,
    CalibrationPlan,
    EvaluationPlan,
    Question,
    TaskPlan,
    TextPlan,
    parse_plan,
    parse_questions,
)
from surgery.errors import DataError, SweepError
from surgery.evaluation.lm_eval import has_several_tasks
from surgery.experiments.sweeps.grids import LOOK, MOST_CELLS, list_of, swept_edits, whole_number
from surgery.experiments.sweeps.resources import Resources, parse_resources
from surgery.experiments.sweeps.swept_edit import SweptEdit, printable
from surgery.files import (
    LONGEST,
    demo_slice,
    is_demo,
    load_yaml,
    mapping_of,
    read_limited,
    refuse_unknown,
    user_path,
)
from surgery.model import BaseChoice
from surgery.recipes import demo_plans
from surgery.spectra import adapter_folders

SCHEMA = 1
_OF_TASKS = ("run_programs", "batch_size", "task", "near_duplicates", "base_arm")


@dataclass(frozen=True)
class SweptAdapter:
    """An adapter under the name that tables give it. `calibration` is its largest budget at seed 0.

    Without `calibration` each recipe is measured on its own slice. `guards` are put to all its variants beside each of
    its tasks. `of_set` tells one that was found below a folder.
    """

    name: str
    source: str
    base: BaseChoice
    calibration: CalibrationPlan | None
    tasks: tuple[str, ...]
    guards: tuple[Question, ...] = ()
    of_set: bool = False


@dataclass(frozen=True)
class Refused:
    """A member of a set that takes no part, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SweptTask:
    """Held-out rows, a task of lm-eval, or plain text.

    `batch_size` bounds the requests of a task's batch, and `allow_near` lets its documents be near-duplicates of rows
    that an edit was made on; rows say both in their plan. `base_arm` asks the base model without the adapter, too.
    """

    name: str
    question: Question
    run_programs: bool = False
    batch_size: int | None = None
    allow_near: bool = False
    base_arm: bool = False

    @property
    def limit(self) -> int | None:
        """How many examples are asked; None where the task alone knows, as a group does, which has so many of each."""
        if isinstance(self.question, TaskPlan) and has_several_tasks(self.question):
            return None
        return self.question.limit


@dataclass(frozen=True)
class Sweep:
    """A whole sweep. `variants_at_once` bounds one pass, `attempts` how often a piece of work is tried.

    `refused` are members of sets that take no part, `name` is what lists call it.
    """

    adapters: tuple[SweptAdapter, ...]
    tasks: tuple[SweptTask, ...]
    edits: tuple[SweptEdit, ...]
    variants_at_once: int = 12
    attempts: int = 3
    resources: Resources = Resources()
    refused: tuple[Refused, ...] = ()
    name: str = ""


def read_sweep(path: Path | str, *, limit: int | None = None, examples: int | None = None) -> Sweep:
    """Read a sweep file; raises `SweepError` or another `SurgeryError` for the first thing wrong with it.

    `limit` replaces the number of held-out examples of every task, and no calibration budget is larger than
    `examples`.
    """
    file = user_path(path, SweepError)
    try:
        text = read_limited(file, 4 * LONGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"no readable sweep at {str(path)!r}", "name a sweep.yaml") from error
    return parse_sweep(text, limit=limit, examples=examples, name=file.name.removesuffix(file.suffix))


def parse_sweep(text: str, *, limit: int | None = None, examples: int | None = None, name: str = "") -> Sweep:
    """Validate YAML text against the schema; see `read_sweep`."""
    try:
        record = load_yaml(text)
    except ValueError as error:
        raise SweepError(f"the sweep is not YAML ({error})", "mend the file") from error
    schema = record.get("sweep") if isinstance(record, dict) else None
    if type(schema) is not int or schema != SCHEMA:
        raise SweepError("this is no sweep of schema 1", f"start the file with: sweep: {SCHEMA}")
    known = {"sweep", "base", "calibration", "adapters", "tasks", "edits", "guards"}
    settings = {"variants_at_once", "attempts", "resources"}
    refuse_unknown(record, known | settings, "the sweep", SweepError)
    tasks = tuple(_task(name, entry, limit) for name, entry in _named(record, "tasks").items())
    edits = swept_edits(record.get("edits"), examples)
    names = tuple(task.name for task in tasks)
    adapters = tuple(
        replace(_adapter(name, entry, record, names, edits), of_set=of_set)
        for place, given in _named(record, "adapters").items()
        for name, entry, of_set in _members(place, given)
    )
    found = [adapter.name for adapter in adapters]
    if twice := next((each for each in found if found.count(each) > 1), None):
        raise SweepError(f"two adapters are called {twice!r}", "rename an entry under adapters")
    sweep = Sweep(
        adapters,
        tasks,
        edits,
        whole_number(record.get("variants_at_once", Sweep.variants_at_once), "variants_at_once", 1),
        whole_number(record.get("attempts", Sweep.attempts), "attempts", 1),
        parse_resources(record.get("resources")),
        name=name,
    )
    cells = len(edits) * sum(len(adapter.tasks) for adapter in adapters)
    if cells > MOST_CELLS:
        raise SweepError(f"these lists make {cells:,} cells", f"shorten them to {MOST_CELLS:,} or split the sweep")
    return sweep


def _members(name: str, entry: Any) -> Iterator[tuple[str, Any, bool]]:
    """An entry by its name, or one for each adapter at or below its folder, named by its path there; and which it is."""
    if not isinstance(entry, dict) or "set" not in entry:
        yield name, entry, False
        return
    where, folder = f"adapters.{name}", entry["set"]
    if "source" in entry or not isinstance(folder, str) or not folder:
        raise SweepError(f"{where} names no folder alone", "write set: and the folder above the adapters")
    shared = {key: value for key, value in entry.items() if key != "set"}
    for path, found in adapter_folders(folder).items():
        member = f"{name}/{printable(path)}" if path != "." else name
        yield member, {**shared, "source": str(found)}, True


def _adapter(
    name: str, entry: Any, record: Mapping[str, Any], tasks: tuple[str, ...], edits: Sequence[SweptEdit]
) -> SweptAdapter:
    where = f"adapters.{name}"
    entry = {"source": entry} if isinstance(entry, str) else mapping_of(entry, where, SweepError)
    refuse_unknown(entry, {"source", "base", "calibration", "tasks", "guards"}, where, SweepError)
    source = entry.get("source")
    if not isinstance(source, str) or not source:
        raise SweepError(f"{where} has no source", "write source: and a folder, or demo:NAME")
    asked = tuple(list_of(entry, "tasks", where, str, tasks))
    for task in asked:
        if task not in tasks:
            raise SweepError(f"{where} asks for the task {task!r}", f"use {', '.join(tasks)}")
    plan = _calibration(source, entry, record, edits, where)
    chosen = _base(source, entry, record, edits, where)
    guards = parse_questions(entry.get("guards", record.get("guards", [])), f"{where}.guards")
    return SweptAdapter(name, source, chosen, plan, tuple(dict.fromkeys(asked)), guards)


def _calibration(
    source: str, entry: Mapping[str, Any], record: Mapping[str, Any], edits: Sequence[SweptEdit], where: str
) -> CalibrationPlan | None:
    """The slice of an adapter: its own, the sweep's, a demo's; None where recipes alone bring theirs."""
    own = mapping_of(entry.get("calibration"), f"{where}.calibration", SweepError)
    calibration = {**mapping_of(record.get("calibration"), "calibration", SweepError), **own}
    for axis, instead in (("examples", "budgets"), ("seed", "seeds")):
        if axis in calibration:
            raise SweepError(f"the calibration of {where} sets {axis!r}", f"list {instead} under edits")
    if is_demo(source):
        calibration = {"data": demo_slice(source, "calibration"), "separator": True, **calibration}
    if not calibration and all(edit.calibration is not None for edit in edits):
        return None
    plan = parse_plan(CalibrationPlan, calibration, f"{where}.calibration")
    return replace(plan, examples=max(edit.budget for edit in edits))


def _base(
    source: str, entry: Mapping[str, Any], record: Mapping[str, Any], edits: Sequence[SweptEdit], where: str
) -> BaseChoice:
    """The base of an adapter: its own, the sweep's, a demo's, or the one that all recipes name."""
    base = entry.get("base", record.get("base"))
    if base is None and is_demo(source):
        base = {"location": demo_plans(source)[0].location}
    if base is not None:
        return parse_plan(BaseChoice, base, f"{where}.base")
    named = list(dict.fromkeys(edit.base for edit in edits if edit.base is not None))
    if len(named) == 1:
        return named[0]
    problem = f"{where} has no base model" + (f", and the recipes name {len(named)}" if named else "")
    raise SweepError(problem, "write base: {location: …} there or for the whole sweep")


def _task(name: str, entry: Any, limit: int | None) -> SweptTask:
    where = f"tasks.{name}"
    entry = mapping_of(entry, where, SweepError)
    if "data" in entry:
        for setting in ("random", "scale", "again"):
            if setting in entry:
                raise SweepError(f"{where} sets {setting!r}", "list the controls as policies under edits")
        # a demo's rows are tokenised as it was trained
        entry = {"separator": True, **entry} if is_demo(str(entry["data"])) else entry
        plan = replace(parse_plan(EvaluationPlan, entry, where), random=0, scale=False, again=False)
        return SweptTask(name, replace(plan, limit=limit or plan.limit), base_arm=plan.base_arm)
    if "text" in entry:
        base_arm = _switch(entry, "base_arm", where)
        text = parse_plan(TextPlan, {name: each for name, each in entry.items() if name != "base_arm"}, where)
        return SweptTask(name, replace(text, limit=limit or text.limit), base_arm=base_arm)
    own = {key: value for key, value in entry.items() if key not in _OF_TASKS}
    if "name" in own or not isinstance(entry.get("task"), str):
        raise SweepError(
            f"{where} names neither rows nor a task nor a text",
            "write data: FILE, task: and lm-eval's name, or text: FILE",
        )
    try:
        asked = TaskPlan.of({"name": entry["task"], **own})
    except DataError as error:
        raise SweepError(f"{where}: {error.problem}", error.remedy) from error
    programs, base_arm = (_switch(entry, name, where) for name in ("run_programs", "base_arm"))
    size = whole_number(entry["batch_size"], f"{where}.batch_size", 1) if "batch_size" in entry else None
    near = entry.get("near_duplicates", REFUSE)
    if near not in (REFUSE, ALLOW):
        raise SweepError(f"{where}.near_duplicates cannot be {near!r}", f"write {REFUSE} or {ALLOW}")
    return SweptTask(name, replace(asked, limit=limit or asked.limit), programs, size, near == ALLOW, base_arm)


def _switch(entry: Mapping[str, Any], name: str, where: str) -> bool:
    value = entry.get(name, False)
    if type(value) is not bool:
        raise SweepError(f"{where}.{name} cannot be {value!r}", "write true or false")
    return value


def _named(record: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """A section of entries by name; the names head the rows of tables."""
    entries = mapping_of(record.get(section), section, SweepError)
    for name in entries:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise SweepError(f"{section} holds the name {name!r}", "use a word")
    if not entries:
        raise SweepError(f"the sweep has no {section}", LOOK)
    return entries
