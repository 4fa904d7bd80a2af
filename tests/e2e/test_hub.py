"""An adapter of the hub opened in a real browser, from a small hub on this machine."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.driving import Start, fresh, no_message_of_failure, rested, serving
from tests.helpers.hub_server import HubServer, hub_environment
from tests.helpers.models import save_adapter, save_model, tiny_llama


@pytest.fixture(scope="module")
def small_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """An adapter in a folder of its repository, and the base that it names."""
    folder = tmp_path_factory.mktemp("hub")
    server = HubServer()
    adapter = save_adapter(tiny_llama(), folder / "adapter" / "last").parent
    config = adapter / "last" / "adapter_config.json"
    config.write_text(
        config.read_text().replace('"base_model_name_or_path": null', '"base_model_name_or_path": "owner/base"')
    )
    server.add("owner/adapter", adapter)
    server.add("owner/base", save_model(tiny_llama(), folder / "base"), parameters=27_936)
    with server.running():
        yield server


@pytest.fixture(scope="module")
def hub_app(small_hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app's own server, whose hub is the small one."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, **hub_environment(small_hub.url, home / "hf")}
    with serving(home, how=Start(environment=environment)) as url:
        yield url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_adapter_and_its_base_are_opened_by_name(
    page: Page, hub_app: str, small_hub: HubServer, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(fresh(hub_app))
    rested(page)
    page.get_by_text("Hub", exact=True).click()
    field = page.get_by_role("textbox", name="Name on the hub")
    field.fill("owner/adapter")
    page.get_by_test_id("stBaseButton-primaryFormSubmit").first.click()
    expect(page.get_by_text("holds no adapter itself, but 1 below it: last")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Open this one").click()
    commit = small_hub.repositories["model", "owner/adapter"].refs["main"]
    expect(page.get_by_text(f"adapter: owner/adapter@{commit[:7]}/last")).to_be_visible(timeout=30_000)
    rested(page)
    expect(page.get_by_text("The adapter names owner/base as its base model")).to_be_visible()
    expect(page.get_by_text("of weights in 1 file on the hub")).to_be_visible()
    no_message_of_failure(page)
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_text("base: owner/base")).to_be_visible(timeout=20_000)
    assert not [path for path in small_hub.fetched("model.safetensors") if "/owner/base/" in path]
    overflow = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
