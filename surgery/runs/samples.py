"""The table of a run's samples: one row for each variant and example, as a Parquet file that any tool reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from surgery.evaluation import Evaluation, Metric, Sample, Scores
from surgery.files import digest

_SAMPLE = ("key", "prompt", "reference", "part", "lost")
_SELDOM = ("part", "lost")  # columns that are there where they say something


def samples_file(evaluation: Evaluation) -> bytes:
    """The content of the file that keeps an evaluation."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = [name for name in _SAMPLE if name not in _SELDOM or any(getattr(s, name) for s in evaluation.samples)]
    own = ("variant", "index", *said, "answer")
    columns: dict[str, list[Any]] = {name: [] for name in own}
    numbers: dict[str, list[np.ndarray]] = {metric.name: [] for metric in evaluation.metrics}
    for variant, scores in evaluation.scores.items():
        for index, (sample, answer) in enumerate(zip(evaluation.samples, scores.answers, strict=True)):
            row = (variant, index, *(getattr(sample, name) for name in said), answer)
            for name, value in zip(own, row, strict=True):
                columns[name].append(value)
        for name, parts in numbers.items():
            parts.append(scores.values[name])
    arrays = {name: np.concatenate(parts) for name, parts in numbers.items()}
    about: dict[str, Any] = {
        "measures": [metric.record() for metric in evaluation.metrics],
        "aggregates": {name: dict(totals) for name, totals in evaluation.aggregates.items()},
        "notes": list(evaluation.notes),
    }
    if evaluation.own_controls:
        about["controls"] = {edit: list(names) for edit, names in evaluation.own_controls.items()}
    if evaluation.shape_controls:
        about["shape_controls"] = {edit: dict(names) for edit, names in evaluation.shape_controls.items()}
    table = pa.table({**columns, **arrays}).replace_schema_metadata({"evaluation": json.dumps(about)})
    written = pa.BufferOutputStream()
    pq.write_table(table, written)
    return written.getvalue().to_pybytes()


def read_samples(file: Path, written: str) -> Evaluation:
    """The evaluation that was written with that digest; raises `ValueError` for a file that is not that one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = file.read_bytes()
        if digest([data]) != written:
            raise ValueError("the file was changed")
        table = pq.read_table(pa.BufferReader(data))
        about = json.loads(table.schema.metadata[b"evaluation"])
        metrics = tuple(Metric(**metric) for metric in about["measures"])
        names = table["variant"].to_pylist()
        answers = np.array(table["answer"].to_pylist(), dtype=object)
        values = {metric.name: table[metric.name].to_numpy() for metric in metrics}
        scores = {}
        for variant in dict.fromkeys(names):
            rows = np.array([row for row, name in enumerate(names) if name == variant], dtype=int)
            by_metric = {name: np.asarray(numbers[rows], dtype=np.float64) for name, numbers in values.items()}
            scores[variant] = Scores(by_metric, tuple(answers[rows]))
        present = [name for name in _SAMPLE if name not in _SELDOM or name in table.column_names]
        first = table.slice(0, len(next(iter(scores.values())).answers)).select(present)
        samples = tuple(Sample(**row) for row in first.to_pylist())
        own = {edit: tuple(names) for edit, names in about.get("controls", {}).items()}
        shape = {edit: dict(names) for edit, names in about.get("shape_controls", {}).items()}
        return Evaluation(scores, samples, metrics, about["aggregates"], tuple(about["notes"]), own, shape)
    except (OSError, pa.ArrowException, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(str(error)) from error
