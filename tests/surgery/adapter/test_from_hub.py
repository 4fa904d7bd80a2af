"""Adapters on the hub: what is fetched of a repository, under which name it is opened again, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load

from surgery.adapter import open_adapter, refuse_changed
from surgery.errors import AdapterError, ChoiceError
from tests.helpers.hub_server import HubFiles, HubServer
from tests.helpers.refusals import refusal


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def own(small_adapter: Path) -> dict[str, bytes]:
    return files_of(small_adapter)


@pytest.fixture
def nested(hub: HubServer, own: dict[str, bytes], write_adapter, lora_tensors) -> HubFiles:
    """One adapter at the top and two below, of which one is of another rank."""
    other = files_of(write_adapter(lora_tensors({"layers.0.o_proj": (6, 2, 5)}), r=2))
    below = {f"{folder}/{name}": content for folder in ("last", "a/b") for name, content in other.items()}
    return hub.add("owner/name", {**own, **below, "last/chat_template.jinja": b"{{ messages }}"})


def names_read(hub: HubServer) -> set[str]:
    return {path.partition("/resolve/")[2].partition("/")[2] for path in hub.fetched()}


def test_the_source_names_the_commit_and_opens_the_same_again(nested, hub):
    adapter = open_adapter("owner/name")
    assert adapter.source == f"owner/name@{nested.refs['main']}"
    nested.commit({"adapter_config.json": b"{}"})
    hub.asked.clear()
    assert open_adapter(adapter.source).digest == adapter.digest
    assert hub.asked == []
    assert "no weights" in refusal(AdapterError, open_adapter, "owner/name")


@pytest.mark.parametrize("written", ["owner/name/last", "owner/name@main/last", "owner/name/last@main"])
def test_a_folder_of_a_repository_opens_with_nothing_of_its_neighbours(nested, hub, written):
    adapter = open_adapter(written)
    assert adapter.source == f"owner/name@{nested.refs['main']}/last"
    assert [factors.rank for factors in adapter.modules.values()] == [2]
    assert adapter.tokenizer.chat_template == "{{ messages }}"
    assert names_read(hub) == {
        f"last/{n}" for n in ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja")
    }


def test_a_folder_here_of_that_name_is_meant(nested, hub, small_adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(small_adapter)
    assert open_adapter("owner/name").source == "owner/name"
    assert "no folder at" in refusal(AdapterError, open_adapter, "owner/name/last")
    assert hub.asked == []


@pytest.mark.parametrize("folder", ["", "/last"])
def test_weights_as_a_pickle_are_fetched_where_there_are_no_others(hub, own, folder):
    place = folder.removeprefix("/") and "last/"
    held = {f"{place}{name}": content for name, content in own.items()}
    repository = hub.add("owner/name", {**held, f"{place}adapter_model.bin": b"never read"})
    open_adapter(f"owner/name{folder}")
    assert not hub.fetched(".bin")
    repository.commit(
        {name: held[name] for name in held if name.endswith("json")} | {f"{place}adapter_model.bin": b"x"}
    )
    assert "adapter_model.bin" in refusal(AdapterError, open_adapter, f"owner/name{folder}")
    assert len(hub.fetched(".bin")) == 1


def test_adapters_below_are_the_choices_that_a_folder_here_gives_and_each_opens(hub, own):
    hub.add("owner/name", {f"runs/{step}/{name}": content for step in (9, 10) for name, content in own.items()})
    commit = hub.repositories["model", "owner/name"].refs["main"]
    for asked in ("owner/name", "owner/name/runs", f"owner/name@{commit}/runs"):
        with pytest.raises(
            ChoiceError, match=r"holds no adapter itself, but 2 below it: (runs/)?9, (runs/)?10"
        ) as found:
            open_adapter(asked)
        before = asked.removesuffix("/runs")
        assert found.value.choices == (f"{before}/runs/9", f"{before}/runs/10")
        assert found.value.remedy == f"name one of them, such as {before}/runs/10"
        for choice in found.value.choices:
            assert len(open_adapter(choice).modules) == 6


def test_a_folder_that_is_not_there_is_refused(nested):
    assert "has no folder 'first'" in refusal(AdapterError, open_adapter, "owner/name/first")


def test_a_whole_model_is_called_that(hub):
    hub.add("owner/model", {"config.json": b"{}", "model.safetensors": b""})
    message = refusal(AdapterError, open_adapter, "owner/model")
    assert "a whole model and no adapter" in message
    assert not hub.fetched()


def test_files_of_another_kind_are_listed(hub):
    hub.add("owner/other", {"lora.ckpt": b"", "README.md": b""})
    message = refusal(AdapterError, open_adapter, "owner/other")
    assert "it has 'README.md', 'lora.ckpt'" in message


def test_what_comes_goes_through_the_readers_of_every_folder(hub, own):
    config = {**json.loads(own["adapter_config.json"]), "peft_type": "PROMPT_TUNING"}
    hub.add("owner/name", {**own, "adapter_config.json": json.dumps(config).encode()})
    assert "PROMPT_TUNING" in refusal(AdapterError, open_adapter, "owner/name")
    hub.add("owner/broken", {**own, "adapter_model.safetensors": own["adapter_model.safetensors"][:200]})
    assert "cannot be read" in refusal(AdapterError, open_adapter, "owner/broken")


def test_without_download_only_the_cache_is_looked_at(nested, hub):
    message = refusal(AdapterError, open_adapter, "owner/name", download=False)
    assert "is not whole in the cache" in message
    assert hub.asked == []
    source = open_adapter("owner/name").source
    hub.asked.clear()
    assert open_adapter("owner/name", download=False).source == source
    assert hub.asked == []


def test_files_of_the_cache_that_change_are_noticed_and_those_that_go_are_not(nested, tmp_path):
    adapter = open_adapter("owner/name/last")
    refuse_changed(adapter)
    snapshot = next(Path(constants.HF_HUB_CACHE).rglob(nested.refs["main"]))
    config = snapshot / "last" / "adapter_config.json"
    kept = config.resolve()
    content = kept.read_bytes()
    kept.write_bytes(content + b" ")
    assert "have changed since they were opened" in refusal(AdapterError, refuse_changed, adapter)
    kept.write_bytes(content)
    refuse_changed(adapter)
    kept.unlink()
    refuse_changed(adapter)


def test_of_a_pickle_and_shards_the_hub_is_asked_for_what_a_folder_opens(hub, own, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    (both / "adapter_config.json").write_bytes(own["adapter_config.json"])
    torch.save(load(own["adapter_model.safetensors"]), both / "adapter_model.bin")
    (both / "adapter_model-00001-of-00001.safetensors").write_bytes(own["adapter_model.safetensors"])
    hub.add("owner/name", files_of(both))
    assert open_adapter("owner/name").digest == open_adapter(both).digest
    assert not any("00001" in name for name in names_read(hub))
