"""What a person writes for a base model: a location, and the revision of a hub id in it or beside it."""

import pytest

from surgery.errors import BaseModelError
from surgery.model import BaseChoice, base_fingerprint, load_base
from tests.helpers.models import save_model, tiny_llama

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT, "refs/pr/3"])
def test_a_revision_behind_the_name_is_the_one_beside_it(revision):
    written = BaseChoice(f"owner/name@{revision}", device="auto", dtype="bfloat16")
    assert written == BaseChoice("owner/name", revision, "auto", "bfloat16")
    assert written == BaseChoice(f"owner/name@{revision}", revision, "auto", "bfloat16")


def test_two_revisions_are_refused():
    with pytest.raises(BaseModelError, match="names another revision than 'other'"):
        BaseChoice("owner/name@main", "other")


@pytest.mark.parametrize(
    "location", ["~/models@home/base", "./a@b", "a@b/model.gguf", "demo:smollm2", "owner/name"]
)
def test_other_places_stay_as_they_are_written(location):
    assert BaseChoice(location).location == location
    assert BaseChoice(location).revision is None


def test_a_folder_with_an_at_in_its_name_is_a_folder(tmp_path, monkeypatch):
    save_model(tiny_llama(), tmp_path / "mine" / "base@2")
    monkeypatch.chdir(tmp_path)
    assert BaseChoice("mine/base@2").location == "mine/base@2"
    assert load_base("mine/base@2").fingerprint == base_fingerprint(str(tmp_path / "mine" / "base@2"))
