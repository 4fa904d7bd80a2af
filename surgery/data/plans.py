"""Plans of slices, calibration and evaluation, and the rows that they choose."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from surgery.data.answer_filters import AnswerFilters
from surgery.data.conversations import LAST, TURNS
from surgery.data.encoding import (
    APART,
    TEMPLATES,
    TOGETHER,
    TOKENIZERS,
    Encoding,
    earlier_encoding,
    encoding_record,
)
from surgery.data.formats import AUTO, FORMATS, PLAIN_FIELDS, RowFields
from surgery.data.margins import Margins, margins_from
from surgery.data.rendering import TEMPLATE_FILE, parse_date, template_arguments
from surgery.data.rows import Row, choose, left_out_text
from surgery.data.source import SourceRows, read_source
from surgery.errors import DataError, RecipeError
from surgery.files import digest, mapping_of, refuse_unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


Plan = TypeVar("Plan", bound="DataclassInstance")
# the settings of the first recipes' plans and bases
_FIRST = frozenset(
    [
        "data",
        "examples",
        "seed",
        "start",
        "batch_size",
        "checkpointing",
        "prompt_field",
        "answer_field",
        "encoding",
        "limit",
        "random",
        "scale",
        "again",
        "location",
        "revision",
        "device",
        "dtype",
    ]
)
_LARGEST = 2**63
REFUSE, ALLOW = "refuse", "allow"
GIVEN, SAMPLED = "given", "sampled"
_CHOICES: Mapping[str, Collection[str]] = {
    "template": TEMPLATES,
    "tokenised": (TOGETHER, APART),
    "tokenizer": TOKENIZERS,
    "format": FORMATS,
    "turns": TURNS,
    "near_duplicates": (REFUSE, ALLOW),
    "labels": (GIVEN, SAMPLED),
}
_FROM_ONE = ("examples", "batch_size", "max_length", "limit")


@dataclass(frozen=True)
class CalibrationPlan:
    """Which rows are measured and how: a seeded shuffle of `data`, `examples` rows from `start`.

    `data` is a file, a folder, a demo's slice or a dataset of the hub, as `read_source` takes it; `prompt_field`,
    `answer_field`, `format` and `turns` are as in `RowFields`. `checkpointing` recomputes activations in the
    backward pass, for contexts that do not fit. `labels` are `given` by the rows or `sampled` by the model itself, with
    `seed`: such a slice tells how outputs move and needs no right answers, so that it can be protected. `base_inputs`
    asks for the second moments of what enters the modules of the base alone, at σ = 0, in place of the adapter's.
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
    format: str = AUTO
    turns: str = LAST
    labels: str = GIVEN
    base_inputs: bool = False

    @property
    def fields(self) -> RowFields:
        """How the records of `data` become rows; raises `DataError` for a broken template."""
        return RowFields(self.prompt_field, self.answer_field, self.format, self.turns)


@dataclass(frozen=True)
class EvaluationPlan:
    """Held-out rows and what stands beside the edit: `limit` rows from `start` on, in file order or shuffled by `seed`.

    `data` and its fields are as in `CalibrationPlan`. Rows that cannot be asked refuse the plan unless `leave_out`
    is set. `random` counts random controls; `scale` adds a rescaling to the edit's functional energy,
    `scale_or_shape` all controls that tell scale from shape, `again` the unedited adapter once more in other
    batches, as the noise floor, and `base_arm` the base model without the adapter. `generate` asks for greedy answers,
    without which there is the loss alone; they end at a text of `stop`, and are right where `filters`, as
    `AnswerFilters` takes them, leave of them what they leave of the reference. `near_duplicates` says whether rows may be nearly the same as
    those that the edit was made on: `refuse` or `allow`. `margin` names how much worse an edit may be and still count as
    not inferior, as `margins_from` reads it; nothing where it is empty. `divergence` asks for the KL of the answers'
    tokens from the unedited adapter and from the base in place of answers.
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
    format: str = AUTO
    turns: str = LAST
    leave_out: bool = False
    generate: bool = True
    filters: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    near_duplicates: str = REFUSE
    scale_or_shape: bool = False
    margin: tuple[str, ...] = ()
    base_arm: bool = False
    divergence: bool = False

    @property
    def fields(self) -> RowFields:
        """How the records of `data` become rows; raises `DataError` for a broken template."""
        return RowFields(self.prompt_field, self.answer_field, self.format, self.turns)

    @property
    def margins(self) -> Margins | None:
        """The margins that are named; raises `DataError` for a text that names none."""
        return margins_from(self.margin)


def plan_record(plan: "DataclassInstance") -> dict[str, Any]:
    """A plan as the recipe has it, with its encoding's settings beside its own; `parse_plan` reads it.

    What the first recipes had is always written; settings that came later are where they are not the default, so that
    the digest of an edit stays.
    """
    record = dataclasses.asdict(plan)
    for field in dataclasses.fields(plan):
        if field.name not in _FIRST and record[field.name] == field.default:
            del record[field.name]
        elif isinstance(record[field.name], tuple):
            record[field.name] = list(record[field.name])
    encoding = record.pop("encoding", None)
    return record if encoding is None else {**record, **encoding_record(Encoding(**encoding))}


def parse_plan(kind: type[Plan], record: object, where: str, *, earlier: bool = False) -> Plan:
    """A plan of `kind` from its record; raises `RecipeError` naming the setting under `where`.

    `earlier` says that a version wrote the record which tokenised prompt and answer apart.
    """
    settings = dict(mapping_of(record, where))
    if any(field.name == "encoding" for field in dataclasses.fields(kind)):
        own = [field.name for field in dataclasses.fields(Encoding) if field.name in settings]
        encoding = _encoding({name: settings.pop(name) for name in own}, where, earlier)
        plan = _built(kind, settings, where, encoding=encoding)
    else:
        plan = _built(kind, settings, where)
    if isinstance(plan, CalibrationPlan | EvaluationPlan):
        try:
            _ = plan.fields
            if isinstance(plan, EvaluationPlan):
                AnswerFilters(plan.filters)
                _ = plan.margins
        except DataError as error:
            raise RecipeError(f"{where}: {error.problem}", error.remedy) from error
    return plan


def parse_stored_plan(kind: type[Plan], record: Any, where: str) -> Plan:
    """A plan from a record that `plan_record` wrote, in this version or an earlier one, told by what it lacks.

    Raises `RecipeError` as `parse_plan` does.
    """
    return parse_plan(kind, record, where, earlier="tokenised" not in mapping_of(record, where))


def _encoding(settings: Mapping[str, Any], where: str, earlier: bool) -> Encoding:
    encoding = _built(Encoding, earlier_encoding(settings) if earlier else settings, where)
    try:
        parse_date(encoding.date)
        template_arguments(encoding.template_args)
    except DataError as error:
        raise RecipeError(f"{where}: {error.problem}", error.remedy) from error
    return encoding


def _built(kind: type[Plan], settings: Mapping[str, Any], where: str, **ready: object) -> Plan:
    """A dataclass from settings, each checked against its field, and from values that are `ready`."""
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in ready}
    refuse_unknown(settings, set(fields), where)
    for name, each in fields.items():
        if each.default is dataclasses.MISSING and name not in settings:
            raise RecipeError(f"{where} lacks {name!r}", f"add it under {where}")
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if not _allowed(name, value, hints[name]):
            raise RecipeError(f"{where}.{name} cannot be {value!r}", "compare the README's recipe example")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return kind(**values, **ready)


def _allowed(name: str, value: object, hint: Any) -> bool:
    """Whether a setting has the type of its field, a class or a union of classes, and is in range."""
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
    types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) not in types:
        return False
    if type(value) is int:
        return (name in _FROM_ONE) <= value < _LARGEST
    if name == "template" and str(value).endswith(TEMPLATE_FILE):
        return True
    return name not in _CHOICES or value in _CHOICES[name]


@dataclass(frozen=True)
class Slice:
    """The rows of a calibration plan, and how many records its source left out by reason.

    `spare` are the rows that follow in the order of the shuffle. `format` tells in words what the records are, and
    `problem` what the first of those left out lacks.
    """

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]
    spare: tuple[Row, ...] = ()
    format: str = ""
    problem: str = ""

    def first(self, count: int) -> tuple[Row, ...]:
        """All rows and, where `count` is more, as many spare ones: what was seen where so many rows were tried."""
        return (*self.rows, *self.spare[: max(0, count - len(self.rows))])


def calibration_rows(plan: CalibrationPlan) -> list[Row]:
    """The rows of a calibration plan."""
    return list(planned_rows(plan).rows)


def rows_digest(rows: Iterable[Row]) -> str:
    """Identity of a slice by its text, whatever file it came from."""
    return digest(row.key for row in rows)


def planned_rows(plan: CalibrationPlan, source_rows: SourceRows | None = None) -> Slice:
    """The rows of a calibration plan; its source is read unless what it gives is given.

    Raises `DataError` for a source without rows, and for a slice that asks for more than there are.
    """
    source_rows = source_rows or read_source(plan.data, plan.fields)
    try:
        rows = choose(source_rows.rows, plan.examples, seed=plan.seed, start=plan.start)
    except DataError as error:
        if not source_rows.left_out:
            raise
        raise DataError(
            f"{error.problem} ({left_out_text(source_rows.left_out)}; {source_rows.problem})", error.remedy
        ) from error
    spare = choose(source_rows.rows, None, seed=plan.seed, start=plan.start)[len(rows) :]
    described = source_rows.fields.described
    return Slice(tuple(rows), source_rows.left_out, tuple(spare), described, source_rows.problem)
