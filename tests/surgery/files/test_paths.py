"""Paths that a person names: those that cannot exist are refused, and those outside named folders."""

import os

import pytest

from surgery.errors import DataError, SurgeryError
from surgery.files import FOLDERS, named_folders, user_path, write_kept, write_named
from tests.helpers.refusals import refusal


def test_without_named_folders_every_path_may_be_named(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDERS, raising=False)
    assert named_folders() is None
    assert user_path("/etc/passwd") == type(tmp_path)("/etc/passwd")


def test_the_home_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/rows.jsonl") == tmp_path / "rows.jsonl"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~nobody-of-that-name/x"])
def test_a_path_that_cannot_exist_is_refused_with_the_error_that_was_asked_for(name, monkeypatch):
    monkeypatch.delenv(FOLDERS, raising=False)
    assert "no usable path" in refusal(DataError, user_path, name, DataError)


def test_only_what_ends_inside_the_named_folders_may_be_named(monkeypatch, tmp_path):
    for folder in ("home", "open", "opened-too", "closed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "open" / "out").symlink_to(tmp_path / "closed")
    (tmp_path / "closed" / "in").symlink_to(tmp_path / "open")
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(FOLDERS, os.pathsep.join([str(tmp_path / "open"), ""]))
    assert named_folders() == (tmp_path / "home", tmp_path / "open")
    for inside in ("home/x", "open", "open/new/x", "closed/in/x"):
        assert user_path(tmp_path / inside) == tmp_path / inside
    for outside in ("closed/x", "open/out/x", "open/../closed/x", "opened-too/x"):
        assert "outside the folders" in refusal(SurgeryError, user_path, tmp_path / outside)


def test_a_named_file_is_written_whole_or_refused_with_the_reason(tmp_path):
    assert write_named(tmp_path / "file", b"text").read_bytes() == b"text"
    assert "choose another file" in refusal(DataError, write_named, tmp_path / "none" / "file", b"text")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_what_is_kept_makes_its_folder_and_is_refused_by_its_name_where_there_is_none(tmp_path):
    write_kept(tmp_path / "new" / "file", b"kept", "the result", "make room")
    assert (tmp_path / "new" / "file").read_bytes() == b"kept"
    with pytest.raises(DataError) as refused:
        write_kept(tmp_path / "new" / "file" / "below", b"kept", "the result", "make room")
    assert refused.value.problem.startswith("the result cannot be kept (")
    assert refused.value.remedy == "make room"
