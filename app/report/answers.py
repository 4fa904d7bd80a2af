"""The answers that changed: those of the edit as a plain table, those of every variant for the script.

Many long answers would not fit into a file to hand around. What has to stay out goes in this order: the controls'
answers, then examples that no variant answers otherwise; and the report says how much it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.compared import FILTERS, compared
from app.report.markup import Html, element, join, paragraphs, table, visible
from app.report.material import Material, Part
from app.report.payload import packed
from surgery.evaluation import AGAIN, BASELINE, Evaluation
from surgery.experiments import EDIT, is_reserved

_LARGEST = 1_500_000  # characters of packed answers
_PLAIN = 600_000  # characters of the plain table
_LONGEST = 4_000  # characters of one text, where all else that can stay out is out
_RUN = "The run's own samples.parquet has them."


@dataclass(frozen=True)
class _Kept:
    """What is in the file: variants, examples by their place, and the longest text."""

    variants: tuple[str, ...]
    rows: tuple[int, ...]
    longest: int | None = None


def answers(material: Material) -> Part | None:
    """Answers of the unedited adapter beside the edit's, where they differ; the script shows all that were kept."""
    evaluation = material.evaluation
    if not evaluation.variants:
        return None
    first = EDIT if EDIT in evaluation.scores else material.subject or evaluation.variants[0]
    tables = {name: compared(evaluation, name) for name in evaluation.variants}
    order = (first, *sorted((name for name in tables if name != first), key=_is_control))
    kept, data = _fitting(evaluation, tables, order)
    changed = [row for row in kept.rows if tables[first]["changed"].iloc[row]]
    rows, left = _plain(tables[first].iloc[changed], first, kept.longest)
    told = [
        f"{int(tables[first]['changed'].sum()):,} of {len(evaluation.samples):,} answers differ between the "
        f"unedited adapter and {first!r}; {int(tables[first]['gained'].sum())} were gained, "
        f"{int(tables[first]['lost'].sum())} lost.",
        *_left_out(kept, order, len(evaluation.samples)),
    ]
    if left:
        told.append(f"Without JavaScript the last {left:,} of them are not shown.")
    shown = table(rows, class_="texts", id="answers-table") if rows else element("div", id="answers-table")
    return Part(join([paragraphs(told, "small"), _controls(kept.variants), shown]), data={"answers": data})


def _is_control(name: str) -> bool:
    return name == AGAIN or (is_reserved(name) and name != EDIT)


def _fitting(
    evaluation: Evaluation, tables: Mapping[str, pd.DataFrame], order: Sequence[str]
) -> tuple[_Kept, str]:
    """As much as fits, and its packed record for the script."""
    every = tuple(range(len(evaluation.samples)))
    plain = tuple(name for name in order if not _is_control(name)) or tuple(order[:1])
    changed = tuple(row for row in every if any(tables[name]["changed"].iloc[row] for name in plain))
    choices = [_Kept(tuple(order), every), _Kept(plain, every), _Kept(plain, changed)]
    choices.append(_Kept(tuple(order[:1]), changed, _LONGEST))
    while len(choices[-1].rows) > 1:
        choices.append(_Kept(tuple(order[:1]), changed[: len(choices[-1].rows) // 2], _LONGEST))
    for kept in choices:
        data = packed(_record(evaluation, tables, kept))
        if len(data) <= _LARGEST:
            break
    return kept, data


def _record(evaluation: Evaluation, tables: Mapping[str, pd.DataFrame], kept: _Kept) -> dict[str, Any]:
    """Each example with its different answers, and which of these each variant gave."""
    names = (BASELINE, *kept.variants)
    known: list[dict[str, int]] = [{} for _ in kept.rows]
    at: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        for place, row in enumerate(kept.rows):
            answer = evaluation.scores[name].answers[row]
            at[name].append(known[place].setdefault(answer, len(known[place])))
    first = tables[kept.variants[0]].iloc[list(kept.rows)]
    number = next((title for title in first.columns if title.startswith("Δ ")), None)
    return {
        "task": [_cut(text, None) for text in first["task"]] if "task" in first else None,
        "number": [row + 1 for row in kept.rows],
        "question": [_cut(text, kept.longest) for text in first["question"]],
        "reference": [_cut(text, kept.longest) for text in first["reference"]],
        "texts": [[_cut(text, kept.longest) for text in own] for own in known],
        "unedited": visible(BASELINE),
        "title": visible(number) if number else None,
        "variants": [
            {
                "name": visible(name),
                "before": at[BASELINE],
                "after": at[name],
                "gained": _places(tables[name], kept, "gained"),
                "lost": _places(tables[name], kept, "lost"),
                "change": _numbers(tables[name], kept, number),
            }
            for name in kept.variants
        ],
    }


def _places(found: pd.DataFrame, kept: _Kept, kind: str) -> list[int]:
    return [int(place) for place in np.flatnonzero(found[kind].to_numpy()[list(kept.rows)])]


def _numbers(found: pd.DataFrame, kept: _Kept, title: str | None) -> list[float | None] | None:
    if title is None:
        return None
    return [round(float(v), 4) if np.isfinite(v) else None for v in found[title].to_numpy()[list(kept.rows)]]


def _cut(text: str, longest: int | None) -> str:
    text = visible(text)
    return (
        text
        if longest is None or len(text) <= longest
        else f"{text[:longest]} … {len(text) - longest:,} more signs"
    )


def _plain(found: pd.DataFrame, variant: str, longest: int | None) -> tuple[list[dict[str, Any]], int]:
    """The rows of the plain table, as many as fit, and how many do not."""
    rows: list[dict[str, Any]] = []
    room = _PLAIN
    for at, row in found.iterrows():
        mark = "gained" if row["gained"] else "lost" if row["lost"] else ""
        texts = {name: _cut(row[name], longest) for name in ("question", "reference", BASELINE, variant)}
        room -= sum(map(len, texts.values()))
        if room < 0:
            break
        task = {"task": row["task"]} if "task" in found else {}
        rows.append({"example": int(at) + 1, **task, **texts, "": mark})
    return rows, len(found) - len(rows)


def _left_out(kept: _Kept, order: Sequence[str], examples: int) -> list[str]:
    told = []
    if variants := len(order) - len(kept.variants):
        told.append(f"The answers of {variants} other variants are not in this file. {_RUN}")
    if rows := examples - len(kept.rows):
        told.append(f"{rows:,} examples are not in this file. {_RUN}")
    if kept.longest is not None:
        told.append(f"Longer texts are cut after {kept.longest:,} signs.")
    return told


def _controls(names: Sequence[str]) -> Html:
    """What the script turns into a choice of a variant, a filter and a search."""
    options = (element("option", name, value=str(place)) for place, name in enumerate(names))
    kinds = (element("option", title, value=kind) for kind, title in FILTERS.items())
    return element(
        "div",
        element("label", "Compare the unedited adapter with ", element("select", *options, id="answers-variant")),
        element("label", "Show ", element("select", *kinds, id="answers-filter")),
        element("label", "Search ", element("input", type="search", id="answers-search")),
        element("span", id="answers-count", role="status"),
        class_="script bar",
        hidden="",
    )
