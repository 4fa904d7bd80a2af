"""Groups of runs: kept in a file each, found by their own task, and none once they were changed."""

import json
import os

from surgery.errors import DataError
from surgery.files import groups_folder
from surgery.runs import RunGroup, group_of, keep_group, stored_group, stored_groups
from tests.helpers.refusals import refusal


def test_a_group_is_found_by_its_key_and_by_its_own_task_the_newest_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))
    first, second = keep_group(RunGroup("a", ("b",))), keep_group(RunGroup("a", ("b", "c")))
    os.utime(groups_folder() / f"{first.key}.json", (1, 1))
    assert stored_groups() == [second, first]
    assert group_of("a") == second
    assert group_of("b") is None
    assert stored_group(first.key) == first
    assert stored_group("d") is None
    assert keep_group(first) == first
    assert len(stored_groups()) == 2
    assert first.runs == ()


def test_a_file_that_was_changed_is_no_group(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))
    group = keep_group(RunGroup("a", ("b",)))
    file = groups_folder() / f"{group.key}.json"
    for content in (json.dumps({"own": "a", "guards": ["x"]}), "[]", "{", json.dumps({"own": "a"}), "[" * 70_000):
        file.write_text(content)
        assert stored_groups() == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))
    (tmp_path / "groups").write_text("a file in its place")
    assert "cannot be kept" in refusal(DataError, keep_group, RunGroup("a", ("b",)))
