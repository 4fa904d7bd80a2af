"""The workbench's own folder."""

import pytest

from surgery.errors import SurgeryError
from surgery.files import home
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
