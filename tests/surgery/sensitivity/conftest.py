"""A base, an adapter and rows on disk, and a store of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.data import Calibration, CalibrationPlan, Encoding
from surgery.errors import Cancelled
from surgery.model import BaseChoice, LiveModel, attach
from surgery.sensitivity import (
    Sensitivity,
    measure_sensitivity,
)
from surgery.spectra import decompose
from tests.helpers.models import (
    loaded_base,
    random_examples,
    save_adapter,
    save_model,
    tiny_llama,
)

COUNT = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    records = [{"prompt": f"{a}+{b}=" + "." * (a % 4), "answer": str(a + b)} for a in range(8) for b in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + "{\n")
    return folder


@pytest.fixture
def store(tmp_path, monkeypatch, one_thread) -> Path:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "sensitivities"


@pytest.fixture
def plan(files) -> CalibrationPlan:
    return CalibrationPlan(str(files / "rows.jsonl"), COUNT, batch_size=1)


@pytest.fixture
def loaded(files, store):
    adapter = open_adapter(files / "adapter")
    with attach(adapter, decompose(adapter), BaseChoice(str(files / "base"))) as attached:
        yield attached


def same(first: Sensitivity, second: Sensitivity) -> bool:
    return (
        first.provenance == second.provenance
        and first.left_out == second.left_out
        and np.array_equal(first.losses, second.losses)
        and all(np.array_equal(g, second.values[name]) for name, g in first.values.items())
        and np.array_equal(first.answer_tokens, second.answer_tokens)
        and (first.inputs.tokens, first.inputs.apart) == (second.inputs.tokens, second.inputs.apart)
        and all(np.array_equal(M, second.inputs.prompt[name]) for name, M in first.inputs.prompt.items())
        and all(np.array_equal(M, second.inputs.answer[name]) for name, M in first.inputs.answer.items())
    )


def names(folder: Path) -> list[str]:
    return sorted(file.suffix for file in folder.glob("*"))


def stopping(after: int):
    """A progress callback that cancels once so many examples are done, and what it saw."""
    seen = []

    def progress(done, total):
        seen.append(done)
        if done >= after:
            raise Cancelled

    return progress, seen


EXAMPLES = tuple(random_examples(9, seed=4))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_llama(), save_adapter(tiny_llama(), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def live(llama):
    with attached_to(*llama) as attached:
        yield attached


def attached_to(model, folder) -> LiveModel:
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(model), adapter, decompose(adapter))


def calibration(examples=EXAMPLES) -> Calibration:
    return Calibration(tuple(examples), Encoding())


def measure(live, examples=EXAMPLES, **options) -> Sensitivity:
    return measure_sensitivity(live, calibration(examples), list(live.spectra), **options)
