"""Every place of the workbench lies in its home, and only one module names it."""

import inspect
import re
from pathlib import Path

import pytest

from surgery.files import places

ROOT = Path(__file__).resolve().parents[3]
KNOWN = [
    (name, place)
    for name, place in inspect.getmembers(places, inspect.isfunction)
    if name.endswith(("_folder", "_file"))
]


def test_places_lie_side_by_side_in_the_home_and_asking_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(places, "RUNS", "runs")  # where a person finds them, not those of this test
    found = [place() for _, place in KNOWN]
    assert {path.parent for path in found} == {tmp_path / "home"}
    assert len(set(found)) == len(found) == 10
    assert list((tmp_path / "home").iterdir()) == []


def test_nothing_else_joins_a_name_to_the_home() -> None:
    joining = [
        str(file.relative_to(ROOT))
        for package in ("surgery", "app")
        for file in (ROOT / package).rglob("*.py")
        if re.search(r"\bhome\(\)\s*/", file.read_text(encoding="utf-8"))
    ]
    assert joining == ["surgery/files/places.py"]
