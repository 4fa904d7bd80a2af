"""Recipes: everything needed to redo an edit, as a YAML file a person can read.

`run` redoes one: calibrate, edit, evaluate, export. The Export page writes the same file, so the
command line gives the same folder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from surgery.data import (
    APART,
    CalibrationPlan,
    EvaluationPlan,
    Question,
    TaskPlan,
    parse_plan,
    parse_questions,
    parse_task,
    plan_record,
    question_record,
)
from surgery.edits import EditPlan, edit_record, parse_edit
from surgery.errors import RecipeError
from surgery.files import LONGEST, mapping_of, parse_yaml, read_limited, refuse_unknown, user_path
from surgery.model import DTYPES, BaseChoice

# 2: rows are tokenised whole, as training does it; recipes of schema 1 go on as they did
SCHEMA = 2
_SCHEMAS = (1, SCHEMA)
_SECTIONS = {
    "recipe",
    "adapter",
    "base",
    "calibration",
    "protected",
    "edit",
    "tuning",
    "evaluation",
    "guards",
    "steps",
    "then",
    "origin",
    "chosen",
}


@dataclass(frozen=True)
class Recipe:
    """A whole edit: what it starts from, how it was measured, what it does, how it is proved.

    `calibration_digest` identifies the rows that were measured, as `Sensitivity.rows`; empty before that. `steps`, where
    above 1, are the most steps that are taken of the edit, each measured where the last one ended, until the tuning
    rows say stop; `then` are edits that follow the first in the same way, where the steps differ. What they lead to is a
    recipe of gains set by hand, and `origin` tells how those came about.
    `protected` are slices that the edit is not to hurt, measured beside, and `protected_digests` those of their rows,
    none or as many. `chosen` are further slices that the edit was chosen on, such as those that judged in a search, tasks
    of lm-eval among them.
    `guards` are further questions that its evaluation puts to the same variants, which they are not to hurt.
    """

    adapter: str
    adapter_digest: str
    base: BaseChoice
    calibration: CalibrationPlan
    edit: EditPlan = field(default_factory=EditPlan)
    evaluation: EvaluationPlan | None = None
    tuning: CalibrationPlan | None = None
    calibration_digest: str = ""
    steps: int = 1
    origin: str = ""
    protected: tuple[CalibrationPlan, ...] = ()
    protected_digests: tuple[str, ...] = ()
    chosen: tuple[CalibrationPlan | TaskPlan, ...] = ()
    guards: tuple[Question, ...] = ()
    then: tuple[EditPlan, ...] = ()

    @property
    def edits(self) -> tuple[EditPlan, ...]:
        """What each of its steps is planned to do."""
        return (self.edit, *self.then) if self.then else (self.edit,) * self.steps

    @property
    def plans(self) -> list[CalibrationPlan | EvaluationPlan]:
        """The slices of all its stages."""
        guards = [guard for guard in self.guards if isinstance(guard, EvaluationPlan)]
        chosen = [each for each in self.chosen if isinstance(each, CalibrationPlan)]
        plans = [self.calibration, *self.protected, *chosen, self.evaluation, *guards, self.tuning]
        return [plan for plan in plans if plan is not None]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before the recipe is redone."""
        if any(plan.encoding.tokenised == APART for plan in self.plans):
            return (
                "this recipe tokenises prompt and answer apart, as versions before 2 did; "
                "with tokenised: together its rows have the ids that training sees",
            )
        return ()

    @property
    def seen(self) -> list[CalibrationPlan]:
        """The slices that shaped the edit; a proof may share no example with them."""
        tuning = [] if self.tuning is None else [self.tuning]
        chosen = [each for each in self.chosen if isinstance(each, CalibrationPlan)]
        return [self.calibration, *tuning, *self.protected, *chosen]

    @property
    def seen_tasks(self) -> tuple[TaskPlan, ...]:
        """The tasks that shaped the edit; a proof may share no document with them."""
        return tuple(each for each in self.chosen if isinstance(each, TaskPlan))


def in_one_step(recipe: Recipe) -> Recipe:
    """The recipe, whose edit is made from one measurement; raises `RecipeError` for one that takes several steps."""
    if len(recipe.edits) > 1:
        raise RecipeError(
            f"this recipe takes up to {len(recipe.edits)} steps with a measurement before each",
            "run it (surgery run RECIPE) and use the recipe.yaml in the folder that it writes",
        )
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML; `parse_recipe` of it gives the same recipe."""
    # the rule of the first schema is said by its number
    apart = all("tokenised" not in plan_record(plan) for plan in recipe.plans)
    record_of = plan_record if apart else _explicit
    record: dict[str, Any] = {
        "recipe": 1 if apart else SCHEMA,
        "adapter": {"source": recipe.adapter, "digest": recipe.adapter_digest},
        "base": plan_record(recipe.base),
        "calibration": record_of(recipe.calibration),
        "edit": edit_record(recipe.edit),
    }
    if recipe.steps > 1:
        record["steps"] = recipe.steps
    if recipe.then:
        record["then"] = [edit_record(plan) for plan in recipe.then]
    if recipe.origin:
        record["origin"] = recipe.origin
    if recipe.calibration_digest:
        record["calibration"]["digest"] = recipe.calibration_digest
    if recipe.protected:
        digests = recipe.protected_digests or ("",) * len(recipe.protected)
        record["protected"] = [
            {**record_of(plan), **({"digest": rows} if rows else {})}
            for plan, rows in zip(recipe.protected, digests, strict=True)
        ]
    if recipe.tuning is not None:
        record["tuning"] = record_of(recipe.tuning)
    if recipe.chosen:
        record["chosen"] = [
            question_record(each) if isinstance(each, TaskPlan) else record_of(each) for each in recipe.chosen
        ]
    if recipe.evaluation is not None:
        record["evaluation"] = record_of(recipe.evaluation)
    if recipe.guards:
        record["guards"] = [_guard_record(guard, apart) for guard in recipe.guards]
    text: str = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    return text


def _guard_record(guard: Question, apart: bool) -> dict[str, Any]:
    record = question_record(guard)
    return record if apart or not isinstance(guard, EvaluationPlan) else {**record, **asdict(guard.encoding)}


def _explicit(plan: CalibrationPlan | EvaluationPlan) -> dict[str, Any]:
    return {**plan_record(plan), **asdict(plan.encoding)}


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe file; raises `RecipeError` naming the first thing wrong with it."""
    file = user_path(path, RecipeError)
    try:
        text = read_limited(file, 4 * LONGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"no readable recipe at {str(path)!r}", "name a recipe.yaml") from error
    return parse_recipe(text)


def parse_recipe(text: str) -> Recipe:
    """Validate YAML text against the schema; see `read_recipe`."""
    record = parse_yaml(text, "the recipe")
    schema = record.get("recipe") if isinstance(record, dict) else None
    if not isinstance(record, dict) or type(schema) is not int or schema not in _SCHEMAS:
        raise RecipeError("this is no recipe of schema 1 or 2", f"start the file with: recipe: {SCHEMA}")
    earlier = schema < SCHEMA
    refuse_unknown(record, _SECTIONS, "the recipe")
    adapter = _section(record, "adapter", {"source": str, "digest": str})
    refuse_unknown(adapter, {"source", "digest"}, "adapter")
    base = parse_plan(BaseChoice, _section(record, "base"), "base")
    if base.dtype not in DTYPES:
        raise RecipeError(f"base.dtype is {base.dtype!r}", f"use one of {', '.join(DTYPES)}")
    evaluation, tuning = record.get("evaluation"), record.get("tuning")
    steps, then, origin = _steps(record)
    calibration, rows = _measured(_section(record, "calibration"), "calibration", earlier)
    protected = _listed(record, "protected", earlier)
    return Recipe(
        adapter=adapter.get("source", ""),
        adapter_digest=adapter.get("digest", ""),
        base=base,
        calibration=calibration,
        calibration_digest=rows,
        edit=parse_edit(_section(record, "edit")),
        evaluation=None
        if evaluation is None
        else parse_plan(EvaluationPlan, evaluation, "evaluation", earlier=earlier),
        tuning=None if tuning is None else parse_plan(CalibrationPlan, tuning, "tuning", earlier=earlier),
        steps=steps,
        then=then,
        origin=origin,
        protected=tuple(plan for plan, _ in protected),
        protected_digests=tuple(found for _, found in protected) if any(found for _, found in protected) else (),
        chosen=_chosen(record, earlier),
        guards=_guards(record, earlier),
    )


def _steps(record: Mapping[str, Any]) -> tuple[int, tuple[EditPlan, ...], str]:
    """The most steps, the edits that follow the first, and where gains set by hand came from."""
    steps, then, origin = record.get("steps", 1), record.get("then", []), record.get("origin", "")
    if type(steps) is not int or steps < 1 or not isinstance(origin, str):
        raise RecipeError(
            f"steps is {steps!r} and origin is {origin!r}", "write a whole number from 1 up, and a text"
        )
    if not isinstance(then, list):
        raise RecipeError(f"then is no list but {then!r}", "write a list of edits, each as edit is")
    if then and steps > 1:
        raise RecipeError(
            f"{steps} steps of one edit and a list of others are asked for", "keep one of steps and then"
        )
    several = len(then) + steps
    if several > 1 and record.get("tuning") is None:
        raise RecipeError(
            f"{several} steps are asked for and the recipe has no section 'tuning'",
            "name tuning rows, which decide when to stop, or remove steps",
        )
    follow = tuple(parse_edit(mapping_of(each, f"then[{i}]")) for i, each in enumerate(then))
    return steps, follow, origin


def _measured(section: Mapping[str, Any], where: str, earlier: bool) -> tuple[CalibrationPlan, str]:
    """A slice that is measured, and the digest of its rows where it has one."""
    settings = dict(section)
    rows = settings.pop("digest", "")
    if not isinstance(rows, str):
        raise RecipeError(f"{where}.digest cannot be {rows!r}", "write a digest as text, or leave it out")
    return parse_plan(CalibrationPlan, settings, where, earlier=earlier), rows


def _chosen(record: Mapping[str, Any], earlier: bool) -> tuple[CalibrationPlan | TaskPlan, ...]:
    """What an edit was chosen on: slices, and tasks of lm-eval."""
    value = record.get("chosen", [])
    if not isinstance(value, list):
        raise RecipeError(f"chosen is no list but {value!r}", "write a list of slices, each as calibration is")
    return tuple(_chosen_one(each, f"chosen[{i}]", earlier) for i, each in enumerate(value))


def _chosen_one(value: Any, where: str, earlier: bool) -> CalibrationPlan | TaskPlan:
    if isinstance(value, dict) and "task" in value:
        return parse_task(value, where)
    return _measured(mapping_of(value, where), where, earlier)[0]


def _guards(record: Mapping[str, Any], earlier: bool) -> tuple[Question, ...]:
    guards = parse_questions(record.get("guards", []), "guards", earlier=earlier)
    if guards and record.get("evaluation") is None:
        raise RecipeError(
            "the recipe has guards and no evaluation that they stand beside",
            "add a section evaluation, or remove guards",
        )
    return guards


def _listed(record: Mapping[str, Any], name: str, earlier: bool) -> list[tuple[CalibrationPlan, str]]:
    """The slices of a section that lists several, each with the digest of its rows where it has one."""
    value = record.get(name, [])
    if not isinstance(value, list):
        raise RecipeError(f"{name} is no list but {value!r}", "write a list of slices, each as calibration is")
    return [_measured(mapping_of(each, f"{name}[{i}]"), f"{name}[{i}]", earlier) for i, each in enumerate(value)]


def _section(record: Mapping[str, Any], name: str, types: Mapping[str, type] | None = None) -> Mapping[str, Any]:
    if name not in record:
        raise RecipeError(f"the recipe has no section {name!r}", "compare the README's recipe example")
    section = mapping_of(record[name], name)
    for key, kind in (types or {}).items():
        if not isinstance(section.get(key), kind):
            raise RecipeError(
                f"{name}.{key} is missing or no {kind.__name__}", "compare the README's recipe example"
            )
    return section
