"""A base, an adapter and two slices without a shared row on disk, and the plans that lead over them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan, Row
from surgery.edits import EditPlan
from surgery.model import BaseChoice, LiveModel, attach
from surgery.recipes import Recipe
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, save_model, tiny_llama

ROWS = [Row(f"{a}+{b}=", str(a + b)) for a in range(8) for b in range(6)]


@dataclass(frozen=True)
class Workplace:
    """Folders of a base and an adapter, two slices without a shared row, and the plans for them."""

    base: BaseChoice
    adapter: str
    calibration: CalibrationPlan
    evaluation: EvaluationPlan
    home: Path

    def attach(self) -> LiveModel:
        adapter = open_adapter(self.adapter)
        return attach(adapter, decompose(adapter), self.base)

    def recipe(self, **changes: Any) -> Recipe:
        """A recipe of this place; settings of its edit are given by their own names."""
        names = {field.name for field in fields(EditPlan)}
        edit = EditPlan(**{name: changes.pop(name) for name in names & set(changes)})
        whole = Recipe(self.adapter, "", self.base, self.calibration, edit, self.evaluation)
        return replace(whole, **changes)


def write_workplace(folder: Path) -> Path:
    """The files of a workplace."""
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    write_rows(folder / "calibration.jsonl", ROWS[:30])
    write_rows(folder / "held-out.jsonl", ROWS[30:])
    return folder


def workplace(files: Path, home: Path) -> Workplace:
    """The workplace of files that `write_workplace` made."""
    return Workplace(
        BaseChoice(str(files / "base")),
        str(files / "adapter"),
        CalibrationPlan(str(files / "calibration.jsonl"), examples=10, batch_size=4),
        EvaluationPlan(str(files / "held-out.jsonl"), limit=6, random=2),
        home,
    )


def write_rows(file: Path, rows: Iterable[Row]) -> str:
    file.write_text("".join(json.dumps({"prompt": row.prompt, "answer": row.answer}) + "\n" for row in rows))
    return str(file)


def stored_files(place: Workplace) -> list[Path]:
    """The measurements in the store."""
    return sorted((place.home / "sensitivities").glob("*"))


def forbid_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured_again(*arguments: Any, **options: Any) -> None:
        pytest.fail("the model ran although the measurement is stored")

    monkeypatch.setattr("surgery.sensitivity.calibration.measure_sensitivity", measured_again)
