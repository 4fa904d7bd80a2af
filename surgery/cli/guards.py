"""The option that names guards, and a group of runs as text."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from surgery.errors import DataError
from surgery.evaluation import TaskOutcome
from surgery.runs import RunGroup, group_outcomes


def add_guard_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--guard",
        action="append",
        default=[],
        metavar="QUESTION",
        help="another question for the same variants, which they are not to hurt: 'text: demo:text', 'task: arc_easy, "
        "limit: 100' or 'rows: FILE.jsonl, limit: 100', with settings as in a recipe; may be given several times",
    )


def group_result(group: RunGroup) -> tuple[dict[str, Any], str]:
    """A group of runs as a record and as a table; raises `DataError` where the run of its own task is gone."""
    if not group.runs:
        raise DataError(f"the runs of the group {group.key!r} are gone", "prove again")
    found = group_outcomes(group.runs)
    record = {"group": group.key, "own": group.own, "guards": list(group.guards)}
    return {**record, "outcomes": [_record(each) for each in found]}, f"{_table(found)}\nkept as group {group.key}"


def joined(run: tuple[dict[str, Any], str], group: tuple[dict[str, Any], str]) -> tuple[dict[str, Any], str]:
    """The result of an own task's run with that of its group behind it."""
    return {**run[0], **group[0]}, f"{run[1]}\n\n{group[1]}"


def _record(outcome: TaskOutcome) -> Mapping[str, Any]:
    return {
        "question": outcome.question,
        "guard": outcome.guard,
        "measure": outcome.metric.record(),
        "unit": outcome.metric.unit,
        "examples": outcome.examples,
        "mean": outcome.mean,
        "gains": {name: asdict(outcome.gain(name)) for name in outcome.changes},
    }


def _table(found: tuple[TaskOutcome, ...]) -> str:
    """A row for each variant and a column for each question: gains, above 0 where it is better."""
    titles = [f"{'guard' if each.guard else 'own'} {each.question}: {each.metric.title}" for each in found]
    lines = [
        "gains over the unedited adapter, above 0 is better, with 95 % intervals; ~ is within noise",
        f"| variant | {' | '.join(titles)} |",
        f"|---|{'---:|' * len(found)}",
    ]
    for name in found[0].changes:
        cells = [each.gain_text(name) if name in each.changes else "" for each in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
