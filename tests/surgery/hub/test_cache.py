"""What the cache is known to hold, and for which commit a name stands in it."""

from huggingface_hub import constants, hf_hub_download

from surgery.errors import SurgeryError
from surgery.hub import cached_files, commit_in_cache
from tests.helpers.refusals import refusal
from tests.surgery.hub.conftest import FILES, NAME, fetch


def test_a_name_stands_for_the_commit_of_its_last_fetch(hub):
    repository = hub.add("owner/name", FILES)
    assert commit_in_cache(NAME) is None
    first = fetch()
    assert commit_in_cache(NAME) == first.commit == repository.refs["main"]
    later = repository.commit({**FILES, "a.json": b"[]"})
    assert commit_in_cache(NAME) == first.commit
    # fetched by its commit alone, and then by name: the name has moved although nothing came
    fetch(NAME.at(later))
    assert commit_in_cache(NAME) == first.commit
    assert fetch().commit == later == commit_in_cache(NAME)
    assert (fetch(NAME.at(first.commit)).folder / "a.json").read_bytes() == b"{}"


def test_a_snapshot_that_others_began_is_completed(hub):
    commit = hub.add("owner/name", FILES).refs["main"]
    hf_hub_download("owner/name", "a.json")
    held = cached_files(NAME)
    assert (held.names, held.listed) == (("a.json",), False)
    refusal(SurgeryError, fetch, download=False)
    assert fetch(NAME.at(commit)).names == ("a.json", "b.bin")
    assert cached_files(NAME).names == tuple(FILES)
    hub.asked.clear()
    fetch(NAME.at(commit))
    assert hub.asked == []


def test_without_a_network_what_others_fetched_is_taken(hub, monkeypatch):
    hub.add("owner/name", FILES)
    for name in ("a.json", "b.bin"):
        hf_hub_download("owner/name", name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch().names == ("a.json", "b.bin")
    refusal(SurgeryError, fetch, names=("a.json", "deep/c.txt"))
