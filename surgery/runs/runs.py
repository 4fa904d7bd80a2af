"""The history of runs: one folder of plain files for each, named by everything its results depend on.

    run.json         what was asked of which variants, when, on which adapter and base
    recipe.yaml      the edit and how it was made, where the run proves one
    environment.json versions and machine
    answers.jsonl    every finished request, written while the run goes on
    samples.parquet  one row for each variant and example: question, answer, metrics
    metrics.json     means, paired changes, intervals and tests; it is there once the run has ended

The folder's name is a digest of adapter, base, examples, variants, precision and versions: the same question
finds its folder again, finished or not, and a result never stands for another one. The records carry digests
of themselves and of the samples: files that were changed are no run.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from surgery.data import Margins
from surgery.errors import DataError
from surgery.evaluation import Evaluation, summarise
from surgery.files import digest, file_stamp, is_shipped, runs_folder, without_nan, write_whole
from surgery.runs.answer_log import AnswerLog, logged_answers, under_way, unwritable
from surgery.runs.controls import parse_controls, unlike_note
from surgery.runs.environment import environment
from surgery.runs.metrics import AnswerTime, RunMetrics, metrics_record, parse_metrics
from surgery.runs.plan import SCHEMA, RunPlan
from surgery.runs.samples import read_samples, samples_file

LOG, SAMPLES, METRICS, ABOUT = "answers.jsonl", "samples.parquet", "metrics.json", "run.json"
RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"


@dataclass(frozen=True)
class Run:
    """One folder of the history. `metrics` is None while the run is unfinished, and `done` counts what it has."""

    folder: Path
    plan: RunPlan
    started: datetime
    metrics: RunMetrics | None

    @property
    def finished(self) -> bool:
        return self.metrics is not None

    @property
    def shipped(self) -> bool:
        """Whether it came with a demo and was run elsewhere."""
        return is_shipped(self.folder)

    @property
    def under_way(self) -> bool:
        """Whether somebody works on it now, in this process or in another."""
        return not self.finished and under_way(self.folder / LOG)

    @property
    def done(self) -> int:
        """Answers so far, requests × variants: in the unit of `prove`'s progress."""
        return sum(len(answers) for answers in logged_answers(self.folder / LOG).values())

    @property
    def recipe(self) -> str | None:
        """The recipe's text, where the run proves an edit."""
        with suppress(OSError, UnicodeDecodeError):
            return (self.folder / RECIPE).read_text(encoding="utf-8")
        return None

    @property
    def environment(self) -> dict[str, Any] | None:
        """Versions and machine that it ran with; None where that file is missing or no record."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads((self.folder / ENVIRONMENT).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
        return None

    @cached_property
    def evaluation(self) -> Evaluation:
        """Every score and answer; raises `DataError` for an unfinished run, or files that were changed."""
        if self.metrics is None:
            raise DataError(
                f"the run {self.folder.name!r} has not ended", "start it again: it goes on where it was"
            )
        try:
            read = read_samples(self.folder / SAMPLES, self.metrics.samples)
        except (ValueError, LookupError) as error:
            raise DataError(
                f"the files of run {self.folder.name!r} were changed",
                "start it again: it is put together from its answers",
            ) from error
        found = replace(read, margins=self.plan.margins)
        unlike = self.plan.unlike_controls
        if not unlike:
            return found
        own = {name: () if name in unlike else found.controls for name in self.plan.edits}
        return replace(found, own_controls=own, notes=(*found.notes, unlike_note(unlike)))


def stored_runs(adapter_digest: str | None = None) -> list[Run]:
    """Runs of this machine, of all adapters or of one, newest first; `history.known_runs` has shipped ones too."""
    return newest_first(runs_folder().glob("*"), adapter_digest)


def newest_first(folders: Iterable[Path], adapter_digest: str | None = None) -> list[Run]:
    """Those of the folders that are runs, of all adapters or of one."""
    found = [run for run in map(_read, folders) if run is not None]
    mine = [run for run in found if adapter_digest in (None, run.plan.adapter_digest)]
    return sorted(mine, key=lambda run: (run.started, run.folder.name), reverse=True)


def stored_run(key: str) -> Run | None:
    """The run of this machine of that key; None for a key that is no name of ours or has no folder."""
    if len(key) != 24 or not set(key) <= set("0123456789abcdef"):
        return None
    return _read(runs_folder() / key)


def begin(plan: RunPlan, recipe: str | None = None) -> tuple[Run, AnswerLog]:
    """The run of a plan and its log, open for writing: a new folder, or the one that was left unfinished.

    What other runs know of the same questions and variants is taken over. Raises `DataError` when the
    folder cannot be written or another process works on it.
    """
    folder = runs_folder() / plan.key
    log = AnswerLog(folder / LOG)
    try:
        run = _read(folder)
        if run is None:
            run = Run(folder, plan, datetime.now(UTC), None)
            _write(folder / ENVIRONMENT, json.dumps(environment(), indent=1).encode())
            if recipe is not None:
                _write(folder / RECIPE, recipe.encode())
            _write_record(folder / ABOUT, {"schema": SCHEMA, "started": run.started.isoformat(), **asdict(plan)})
        _take_over(plan, log)
    except BaseException:
        with suppress(DataError):
            log.close()
        raise
    return run, log


def finish(run: Run, evaluation: Evaluation, answer_time: AnswerTime | None = None) -> Run:
    """Write what a run found, and how fast it answered; raises `DataError` when that cannot be done."""
    samples = samples_file(evaluation)
    _write(run.folder / SAMPLES, samples)
    if answer_time is not None and not answer_time.answers:
        answer_time = None
    record = without_nan(metrics_record(RunMetrics(digest([samples]), summarise(evaluation), answer_time)))
    _write_record(run.folder / METRICS, record)
    return replace(run, metrics=parse_metrics(record))


def delete_run(run: Run) -> None:
    """Remove a run's folder; raises `DataError` where that is not allowed, or it is under way or ships with a demo."""
    if run.shipped:
        raise DataError(f"the run {run.folder.name!r} ships with a demo", "prove again: your own takes its place")
    if under_way(run.folder / LOG):
        raise DataError(f"the run {run.folder.name!r} is under way", "stop it first")
    try:
        shutil.rmtree(run.folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(
            f"the run {run.folder.name!r} cannot be deleted ({error.strerror})", "check who owns the folder"
        ) from error


def _take_over(plan: RunPlan, log: AnswerLog) -> None:
    """Copy what earlier runs of the same context know of variants that this one has too."""
    for folder in runs_folder().glob("*"):
        about = _about(folder)
        if about is None or about[0].context != plan.context or about[0].key == plan.key:
            continue
        other = about[0]
        same = [
            (mine, theirs)
            for mine, sigma in plan.variants.items()
            for theirs, known in other.variants.items()
            if sigma == known
        ]
        for place, answers in logged_answers(folder / LOG).items():
            known = log.known.get(place, {})
            fresh = {mine: answers[theirs] for mine, theirs in same if theirs in answers and mine not in known}
            if fresh:
                log.add(place, fresh)


def _read(folder: Path) -> Run | None:
    """A folder as it tells of itself; None for what is no run of this schema."""
    about = _about(folder)
    if about is None:
        return None
    metrics = None
    try:
        with suppress(FileNotFoundError):
            metrics = parse_metrics(_read_record(folder / METRICS))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return Run(folder, *about, metrics)


def _about(folder: Path) -> tuple[RunPlan, datetime] | None:
    """What a run is about and when it was started; None for what is no run of this schema."""
    try:
        return _plan_in(folder / ABOUT, file_stamp(folder / ABOUT))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


@lru_cache(maxsize=8192)
def _plan_in(file: Path, stamp: tuple[int, int, int]) -> tuple[RunPlan, datetime] | None:
    """Read once for each state of the file: a sweep of many runs looks through the others at each beginning."""
    about = _read_record(file)
    if about.pop("schema") != SCHEMA:
        return None
    started = datetime.fromisoformat(about.pop("started"))
    for edit in about["edits"].values():  # JSON has made texts of the numbers of components
        edit["manual"] = {
            name: {int(k): gain for k, gain in gains.items()} for name, gains in edit["manual"].items()
        }
    margins = about.get("margins")
    read = {
        "controls": parse_controls(about.get("controls", {})),
        "margins": None if margins is None else Margins(**margins),
    }
    plan = RunPlan(**{**about, **read})
    return (plan, started) if plan.key == file.parent.name else None


def _write_record(file: Path, record: Mapping[str, Any]) -> None:
    _write(file, json.dumps({**record, "digest": _record_digest(record)}, indent=1).encode())


def _read_record(file: Path) -> dict[str, Any]:
    """A record as it was written; raises `ValueError` for one that was changed, whatever it says now."""
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if record.pop("digest") != _record_digest(record):
        raise ValueError("the record was changed")
    return record


def _record_digest(record: Mapping[str, Any]) -> str:
    return digest([json.dumps(record)])


def _write(file: Path, data: bytes) -> None:
    """A file of a run, whole or not at all; raises `DataError`."""
    try:
        write_whole(file, data)
    except OSError as error:
        raise unwritable(file.parent, error, len(data)) from error
