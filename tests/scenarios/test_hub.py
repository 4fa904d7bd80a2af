"""The hub's own client against a small hub: adapters, datasets and bases are fetched, and refused, in the same way."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, file_download

from surgery.adapter import open_adapter
from surgery.data import read_source
from surgery.errors import AdapterError, BaseModelError, DataError, SurgeryError
from surgery.model import BaseChoice, load_base
from tests.helpers.hub_server import TOKEN, HubFiles, HubServer
from tests.helpers.models import save_model, tiny_llama
from tests.helpers.refusals import refusal

ROWS = [{"prompt": f"{n} + 1 =", "answer": str(n + 1)} for n in range(60)]


@dataclass(frozen=True)
class Kind:
    """Something that is fetched: the files of its repository, the large one, and what opens it by name and revision.

    `opened` gives what tells the content that was read.
    """

    name: str
    files: Mapping[str, bytes]
    large: str
    refusal: type[SurgeryError]
    opened: Callable[..., Any]
    wanted: frozenset[str]


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_llama(), tmp_path_factory.mktemp("base"))


@pytest.fixture(params=["adapter", "dataset", "base"])
def kind(request: pytest.FixtureRequest, small_adapter: Path, base_folder: Path) -> Kind:
    def files_of(folder: Path) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    other = {"README.md": b"# x\n", "train.py": b"raise SystemExit\n", "optimizer.bin": b"0" * 5000}
    if request.param == "adapter":
        own = {**files_of(small_adapter), "tokenizer_config.json": b"{}"}
        return Kind(
            "adapter",
            {**other, **own},
            "adapter_model.safetensors",
            AdapterError,
            lambda name, revision="": open_adapter(f"{name}@{revision}" if revision else name).digest,
            frozenset(own),
        )
    if request.param == "dataset":
        rows = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        return Kind(
            "dataset",
            {**other, "train.jsonl": rows, "test.jsonl": rows[:100]},
            "train.jsonl",
            DataError,
            lambda name, revision="": [
                row.answer for row in read_source(f"hub:{name}{revision and '@' + revision}:train").rows
            ],
            frozenset({"README.md", "train.jsonl"}),
        )
    own = files_of(base_folder)
    return Kind(
        "base",
        {**other, **own},
        "model.safetensors",
        BaseModelError,
        lambda name, revision="": load_base(BaseChoice(name, revision or None)).fingerprint,
        frozenset(own),
    )


@pytest.fixture
def repository(hub: HubServer, kind: Kind) -> HubFiles:
    return hub.add("owner/name", kind.files, "dataset" if kind.name == "dataset" else "model")


@pytest.fixture
def local(kind: Kind, small_adapter: Path, base_folder: Path) -> Any:
    """What the same content gives from a folder here."""
    if kind.name == "adapter":
        return open_adapter(small_adapter).digest
    return [row["answer"] for row in ROWS] if kind.name == "dataset" else load_base(str(base_folder)).fingerprint


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits a second before each of the tries after a cut."""
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))


def test_the_first_time_what_is_needed_is_fetched_and_the_second_time_nothing(kind, repository, hub, local):
    assert kind.opened("owner/name") == local
    assert {path.rpartition("/")[2] for path in hub.fetched()} == kind.wanted
    hub.asked.clear()
    assert kind.opened("owner/name") == local
    assert not [asked for asked in hub.asked if "/resolve/" in asked.path]
    hub.asked.clear()
    assert kind.opened("owner/name", repository.refs["main"]) == local
    assert hub.asked == []


def test_a_private_repository_opens_with_a_token(kind, repository, hub, local, monkeypatch):
    repository.private = True
    message = refusal(kind.refusal, kind.opened, "owner/name")
    assert "or it is private" in message
    assert "set HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert kind.opened("owner/name") == local


def test_a_token_that_the_hub_does_not_know_is_named(kind, repository, hub, local, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_outdated")
    assert "does not accept this machine's token" in refusal(kind.refusal, kind.opened, "owner/name")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert kind.opened("owner/name") == local


def test_a_gated_repository_says_where_to_ask_for_access(kind, repository, hub, local, monkeypatch):
    repository.gated, repository.admitted = True, False
    page = f"{hub.url}/{'datasets/' if kind.name == 'dataset' else ''}owner/name"
    for token in (None, TOKEN):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        message = refusal(kind.refusal, kind.opened, "owner/name")
        assert "is gated" in message
        assert f"ask for access on {page}" in message
    repository.admitted = True
    assert kind.opened("owner/name") == local


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_repository_that_is_not_there_is_refused(kind, hub, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = refusal(kind.refusal, kind.opened, "owner/nothing")
    assert "'owner/nothing' on the hub" in message
    assert "check the name" in message


def test_a_revision_that_is_not_there_is_left_out(kind, repository, local):
    message = refusal(kind.refusal, kind.opened, "owner/name", "later")
    assert "has no revision 'later'" in message
    assert "leave the revision out" in message
    assert kind.opened("owner/name") == local


def test_a_connection_that_is_cut_for_good_is_refused_and_nothing_half_is_kept(
    kind, repository, local, no_waiting
):
    repository.faults[kind.large] = "cut"
    message = refusal(kind.refusal, kind.opened, "owner/name")
    assert "was cut" in message
    assert "try again" in message
    repository.faults.clear()
    assert kind.opened("owner/name") == local


def test_a_connection_that_is_cut_once_goes_on_where_it_was(kind, repository, hub, local, no_waiting, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 256)  # ten megabytes, which no file here has
    repository.faults[kind.large] = "cut once"
    assert kind.opened("owner/name") == local
    half = len(kind.files[kind.large]) // 2
    assert [asked.range for asked in hub.asked if asked.range] == [f"bytes={half - half % 256}-"]


@pytest.mark.parametrize("fault", ["longer", "other bytes"])
def test_what_is_not_what_the_hub_lists_is_refused_and_not_kept(kind, repository, local, fault):
    repository.faults[kind.large] = fault
    message = refusal(kind.refusal, kind.opened, "owner/name")
    assert ("another length" if fault == "longer" else "other bytes than the hub lists") in message
    assert "try again" in message
    repository.faults.clear()
    assert kind.opened("owner/name") == local


def test_a_file_that_lies_elsewhere_is_fetched_without_the_token(
    kind, repository, hub, elsewhere, local, monkeypatch
):
    repository.private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    elsewhere.add("some/store", kind.files)
    repository.faults[kind.large] = f"{elsewhere.url}/some/store/resolve/main/{kind.large}"
    assert kind.opened("owner/name") == local
    assert [asked.token for asked in elsewhere.asked] == [None]
    assert {asked.token for asked in hub.asked} == {TOKEN}


def test_other_bytes_from_elsewhere_are_refused(kind, repository, elsewhere, local):
    content = kind.files[kind.large]
    elsewhere.add("some/store", {kind.large: bytes(byte ^ 1 for byte in content)})
    repository.faults[kind.large] = f"{elsewhere.url}/some/store/resolve/main/{kind.large}"
    assert "other bytes than the hub lists" in refusal(kind.refusal, kind.opened, "owner/name")
    repository.faults.clear()
    assert kind.opened("owner/name") == local


def test_who_is_sent_elsewhere_to_ask_takes_no_token_there_and_no_other_files(
    kind, repository, hub, elsewhere, local, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    changed = {**kind.files, "README.md": b"another commit\n"}
    elsewhere.add("owner/name", changed, "dataset" if kind.name == "dataset" else "model")
    hub.moved = elsewhere.url
    refusal(kind.refusal, kind.opened, "owner/name")
    assert {asked.token for asked in elsewhere.asked} == {None}
    hub.moved = ""
    assert kind.opened("owner/name") == local


def test_offline_what_is_in_the_cache_opens_and_all_else_says_what_forbids_it(
    kind, repository, hub, local, monkeypatch
):
    kind.opened("owner/name")
    hub.add("other/name", kind.files, "dataset" if kind.name == "dataset" else "model")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert kind.opened("owner/name") == local
    assert kind.opened("owner/name", repository.refs["main"]) == local
    message = refusal(kind.refusal, kind.opened, "other/name")
    assert "'other/name' is not in the cache, and HF_HUB_OFFLINE forbids" in message
    assert "unset HF_HUB_OFFLINE" in message
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert kind.opened("other/name") == local


@pytest.mark.parametrize("fault", ["no server", 500, 503])
def test_where_the_hub_does_not_answer_the_cache_does(kind, repository, hub, local, fault, monkeypatch):
    kind.opened("owner/name")
    if fault == "no server":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        hub.fails = fault
    assert kind.opened("owner/name") == local
    message = refusal(kind.refusal, kind.opened, "other/name")
    assert ("cannot be reached" if fault == "no server" else f"({'Server error'} '{fault}") in message


def test_a_newer_commit_is_fetched_and_an_older_one_stays(kind, repository, hub, local):
    kind.opened("owner/name")
    before = repository.refs["main"]
    repository.commit({**kind.files, "README.md": b"# newer\n"})
    hub.asked.clear()
    assert kind.opened("owner/name", before) == local
    assert hub.asked == []
