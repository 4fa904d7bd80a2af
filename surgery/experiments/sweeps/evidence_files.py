"""Methods against adapters as Markdown for a person and as CSV for a program."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from surgery.evaluation import Effect, Metric, OverAdapters
from surgery.experiments.sweeps.evidence import Evidence, MethodEvidence, OnAdapter
from surgery.experiments.sweeps.spec import Refused
from surgery.experiments.sweeps.table_files import csv_text, write_files

_NONE = "—"
_COLUMNS = (
    "question",
    "metric",
    "unit",
    "method",
    "adapter",
    "task",
    "examples",
    "unedited",
    "change",
    "low",
    "high",
    "p_holm",
    "verdict",
    "run",
)
_OVER_COLUMNS = (
    "question",
    "metric",
    "unit",
    "method",
    "adapters",
    "mean",
    "low",
    "high",
    "t_low",
    "t_high",
    "spread",
    "same_rows",
    "wins",
    "ties",
    "losses",
    "above_zero",
    "below_zero",
    "p_sign",
)


def write_evidence(found: Sequence[Evidence], refused: Sequence[Refused], folder: Path | str) -> list[Path]:
    """Write `evidence.md`, `evidence.csv` (a row a method and adapter) and `evidence-over-adapters.csv` into a folder.

    Raises `SweepError` where that cannot be done.
    """
    texts = {
        "evidence.md": evidence_markdown(found, refused) + "\n",
        "evidence.csv": csv_text(_COLUMNS, (_told(row) for each in found for row in _rows(each))),
        "evidence-over-adapters.csv": csv_text(
            _OVER_COLUMNS, (_told(row) for each in found for row in _over_rows(each))
        ),
    }
    return write_files(folder, texts, "the evidence")


def evidence_markdown(found: Sequence[Evidence], refused: Sequence[Refused] = ()) -> str:
    """A table a question and metric: an adapter a row, a method a column, and below what holds over adapters."""
    blocks = ["\n".join(_table(each)) for each in found]
    if refused:
        blocks.append("\n".join(["Left out:", *(f"- {_cell(each.name)}: {each.reason}" for each in refused)]))
    return "\n\n".join(blocks)


def evidence_record(found: Sequence[Evidence]) -> dict[str, list[dict[str, object]]]:
    """The rows of both CSV files as objects for JSON: by method and adapter, and over adapters."""
    return {
        "adapters": [dict(zip(_COLUMNS, row, strict=True)) for each in found for row in _rows(each)],
        "over_adapters": [
            dict(zip(_OVER_COLUMNS, row, strict=True)) for each in found for row in _over_rows(each)
        ],
    }


def scaled(metric: Metric, number: float) -> float:
    """A number of a metric in its unit: shares of examples in points."""
    return 100 * number if metric.binary else number


def change_text(metric: Metric, effect: Effect) -> str:
    """A change with its 95 % interval, in the metric's unit."""
    return f"{number_text(metric, effect.mean)} {interval_text(metric, effect.low, effect.high)}"


def interval_text(metric: Metric, low: float, high: float) -> str:
    """An interval in the metric's unit; a dash where there is none."""
    return _NONE if np.isnan([low, high]).any() else f"[{number_text(metric, low)}, {number_text(metric, high)}]"


def number_text(metric: Metric, number: float) -> str:
    """A change with its sign, in the metric's unit."""
    return _NONE if np.isnan(number) else f"{scaled(metric, number):+.{2 if metric.binary else metric.digits}f}"


def p_text(p: float) -> str:
    """A p value as a person reads it."""
    return "p unknown" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def notes_of(found: Evidence) -> tuple[str, ...]:
    """What a reader of a table has to know: what the marks mean, what chance gives, how sure an interval can be."""
    better = "higher" if found.metric.higher_is_better else "lower"
    notes = [
        f"Changes against the unedited adapter on the same examples, in {found.metric.unit}; {better} is better. "
        "p is corrected after Holm for the methods on that adapter; a tie is p of 0.05 or more.",
        f"Without any effect up to {found.by_chance:.2g} of {_adapters(found)} would show a win or a loss.",
    ]
    cautions = dict.fromkeys(method.over.caution for method in found.methods)
    notes += [caution[0].upper() + caution[1:] + "." for caution in cautions if caution]
    if any(method.over.same_rows for method in found.methods):
        notes.append(
            "The adapters answered the same examples, which are drawn together; Student's interval and the sign test "
            "know nothing of that."
        )
    if any(gains for method in found.methods for gains in method.edit.plan.manual.values()):
        notes.append(
            "Gains that were set by hand act on components by their number; in another adapter the component of that "
            "number is another direction."
        )
    counts = {len(method.adapters) for method in found.methods}
    if len(counts) > 1 or counts != {len(found.adapters)}:
        notes.append(
            "Some adapters have not answered for every method: means over different adapters do not compare."
        )
    return tuple(notes)


def _adapters(found: Evidence) -> str:
    return "1 adapter" if len(found.adapters) == 1 else f"{len(found.adapters)} adapters"


def over_text(metric: Metric, over: OverAdapters) -> dict[str, str]:
    """What holds over adapters, each in words."""
    signs = over.signs
    return {
        "mean over adapters [bootstrap]": change_text(metric, over.effect),
        "Student's interval": interval_text(metric, *over.t_interval),
        "spread between adapters": _NONE
        if np.isnan(over.spread)
        else number_text(metric, over.spread).removeprefix("+"),
        "sign test": f"{signs.above} up, {signs.below} down, {p_text(signs.p)}",
        "adapters": str(over.adapters),
    }


def _table(found: Evidence) -> Iterator[str]:
    methods = found.methods
    yield f"### {_cell(found.question)}: {_cell(found.metric.title)}"
    yield ""
    yield _line(["adapter", *(method.method for method in methods)])
    yield "|" + "---|" * (1 + len(methods))
    for name in found.adapters:
        yield _line([name, *(on_adapter_text(found.metric, method.adapters.get(name)) for method in methods)])
    yield _line(
        ["wins / ties / losses", *(" / ".join(map(str, method.counts)) for method in methods)], strong=True
    )
    texts = [over_text(found.metric, method.over) for method in methods]
    for head in texts[0]:
        yield _line([head, *(text[head] for text in texts)], strong=True)
    yield ""
    yield " ".join(notes_of(found))


def on_adapter_text(metric: Metric, each: OnAdapter | None) -> str:
    """A method's change on an adapter, its p and its verdict; a dash where it was not asked."""
    if each is None:
        return _NONE
    return f"{change_text(metric, each.change)}, {p_text(each.p)}, {each.verdict}"


def _line(cells: Sequence[str], *, strong: bool = False) -> str:
    told = [f"**{_cell(cell)}**" if strong else _cell(cell) for cell in cells]
    return "| " + " | ".join(told) + " |"


def _cell(text: str) -> str:
    """A text that cannot end a cell, whatever an adapter's folder is called."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _rows(found: Evidence) -> Iterator[tuple[object, ...]]:
    head = found.question, found.metric.name, found.metric.unit
    for method in found.methods:
        for each in method.adapters.values():
            numbers = (each.baseline, each.change.mean, each.change.low, each.change.high)
            told = (scaled(found.metric, number) for number in numbers)
            yield (
                *head,
                method.method,
                each.adapter,
                each.task,
                each.examples,
                *told,
                each.p,
                each.verdict,
                each.run,
            )


def _over_rows(found: Evidence) -> Iterator[tuple[object, ...]]:
    for method in found.methods:
        yield (found.question, found.metric.name, found.metric.unit, method.method, *_over(found.metric, method))


def _over(metric: Metric, method: MethodEvidence) -> tuple[object, ...]:
    over = method.over
    numbers = (over.effect.mean, over.effect.low, over.effect.high, *over.t_interval, over.spread)
    told = (scaled(metric, number) for number in numbers)
    signs = over.signs.above, over.signs.below, over.signs.p
    return (over.adapters, *told, over.same_rows, *method.counts, *signs)


def _told(row: tuple[object, ...]) -> list[object]:
    """A row in which a number that there is none of stays empty."""
    return ["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in row]
