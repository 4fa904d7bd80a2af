"""Which files are taken from the cache and which from the hub, and what a hub cannot make the cache do."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from surgery.errors import SurgeryError
from surgery.hub import Repository, commit_in_cache, look_up
from tests.helpers.hub_server import HubServer
from tests.helpers.refusals import refusal
from tests.surgery.hub.conftest import FILES, NAME, fetch


def test_a_listing_has_the_commit_and_every_size(hub):
    repository = hub.add("owner/name", FILES, parameters=1234)
    listing = look_up(NAME, SurgeryError)
    assert listing.commit == repository.refs["main"]
    assert listing.sizes == {"a.json": 2, "b.bin": 10, "deep/c.txt": 1}
    assert listing.parameters == 1234
    assert not hub.fetched()


def test_branches_tags_and_proposals_are_revisions(hub):
    repository = hub.add("owner/name", FILES)
    for ref in ("v1", "refs/pr/3", "topic/x"):
        commit = repository.commit({**FILES, "a.json": ref.encode()}, ref)
        found = fetch(Repository("owner/name", ref))
        assert found.commit == commit
        assert (found.folder / "a.json").read_bytes() == ref.encode()
        assert fetch(Repository("owner/name", ref), download=False) == found


def test_more_than_the_bound_is_refused_before_a_byte_comes(hub):
    hub.add("owner/name", FILES)
    message = refusal(SurgeryError, fetch, most=11)
    assert "more than" in message
    assert not hub.fetched()
    assert fetch(most=12).names


@pytest.mark.parametrize(
    "path", ["../../../evil.json", "/evil.json", "a/../../../evil.json", "a\\..\\evil.json", "e\nvil"]
)
def test_a_path_of_the_hub_that_leaves_its_folder_is_not_there(hub, path, tmp_path):
    hub.add("owner/name", {**FILES, path: b"evil"})
    assert set(look_up(NAME, SurgeryError).sizes) == set(FILES)
    fetch()
    assert not list(tmp_path.rglob("*evil*"))
    refusal(SurgeryError, fetch, names=("a.json", path))


@pytest.mark.parametrize("commit", ["main", "../../evil", "", "a" * 41])
def test_a_hub_that_names_no_commit_is_refused(hub, commit):
    repository = hub.add("owner/name", FILES)
    repository.commits[commit] = repository.commits[repository.refs["main"]]
    repository.refs["main"] = commit
    assert "does not speak as the hub does" in refusal(SurgeryError, fetch)
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*evil*"))


@pytest.mark.parametrize("revision", ["../../evil", "..", "a b"])
def test_a_revision_that_is_none_is_asked_of_nobody(hub, revision):
    hub.add("owner/name", FILES)
    hub.asked.clear()
    for function in (fetch, lambda repository: look_up(repository, SurgeryError)):
        assert "cannot be a name and a revision" in refusal(
            SurgeryError, function, Repository("owner/name", revision)
        )
    assert commit_in_cache(Repository("owner/name", revision)) is None
    assert hub.asked == []


def test_a_name_that_moves_between_two_looks_is_refused_and_then_opens(hub, monkeypatch):
    repository = hub.add("owner/name", FILES)
    before = repository.refs["main"]
    original = HubServer.told

    def moves(self, asked):
        original(self, asked)
        if asked.path == "/api/models/owner/name/revision/main":
            repository.commit({**FILES, "a.json": b"[1]"})

    monkeypatch.setattr(HubServer, "told", moves)
    assert "changed while it was fetched" in refusal(SurgeryError, fetch)
    assert fetch().commit != before


def test_a_cache_that_cannot_be_written_is_said(hub, monkeypatch, tmp_path):
    hub.add("owner/name", FILES)
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(blocked / "hub"))
    message = refusal(SurgeryError, fetch)
    assert "cannot be kept in the hub's cache" in message
    assert "HF_HOME" in message


def test_a_cache_that_was_emptied_in_part_is_filled_again(hub):
    commit = hub.add("owner/name", FILES).refs["main"]
    folder = fetch().folder
    (folder / "b.bin").unlink()
    assert fetch(NAME.at(commit)).folder == folder
    shutil.rmtree(folder)
    assert (fetch(NAME.at(commit)).folder / "b.bin").read_bytes() == FILES["b.bin"]
