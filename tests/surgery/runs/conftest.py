"""Plans and evaluations of runs without a model."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from surgery.evaluation import BASELINE, Evaluation, Sample, row_scores
from surgery.runs import (
    RunPlan,
    begin,
    finish,
)

function_scoped = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
EDIT = {
    "scope": "residual",
    "policy": "identity",
    "knobs": {},
    "energy": "none",
    "sigma_min": 0.0,
    "manual": {"m": {0: 0.5, 11: 2.0}},
}
PLAN = RunPlan(
    adapter="/adapters/mine",
    adapter_digest="a" * 64,
    base={"location": "/bases/mine", "revision": None, "device": "cpu", "dtype": "float32"},
    fingerprint="f" * 64,
    question={"rows": {"data": "/data/rows.jsonl", "limit": 4}},
    asked="q" * 64,
    examples=4,
    variants={BASELINE: "", "edit": "e" * 64},
    edits={"edit": EDIT},
    settings={"dtype": "float32", "device": "cpu", "torch": "2.0", "transformers": "5.0"},
)


def evaluation(losses=(0.5, 1.25, 2.0, 0.25), changed=(0.5, 1.0, 1.5, 0.125)) -> Evaluation:
    asked = tuple(Sample(f"key {i}", f"{i} + {i} =\n", str(2 * i)) for i in range(len(losses)))
    exact = np.arange(len(losses)) % 2.0
    scores = {
        BASELINE: row_scores(np.array(losses), exact, ["ä\n"] * len(losses)),
        "edit": row_scores(np.array(changed), 1 - exact, [""] * len(losses)),
    }
    return Evaluation(scores, asked, notes=("1 row left out: 1 too long",))


def finished(plan: RunPlan = PLAN, found: Evaluation | None = None, recipe: str | None = None):
    run, log = begin(plan, recipe)
    with log:
        return finish(run, found or evaluation())


def changed(**values: Any):
    """A record with other values, written as it would be by hand."""

    def damage(file: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return damage


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "run" / "answers.jsonl"


class FullDisk:
    """A file on a disk that takes so many bytes more, the last write in part, as a full disk does."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        taken = data[: max(0, self._room)]
        self._room -= len(data)
        self._file.write(taken)
        if len(taken) < len(data):
            self._file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
