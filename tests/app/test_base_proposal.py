"""The base that an adapter names is proposed with its size from the hub's listing, and taken over by a click."""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.base_proposal import look_up_size, named_base, remember_size
from app.state.workspace import workspace_for
from surgery import open_adapter
from surgery.model import BaseChoice
from tests.helpers.hub_server import HubServer

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
BASE = {"config.json": b"{}", "model.safetensors": b"0" * 2_300_000, "tokenizer.json": b"{}"}


def files_with(folder: Path, **config: object) -> dict[str, bytes]:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    settings = {**json.loads(files["adapter_config.json"]), **config}
    return {**files, "adapter_config.json": json.dumps(settings).encode()}


def page_on(source: str) -> AppTest:
    adapter = open_adapter(source)
    remember_size(adapter, look_up_size(adapter))
    test = AppTest.from_file(str(MAIN), default_timeout=60)
    test.session_state["workspace"] = workspace_for(source)
    return test.run()


def captions(test: AppTest) -> str:
    return " ".join(element.value for element in test.caption).replace("\\", "")


def test_the_named_base_is_told_with_its_size_and_chosen_by_a_click(hub: HubServer, small_adapter: Path) -> None:
    hub.add("owner/adapter", files_with(small_adapter, base_model_name_or_path="owner/base", revision="v1"))
    base = hub.add("owner/base", BASE, parameters=1_150_000)
    base.refs["v1"] = base.refs["main"]
    test = page_on("owner/adapter")
    assert "names **owner/base at v1**" in " ".join(element.value for element in test.markdown).replace("\\", "")
    assert (
        "2.3 MB of weights in 1 file on the hub, 1 M parameters. It is fetched when it is first needed."
        in captions(test)
    )
    assert not hub.fetched("model.safetensors")[1:]  # the adapter's own is the one
    next(b for b in test.button if b.label == "Use it").click().run()
    assert test.session_state["workspace"].base == BaseChoice("owner/base", "v1")
    assert not [b for b in test.button if b.label == "Use it"]
    assert all("/owner/base/" not in path for path in hub.fetched())


def test_a_base_that_the_hub_does_not_show_is_told_with_the_way_on(hub: HubServer, small_adapter: Path) -> None:
    hub.add("owner/adapter", files_with(small_adapter, base_model_name_or_path="owner/hidden"))
    assert "The hub does not show it: there is no folder 'owner/hidden' here" in captions(page_on("owner/adapter"))


@pytest.mark.parametrize("name", ["/data/models/base", "../base", "gpt2", "", "a b/c", "x.gguf"])
def test_what_is_no_name_on_the_hub_is_not_proposed(hub: HubServer, small_adapter: Path, name: str) -> None:
    hub.add("owner/adapter", files_with(small_adapter, base_model_name_or_path=name))
    assert named_base(open_adapter("owner/adapter")) is None


@pytest.mark.parametrize("revision", ["../../x", 7, "a b"])
def test_a_revision_that_is_none_is_not_followed(hub: HubServer, small_adapter: Path, revision: object) -> None:
    config = {"base_model_name_or_path": "owner/base", "revision": revision}
    hub.add("owner/adapter", files_with(small_adapter, **config))
    found = named_base(open_adapter("owner/adapter"))
    assert found is None or found.revision is None


def test_the_size_of_any_base_on_the_hub_is_told_without_a_download(hub: HubServer, small_adapter: Path) -> None:
    parts = {f"model-0000{n}-of-00002.safetensors": b"0" * 700_000 for n in (1, 2)}
    index = {"model.safetensors.index.json": b'{"weight_map": {}}'}
    hub.add("owner/base", {"config.json": b"{}", **parts, **index})
    test = AppTest.from_file(str(MAIN), default_timeout=60)
    test.session_state["workspace"] = workspace_for(str(small_adapter))
    test.run()
    next(field for field in test.text_input if field.label.startswith("Model folder")).set_value("owner/base")
    next(b for b in test.button if b.label == "Estimate memory").click().run()
    assert "1.4 MB of weights in 2 files on the hub" in captions(test)
    assert not hub.fetched()
