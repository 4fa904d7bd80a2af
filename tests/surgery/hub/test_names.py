"""What names something on the hub, and what names a path here."""

import pytest
from huggingface_hub import constants

from surgery.errors import AdapterError
from surgery.hub import HubName, Repository, hub_name, is_commit
from tests.helpers.refusals import refusal

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", HubName(Repository("owner/name"))),
        ("owner/name@v1.0", HubName(Repository("owner/name", "v1.0"))),
        ("owner/name/checkpoint-500", HubName(Repository("owner/name"), "checkpoint-500")),
        ("owner/name@main/a/b c", HubName(Repository("owner/name", "main"), "a/b c")),
        ("owner/name/a/b@main", HubName(Repository("owner/name", "main"), "a/b")),
        (f"owner/na.me-1_2@{COMMIT}", HubName(Repository("owner/na.me-1_2", COMMIT))),
        ("owner/name@refs/pr/12/a", HubName(Repository("owner/name", "refs/pr/12"), "a")),
        ("owner/name/" + "x" * 300, HubName(Repository("owner/name"), "x" * 300)),
        ("owner/name@feature%2Fx/a", HubName(Repository("owner/name", "feature/x"), "a")),
    ],
)
def test_a_name_is_read_and_written(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name(text, AdapterError) == expected
    assert hub_name(str(expected), AdapterError) == expected


@pytest.mark.parametrize(
    "text",
    [
        "demo:kinship",
        "name",
        "/owner/name",
        "./owner/name",
        "~/owner/name",
        "../owner/name",
        "owner/..",
        "owner/a..b",
        "owner//name",
        "owner/name/",
        "owner\\name",
        "owner/name.zip",
        "owner/name/adapter_model.safetensors",
        "owner/base.gguf",
        "owner/a--b",
        "ówner/name",
        "owner/name@",
        "owner/name\n",
        "o/n/" + "x" * 500,
        "o" * 300 + "/n",
    ],
)
def test_a_path_or_another_word_is_no_name(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name(text, AdapterError) is None


def test_what_lies_here_is_meant_before_what_lies_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert hub_name("runs/one", AdapterError) is None
    assert hub_name("runs/one/checkpoint-5", AdapterError) is None
    assert hub_name("runs/two", AdapterError) is not None


@pytest.mark.parametrize("text", ["owner/name/../x", "owner/name/a/..", "owner/name@main/./x", "owner/name/a\\b"])
def test_a_folder_that_leads_out_of_its_repository_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(AdapterError, hub_name, text, AdapterError)
    assert "leads out of 'owner/name'" in message
    assert "name a folder inside" in message


def test_two_revisions_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "two revisions" in refusal(AdapterError, hub_name, "owner/name@a/b@c", AdapterError)


@pytest.mark.parametrize("revision", ["", "main", "v1.0", "refs/pr/1", "a/b", COMMIT])
def test_a_revision_as_git_names_them_is_sound(revision):
    assert Repository("owner/name", revision).is_sound


@pytest.mark.parametrize("revision", ["..", "a/../b", "../../x", "/x", "a//b", ".git", "a..b", "x\n", "a b"])
def test_a_revision_that_could_leave_the_cache_is_not(revision):
    assert not Repository("owner/name", revision).is_sound


def test_a_commit_is_forty_digits():
    assert is_commit(COMMIT)
    assert not any(map(is_commit, (None, "", "main", COMMIT[:39], COMMIT.upper(), COMMIT + "\n")))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("{hub}/owner/name", "owner/name"),
        ("{hub}/owner/name/tree/main", "owner/name@main"),
        ("{hub}/owner/name/tree/v1/a/b", "owner/name@v1/a/b"),
        ("{hub}/owner/name/blob/main/a/adapter_config.json", "owner/name@main/a"),
        ("{hub}/owner/name/resolve/main/adapter_model.safetensors?download=true", "owner/name@main"),
        ("hf://owner/name@v1/a", "owner/name@v1/a"),
    ],
)
def test_the_address_of_a_page_is_the_name_that_it_shows(address, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert str(hub_name(address.format(hub=constants.ENDPOINT), AdapterError)) == expected


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:9/datasets/owner/name", "the address of a dataset"),
        ("http://127.0.0.1:9/owner", "no address of a model"),
        ("https://example.org/owner/name", "no address of a model"),
        ("http://127.0.0.1:9/owner/name/tree/main/a/../../b", "leads out of"),
    ],
)
def test_another_address_is_refused(address, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = refusal(AdapterError, hub_name, address, AdapterError)
    assert words in message
    assert "owner/name" in message
