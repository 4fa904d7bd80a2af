"""The summary of a finished run and the time of its answers, as values and as the record that is stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from surgery.evaluation import EvaluationSummary, parse_summary, summary_record


@dataclass(frozen=True)
class AnswerTime:
    """Seconds that fresh answers took; `answers` counts them, requests × variants."""

    seconds: float
    answers: int


@dataclass(frozen=True)
class RunMetrics:
    """The summary of a finished run; `samples` is the digest of the file that has its samples."""

    samples: str
    summary: EvaluationSummary
    answer_time: AnswerTime | None = None


def metrics_record(metrics: RunMetrics) -> dict[str, Any]:
    """What a run keeps of its metrics, NaN left in it; `parse_metrics` reads it."""
    record = {"samples": metrics.samples, **summary_record(metrics.summary)}
    return record if metrics.answer_time is None else {**record, "pace": asdict(metrics.answer_time)}


def parse_metrics(record: Mapping[str, Any]) -> RunMetrics:
    """The metrics of a record; raises as `parse_summary` does."""
    answer_time = record.get("pace")
    return RunMetrics(
        str(record["samples"]), parse_summary(record), None if answer_time is None else AnswerTime(**answer_time)
    )
