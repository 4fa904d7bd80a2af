"""Which groups of a sweep have a finished run, found by what they ask: without a model, and without asking again."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from surgery.adapter import open_adapter
from surgery.data import EvaluationPlan, calibration_rows, plan_record, read_slices, rows_digest
from surgery.edits import edit_record
from surgery.experiments.sweeps.plan import Group
from surgery.files import digest, sweeps_folder, write_whole
from surgery.model import base_fingerprint
from surgery.runs import Run, stored_run


def finished(groups: Sequence[Group], keys: Sequence[str] | None = None) -> list[Run | None]:
    """The run of each group that ended earlier, of this sweep or of another that asked the same.

    keys: of the groups, where they are known.
    """
    return [remembered(key) for key in keys or group_keys(groups)]


def remembered(key: str) -> Run | None:
    """The run that answers for a group of that key; None where there is none that has ended."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        run = stored_run(json.loads(_entry(key).read_text(encoding="utf-8"))["run"])
        return run if run is not None and run.finished else None
    return None


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
        if isinstance(question, EvaluationPlan):
            rows = once(question, lambda plan=question: rows_digest(read_slices((), plan).held_out))  # type: ignore[misc]
            parts += ["rows", json.dumps(plan_record(question)), rows]
        else:
            parts += ["task", json.dumps(question.values()), *(["base"] if group.task.base_arm else [])]
        for plan in group.passes:
            used = once(plan, lambda plan=plan: rows_digest(calibration_rows(plan)))  # type: ignore[misc]
            parts += [str(plan.seed), json.dumps(plan_record(plan)), used]
        for name, edit in group.edits.items():
            parts += [name, json.dumps([edit_record(edit.plan), edit.budget, edit.seed])]
        keys.append(digest(parts)[:24])
    return keys


def _version(package: str) -> str:
    """Empty for what is not installed: a sweep over rows needs no lm-eval."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _entry(key: str) -> Path:
    return sweeps_folder() / f"{key}.json"


def remember(key: str, run: Run) -> None:
    """Keep which run answers for a group; what cannot be written is let go, and then only looked up the long way."""
    file = _entry(key)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"run": run.plan.key}).encode())
