"""The slices of an edit, read once: the rows that it was measured and chosen on, and those that prove it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from surgery.data.answer_filters import AnswerFilters
from surgery.data.formats import RowFields
from surgery.data.near_duplicates import NearDuplicate, NearDuplicatesError, near_duplicates
from surgery.data.plans import ALLOW, CalibrationPlan, EvaluationPlan, Slice, planned_rows, rows_digest
from surgery.data.rows import Row, choose, left_out_text, shared_keys
from surgery.data.source import SourceRows, read_source, source_files
from surgery.errors import DataError

# what a person does about rows that a proof cannot ask
LEAVE_OUT = "leave them out and count them: --leave-out, leave_out in a recipe, or that tick on the Evaluate page"


@dataclass(frozen=True)
class Slices:
    """`seen` are the rows of every slice that shaped the edit, by plan; `held_out` shares no example with them.

    `held_out` is empty where the edit is proven on a task, or not at all; of its source, `left_out` counts the
    records that gave no row by reason, and `format` tells in words what they are. `near` are the
    near-duplicates among its rows that the plan allows.
    """

    seen: Mapping[CalibrationPlan, Slice]
    held_out: tuple[Row, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    format: str = ""
    near: tuple[NearDuplicate, ...] = ()


def read_slices(seen: Iterable[CalibrationPlan], held_out: EvaluationPlan | None = None) -> Slices:
    """All rows of an edit and its proof, each source read once; meant to be called before a model is loaded.

    The spare rows of a slice are no rows of another slice, nor held out.

    Raises `DataError` for rows that cannot be read or are too few, for a held-out source that leaves rows out
    without being asked to, for filters that find nothing in them, and for held-out rows of which a slice of `seen`
    has one too; `NearDuplicatesError` for rows that are nearly the same, unless the plan allows them.
    """

    @cache
    def source(data: str, fields: RowFields) -> SourceRows:
        return read_source(data, fields)

    slices = {plan: planned_rows(plan, source(plan.data, plan.fields)) for plan in seen}
    if held_out is None:
        return Slices(_apart(slices))
    found = source(held_out.data, held_out.fields)
    if found.left_out and not held_out.leave_out:
        raise DataError(f"{left_out_text(found.left_out)} ({found.problem})", f"mend the rows, or {LEAVE_OUT}")
    rows = choose(found.rows, held_out.limit, seed=held_out.seed, start=held_out.start)
    for slice_ in slices.values():
        if shared := shared_keys(rows, slice_.rows):
            raise DataError(
                f"{len(shared)} of {len(rows)} evaluation rows were used for calibration or tuning",
                "evaluate on rows that the edit has not seen",
            )
    _refuse_filters(held_out, rows)
    near = [pair for plan, slice_ in slices.items() for pair in near_duplicates(rows, slice_.rows, plan.data)]
    if near and held_out.near_duplicates != ALLOW:
        raise NearDuplicatesError(near, len(rows))
    return Slices(_apart(slices, rows), tuple(rows), found.left_out, found.fields.described, tuple(near))


def _refuse_filters(plan: EvaluationPlan, rows: list[Row]) -> None:
    """Raise `DataError` for filters that find nothing in any reference: they are not made for these rows."""
    filters = AnswerFilters(plan.filters)
    if plan.generate and all(filters(row.answer) is None for row in rows):
        raise DataError(
            f"the filters {', '.join(map(repr, plan.filters))} find nothing in any of {len(rows)} references, "
            f"such as {rows[0].answer[:80]!r}",
            "use filters that fit these rows",
        )


def _apart(slices: Mapping[CalibrationPlan, Slice], held_out: Sequence[Row] = ()) -> dict[CalibrationPlan, Slice]:
    """The slices, of whose spare rows none belongs to another slice or to the held-out rows."""
    taken = {plan: {row.key for row in slice_.rows} for plan, slice_ in slices.items()}
    proof = {row.key for row in held_out}
    apart = {}
    for plan, slice_ in slices.items():
        others = proof.union(*(keys for other, keys in taken.items() if other != plan))
        spare = tuple(row for row in slice_.spare if row.key not in others) if others else slice_.spare
        apart[plan] = replace(slice_, spare=spare)
    return apart


def refuse_changed_rows(plan: CalibrationPlan, measured: str) -> None:
    """Raise `DataError` where the source of a plan gives other rows than the `measured` ones, a digest of theirs.

    A source that is gone, or was never on this machine, contradicts nothing.
    """
    try:
        files = source_files(plan.data, download=False)
    except DataError:
        return
    if not all(file.exists() for file in files):
        return
    try:
        now = rows_digest(planned_rows(plan).rows)
    except DataError as error:
        now = error.problem
    if now != measured:
        raise DataError(
            f"the rows of {plan.data!r} have changed since they were measured",
            "measure again, or restore the file; nothing was written",
        )
