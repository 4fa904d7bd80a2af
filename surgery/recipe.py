"""Recipes: everything needed to redo an edit, as a YAML file a person can read.

`run` redoes one: calibrate, edit, evaluate, export. The Export page writes the same file, so the
command line gives the same folder.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from surgery.base import DEMO_BASE, DTYPES
from surgery.calibration import PLAIN_FIELDS, TEMPLATES, Encoding, RowFields
from surgery.demo import demo_slice
from surgery.edit import Edit, Manual, check_rules, make_edit
from surgery.errors import DataError, RecipeError
from surgery.home import read_limited, user_path
from surgery.plain_yaml import LONGEST, parse_yaml
from surgery.policy import GradDirection, Policy, knob_values, make_policy
from surgery.scope import SCOPES, check_scope
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectra

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Plan = TypeVar("Plan", bound="DataclassInstance")
SCHEMA = 1
_LARGEST = 2**63
_FROM_ONE = ("examples", "batch_size", "max_length", "limit")


@dataclass(frozen=True)
class BaseChoice:
    """Which base model, and how it is held."""

    location: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class CalibrationPlan:
    """Which rows are measured and how: a seeded shuffle of `data`, `examples` rows from `start`.

    `data` is a file, a demo's slice or a dataset of the hub, as `sources.read_source` takes it; `prompt_field`
    and `answer_field` are as in `RowFields`. `checkpointing` recomputes activations in the backward pass, for
    contexts that do not fit.
    """

    data: str
    examples: int = 128
    seed: int = 0
    start: int = 0
    batch_size: int = 8
    encoding: Encoding = Encoding()
    checkpointing: bool = False
    prompt_field: str = PLAIN_FIELDS.prompt
    answer_field: str = PLAIN_FIELDS.answer

    @property
    def fields(self) -> RowFields:
        """Where the records of `data` have prompt and answer; raises `DataError` for a broken template."""
        return RowFields(self.prompt_field, self.answer_field)


@dataclass(frozen=True)
class EditPlan:
    """What is done to the singular values: a policy, where it acts, what follows it, gains by hand."""

    policy: Policy = field(default_factory=GradDirection)
    scope: str = "residual"
    energy: str = "l1"
    sigma_min: float = 0.0
    manual: Manual = field(default_factory=dict)

    def apply(self, spectra: Spectra, sensitivity: Sensitivity | None) -> Edit:
        """The edit of an adapter; raises `PolicyError` as `make_edit` does."""
        return make_edit(
            spectra,
            self.policy,
            sensitivity=sensitivity,
            scope=self.scope,
            energy=self.energy,
            sigma_min=self.sigma_min,
            manual=self.manual,
        )


@dataclass(frozen=True)
class EvaluationPlan:
    """Held-out rows and what stands beside the edit: `limit` rows from `start` on, in file order or shuffled by `seed`.

    `data` and its fields are as in `CalibrationPlan`.
    `random` counts random controls; `scale` adds a rescaling to the edit's norm, and `again` the unedited
    adapter once more in other batches, as the noise floor.
    """

    data: str
    limit: int | None = None
    random: int = 16
    scale: bool = True
    again: bool = True
    batch_size: int = 32
    encoding: Encoding = Encoding()
    seed: int | None = None
    start: int = 0
    prompt_field: str = PLAIN_FIELDS.prompt
    answer_field: str = PLAIN_FIELDS.answer

    @property
    def fields(self) -> RowFields:
        """Where the records of `data` have prompt and answer; raises `DataError` for a broken template."""
        return RowFields(self.prompt_field, self.answer_field)


@dataclass(frozen=True)
class Recipe:
    """A whole edit: what it starts from, how it was measured, what it does, how it is proved.

    `calibration_digest` identifies the rows that were measured, as `Sensitivity.rows`; empty before that.
    """

    adapter: str
    adapter_digest: str
    base: BaseChoice
    calibration: CalibrationPlan
    edit: EditPlan = field(default_factory=EditPlan)
    evaluation: EvaluationPlan | None = None
    tuning: CalibrationPlan | None = None
    calibration_digest: str = ""

    @property
    def seen(self) -> list[CalibrationPlan]:
        """The slices that shaped the edit; a proof may share no example with them."""
        return [self.calibration] if self.tuning is None else [self.calibration, self.tuning]


def demo_plans(source: str) -> tuple[BaseChoice, CalibrationPlan, EvaluationPlan]:
    """The base and the slices that belong to `demo:NAME`."""
    return (
        BaseChoice(DEMO_BASE),
        CalibrationPlan(demo_slice(source, "calibration")),
        EvaluationPlan(demo_slice(source, "test")),
    )


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML; `parse_recipe` of it gives the same recipe."""
    record: dict[str, Any] = {
        "recipe": SCHEMA,
        "adapter": {"source": recipe.adapter, "digest": recipe.adapter_digest},
        "base": plan_record(recipe.base),
        "calibration": plan_record(recipe.calibration),
        "edit": edit_record(recipe.edit),
    }
    if recipe.calibration_digest:
        record["calibration"]["digest"] = recipe.calibration_digest
    if recipe.tuning is not None:
        record["tuning"] = plan_record(recipe.tuning)
    if recipe.evaluation is not None:
        record["evaluation"] = plan_record(recipe.evaluation)
    text: str = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    return text


def edit_record(plan: EditPlan) -> dict[str, Any]:
    """A plan as a recipe's `edit` section; `parse_edit` of it gives the same plan."""
    return {
        "scope": plan.scope,
        "policy": plan.policy.name,
        "knobs": knob_values(plan.policy),
        "energy": plan.energy,
        "sigma_min": plan.sigma_min,
        "manual": {
            name: {k: float(gain) for k, gain in gains.items()} for name, gains in plan.manual.items() if gains
        },
    }


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
    if not isinstance(record, dict) or type(schema) is not int or schema != SCHEMA:
        raise RecipeError("this is no recipe of schema 1", f"start the file with: recipe: {SCHEMA}")
    _only(record, {"recipe", "adapter", "base", "calibration", "edit", "tuning", "evaluation"}, "the recipe")
    adapter = _section(record, "adapter", {"source": str, "digest": str})
    _only(adapter, {"source", "digest"}, "adapter")
    base = parse_plan(BaseChoice, _section(record, "base"), "base")
    if base.dtype not in DTYPES:
        raise RecipeError(f"base.dtype is {base.dtype!r}", f"use one of {', '.join(DTYPES)}")
    evaluation, tuning = record.get("evaluation"), record.get("tuning")
    calibration = dict(_section(record, "calibration"))
    rows = calibration.pop("digest", "")
    if not isinstance(rows, str):
        raise RecipeError(f"calibration.digest cannot be {rows!r}", "write a digest as text, or leave it out")
    return Recipe(
        adapter=adapter.get("source", ""),
        adapter_digest=adapter.get("digest", ""),
        base=base,
        calibration=parse_plan(CalibrationPlan, calibration, "calibration"),
        calibration_digest=rows,
        edit=parse_edit(_section(record, "edit")),
        evaluation=parse_plan(EvaluationPlan, evaluation, "evaluation") if evaluation is not None else None,
        tuning=parse_plan(CalibrationPlan, tuning, "tuning") if tuning is not None else None,
    )


def parse_edit(edit: Mapping[str, Any]) -> EditPlan:
    """An `edit` section, validated; raises `RecipeError` or `PolicyError` for the first thing wrong."""
    _only(edit, {"scope", "policy", "knobs", "energy", "sigma_min", "manual"}, "edit")
    scope, energy = edit.get("scope", "residual"), edit.get("energy", "l1")
    sigma_min = _number(edit.get("sigma_min", 0.0), "edit.sigma_min")
    if not isinstance(scope, str) or not isinstance(energy, str):
        raise RecipeError(
            f"edit.scope is {scope!r} and edit.energy is {energy!r}, and both are to be text",
            "write a name for each",
        )
    if scope not in SCOPES:
        check_scope(scope)
    check_rules(energy, sigma_min)
    return EditPlan(
        policy=make_policy(str(edit.get("policy")), _mapping(edit.get("knobs"), "edit.knobs")),
        scope=scope,
        energy=energy,
        sigma_min=sigma_min,
        manual=_manual(edit.get("manual")),
    )


def _manual(value: Any) -> Manual:
    manual: dict[str, dict[int, float]] = {}
    for name, gains in _mapping(value, "edit.manual").items():
        where = f"edit.manual.{name}"
        manual[str(name)] = {}
        for component, gain in _mapping(gains, where).items():
            if not isinstance(component, int) or isinstance(component, bool) or component < 0:
                raise RecipeError(f"{where} names component {component!r}", "count components from 0")
            number = _number(gain, where)
            if not 0 <= number < math.inf:
                raise RecipeError(f"{where} has gain {gain!r}", "use gains from 0 up")
            manual[str(name)][component] = number
    return manual


def plan_record(plan: "DataclassInstance") -> dict[str, Any]:
    """A plan as the recipe has it, with its encoding's settings beside its own; `parse_plan` reads it."""
    record = dataclasses.asdict(plan)
    encoding = record.pop("encoding", {})
    return {**record, **encoding}


def parse_plan(kind: type[Plan], record: object, where: str) -> Plan:
    """A plan of `kind` from its record; raises `RecipeError` naming the setting under `where`."""
    settings = dict(_mapping(record, where))
    if any(field.name == "encoding" for field in dataclasses.fields(kind)):
        own = [field.name for field in dataclasses.fields(Encoding) if field.name in settings]
        encoding = _built(Encoding, {name: settings.pop(name) for name in own}, where)
        plan = _built(kind, settings, where, encoding=encoding)
    else:
        plan = _built(kind, settings, where)
    if isinstance(plan, CalibrationPlan | EvaluationPlan):
        try:
            _ = plan.fields
        except DataError as error:
            raise RecipeError(f"{where}: {error.problem}", error.remedy) from error
    return plan


def _built(kind: type[Plan], settings: Mapping[str, Any], where: str, **ready: object) -> Plan:
    """A dataclass from settings, each checked against its field, and from values that are `ready`."""
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in ready}
    _only(settings, set(fields), where)
    for name, each in fields.items():
        if each.default is dataclasses.MISSING and name not in settings:
            raise RecipeError(f"{where} lacks {name!r}", f"add it under {where}")
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if not _allowed(name, value, hints[name]):
            raise RecipeError(f"{where}.{name} cannot be {value!r}", "compare the README's recipe example")
    return kind(**settings, **ready)


def _allowed(name: str, value: object, hint: Any) -> bool:
    """Whether a setting has the type of its field, a class or a union of classes, and is in range."""
    types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) not in types:
        return False
    if type(value) is int:
        return (name in _FROM_ONE) <= value < _LARGEST
    return name != "template" or value in TEMPLATES


def _section(record: Mapping[str, Any], name: str, types: Mapping[str, type] | None = None) -> Mapping[str, Any]:
    if name not in record:
        raise RecipeError(f"the recipe has no section {name!r}", "compare the README's recipe example")
    section = _mapping(record[name], name)
    for key, kind in (types or {}).items():
        if not isinstance(section.get(key), kind):
            raise RecipeError(
                f"{name}.{key} is missing or no {kind.__name__}", "compare the README's recipe example"
            )
    return section


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecipeError(f"{where} is not a list of names and values", "write one name: value on each line")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecipeError(f"{where} is {value!r}, not a number", "write a number")
    try:
        return float(value)
    except OverflowError:
        raise RecipeError(f"{where} is too large a number", "write a smaller one") from None


def _only(record: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in record:
        if key not in known:
            raise RecipeError(f"{where} has no setting {key!r}", f"use {', '.join(sorted(known))}")
