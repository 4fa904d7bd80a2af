"""Which groups of a sweep have a finished run, found by what they ask: without a model, and without asking again."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from surgery.adapter import open_adapter
from surgery.data import (
    EvaluationPlan,
    Question,
    TextPlan,
    calibration_rows,
    plan_record,
    question_record,
    read_slices,
    read_text,
    rows_digest,
)
from surgery.edits import edit_record
from surgery.experiments.sweeps.plan import Group
from surgery.files import digest, sweeps_folder, write_whole
from surgery.model import base_fingerprint
from surgery.runs import Run, stored_run


def finished(groups: Sequence[Group]) -> list[Run | None]:
    """The run of each group that ended earlier with its guards, of this sweep or of another that asked the same."""
    return [None if runs is None else runs[0] for runs in answered(groups)]


def answered(groups: Sequence[Group], keys: Sequence[str] | None = None) -> list[tuple[Run, ...] | None]:
    """Of each group that ended earlier its run and those of its guards; None for the others.

    keys: of the groups, where they are known.
    """
    found = []
    for group, key in zip(groups, keys or group_keys(groups), strict=True):
        runs = remembered(key)
        whole = runs is not None and len(runs) == 1 + len(group.adapter.guards)
        found.append(runs if whole else None)
    return found


def remembered(key: str) -> tuple[Run, ...] | None:
    """The runs that answer for a group of that key, those of its guards behind its own; None unless all have ended."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        entry = json.loads(_entry(key).read_text(encoding="utf-8"))
        return all_finished([entry["run"], *entry.get("guards", ())])
    return None


def all_finished(keys: Sequence[str]) -> tuple[Run, ...] | None:
    """The runs of these keys; None unless all are there and have ended."""
    runs = [stored_run(key) if key else None for key in keys]
    ended = tuple(run for run in runs if run is not None and run.finished)
    return ended if len(ended) == len(keys) else None


def group_keys(groups: Sequence[Group]) -> list[str]:
    """What each group asks, by content: adapter, base, rows, edits and versions. Reads files, loads no model.

    Documents of an lm-eval task are not among it: they are known once the task is loaded.
    """
    versions = [_version(name) for name in ("torch", "transformers", "lm-eval")]
    known: dict[object, str] = {}

    def once(place: object, made: Callable[[], str]) -> str:
        if place not in known:
            known[place] = made()
        return known[place]

    keys = []
    for group in groups:
        adapter, question = group.adapter, group.task.question
        base = adapter.base
        parts = [
            *versions,
            once(adapter.source, lambda source=adapter.source: open_adapter(source).digest),  # type: ignore[misc]
            once(base, lambda base=base: base_fingerprint(base.location, revision=base.revision)),  # type: ignore[misc]
            json.dumps([base.device, base.dtype, group.task.batch_size]),
        ]
        parts += _asked(question, once)
        if group.task.base_arm and not isinstance(question, EvaluationPlan):
            parts.append("base")
        for guard in adapter.guards:
            parts += ["guard", *_asked(guard, once)]
        for plan in group.passes:
            used = once(plan, lambda plan=plan: rows_digest(calibration_rows(plan)))  # type: ignore[misc]
            parts += [str(plan.seed), json.dumps(plan_record(plan)), used]
        for name, edit in group.edits.items():
            parts += [name, json.dumps([edit_record(edit.plan), edit.budget, edit.seed])]
            if (
                edit.plan.needs_sensitivity and adapter.calibration is None
            ):  # recipes of one seed may read other slices
                parts.append(str(group.passes.index(group.pass_for(edit))))
        keys.append(digest(parts)[:24])
    return keys


def _asked(question: Question, once: Callable[[object, Callable[[], str]], str]) -> list[str]:
    """What a question asks, by content."""
    if isinstance(question, EvaluationPlan):
        rows = once(question, lambda: rows_digest(read_slices((), question).held_out))
        return ["rows", json.dumps(plan_record(question)), rows]
    if isinstance(question, TextPlan):
        said = once(question, lambda: digest([read_text(question.text)]))
        return ["text", json.dumps(question_record(question)), said]
    return ["task", json.dumps(question.values())]


def _version(package: str) -> str:
    """Empty for what is not installed: a sweep over rows needs no lm-eval."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _entry(key: str) -> Path:
    return sweeps_folder() / f"{key}.json"


def remember(key: str, runs: Sequence[Run]) -> None:
    """Keep which runs answer for a group, its own and its guards'; what cannot be written is let go.

    It is then looked up the long way.
    """
    file = _entry(key)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        own, *guards = (run.plan.key for run in runs)
        write_whole(file, json.dumps({"run": own, **({"guards": guards} if guards else {})}).encode())
