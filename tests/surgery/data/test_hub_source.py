"""Datasets of the hub: their names, their files in the cache, and what is refused without a network."""

import json
import socket

import pytest

from surgery.data import (
    HubSource,
    NotFetchedError,
    parse_hub,
    read_source,
)
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import QA, write_lines

COMMIT = "c0ffee" + 34 * "0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:openai/gsm8k/main:train", HubSource("openai/gsm8k", "train", "main")),
        ("hub:owner/name:test", HubSource("owner/name", "test")),
        ("hub:owner/name", HubSource("owner/name", "train")),
        ("hub:owner/name@abc123/c:test", HubSource("owner/name", "test", "c", "abc123")),
        ("hub:squad:validation", HubSource("squad", "validation")),
        ("hub:squad@main/v2:validation", HubSource("squad", "validation", "v2", "main")),
        ("hub:/a/b c/d:train", HubSource("/a/b c/d", "train")),
    ],
)
def test_a_hub_source_is_read_and_written(text, expected):
    assert parse_hub(text) == expected
    assert parse_hub(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["hub:", "hub::train", "hub:a/b/c/d:train", "hub:a b:train", "hub:../x@y z/:", "hub:a/b:"]
)
def test_a_hub_source_that_names_no_dataset_is_refused(text):
    refusal(DataError, read_source, text, download=False)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A cache as huggingface_hub keeps it, with one dataset in two configurations."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    storage = tmp_path / "hub" / "datasets--owner--name"
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text(COMMIT)
    folder = storage / "snapshots" / COMMIT
    for config in ("main", "socratic"):
        for split in ("train", "test"):
            records = [{"question": f"{config} {split} {i}", "answer": str(i)} for i in range(3)]
            write_lines(folder / config / f"{split}-00000-of-00001.jsonl", records)
    return folder


def test_a_cached_dataset_is_read_without_a_network(hub_cache, monkeypatch):
    def offline(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    found = read_source("hub:owner/name/socratic:test", QA)
    assert [row.prompt for row in found.rows] == [f"socratic test {i}" for i in range(3)]
    assert read_source(f"hub:owner/name@{COMMIT}/main:train", QA, download=False).rows[0].prompt == "main train 0"


def test_files_that_could_be_two_configurations_are_not_guessed(hub_cache):
    with pytest.raises(DataError):
        read_source("hub:owner/name:test", QA, download=False)
    assert "'main', 'socratic'" in refusal(DataError, read_source, f"hub:{hub_cache}:test", QA)


def test_the_card_of_a_dataset_says_which_files_are_a_split(hub_cache):
    write_lines(hub_cache / "data" / "a.jsonl", [{"question": "a", "answer": "1"}])
    write_lines(hub_cache / "data" / "b.jsonl", [{"question": "b", "answer": "2"}])
    (hub_cache / "README.md").write_text(
        "---\nconfigs:\n- config_name: both\n  default: true\n  data_files:\n  - split: train\n    path: data/*\n"
        "- config_name: one\n  data_files:\n  - split: train\n    path: [data/b.jsonl]\n---\n# x\n"
    )
    assert [row.prompt for row in read_source("hub:owner/name:train", QA, download=False).rows] == ["a", "b"]
    assert [row.prompt for row in read_source("hub:owner/name/one:train", QA, download=False).rows] == ["b"]
    assert "use one of train" in refusal(DataError, read_source, f"hub:{hub_cache}:test", QA)
    assert "use one of both, one" in refusal(DataError, read_source, "hub:owner/name/two:train", QA)


def test_a_split_with_a_lacking_shard_counts_as_absent(hub_cache):
    write_lines(hub_cache / "main" / "extra-00001-of-00002.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(NotFetchedError):
        read_source("hub:owner/name/main:extra", QA, download=False)
    write_lines(hub_cache / "main" / "extra-00000-of-00002.jsonl", [{"question": "p", "answer": "a"}])
    assert [r.prompt for r in read_source("hub:owner/name/main:extra", QA, download=False).rows] == ["p", "q"]


def test_without_a_network_an_absent_dataset_is_refused_with_the_way_on(hub_cache, monkeypatch):
    def offline(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    message = refusal(DataError, read_source, "hub:other/name:train")
    assert "'other/name' is not in the cache, and the hub cannot be reached" in message
    assert "name a folder with a copy of its files" in message
    assert len(read_source(f"{hub_cache / 'main'}:train", QA).rows) == 3
    with pytest.raises(NotFetchedError):
        read_source("hub:other/name:train", download=False)


def test_a_dataset_is_fetched_by_its_card_and_no_file_more(hub):
    card = (
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n---\n# x\n"
    )
    names = [
        "main/train-00000-of-00002.jsonl",
        "main/train-00001-of-00002.jsonl",
        "main/test-00000-of-00001.jsonl",
    ]
    lines = {name: json.dumps({"question": name, "answer": "1"}).encode() + b"\n" for name in names}
    hub.add("new/name", {"README.md": card.encode(), "x.py": b"raise SystemExit", **lines}, "dataset")
    found = read_source("hub:new/name:train", QA)
    assert [row.prompt for row in found.rows] == names[:2]
    assert sorted(path.partition("/resolve/")[2].partition("/")[2] for path in hub.fetched()) == [
        "README.md",
        *names[:2],
    ]
    hub.asked.clear()
    assert len(read_source("hub:new/name:train", QA).rows) == 2
    assert hub.asked == []


def test_a_split_that_was_not_fetched_is_asked_for_and_one_that_is_not_there_is_named(hub):
    lines = {
        f"{split}.jsonl": json.dumps({"question": split, "answer": "1"}).encode() for split in ("train", "test")
    }
    hub.add("new/name", lines, "dataset")
    read_source("hub:new/name:train", QA)
    with pytest.raises(NotFetchedError):
        read_source("hub:new/name:test", QA, download=False)
    assert read_source("hub:new/name:test", QA).rows[0].prompt == "test"
    assert "there are 'test.jsonl', 'train.jsonl'" in refusal(
        DataError, read_source, "hub:new/name:validation", QA
    )


def test_a_dataset_without_an_owner_is_one(hub):
    hub.add("rows", {"train.jsonl": json.dumps({"question": "q", "answer": "1"}).encode()}, "dataset")
    assert read_source("hub:rows:train", QA).rows[0].prompt == "q"
