"""The workbench's own folder."""

import inspect
import re
from pathlib import Path

import pytest

from surgery.errors import SurgeryError
from surgery.files import home, places, proposed_export
from tests.helpers.refusals import refusal


def test_the_folder_is_that_of_the_environment_and_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SURGERY_HOME", "~/deep/down")
    assert home() == tmp_path / "deep" / "down"
    assert home().is_dir()


def test_without_the_environment_it_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("SURGERY_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if home().parent != tmp_path:
        pytest.skip("this system has another place for caches")
    assert home() == tmp_path / "spectral-surgery"


def test_a_place_where_no_folder_can_be_made_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "file" / "home"))
    assert "SURGERY_HOME" in refusal(SurgeryError, home)


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
    assert len(set(found)) == len(found) == 16
    assert list((tmp_path / "home").iterdir()) == []


def test_nothing_else_joins_a_name_to_the_home() -> None:
    joining = [
        str(file.relative_to(ROOT))
        for package in ("surgery", "app")
        for file in (ROOT / package).rglob("*.py")
        if re.search(r"\bhome\(\)\s*/", file.read_text(encoding="utf-8"))
    ]
    assert joining == ["surgery/files/places.py"]


def test_a_proposed_export_is_the_first_of_its_name_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))
    for name in ("kinship", "kinship-2", "kinship-3"):
        assert proposed_export("kinship") == tmp_path / "exports" / name
        (tmp_path / "exports" / name).mkdir(parents=True)
