"""A cut of rank under a person's hand: what it keeps, opened on the board, and its form on the Export page."""

from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Page, expect

from surgery.adapter import open_adapter
from tests.e2e.driving import go, no_message_of_failure, rested

SOON = 60_000


def test_a_cut_is_compared_opened_on_the_board_and_written_smaller(
    page: Page, app_url: str, app_home: Path
) -> None:
    name = uuid4().hex[:12]
    page.goto(f"{app_url}/surgery?w={name}")
    rested(page)
    expect(page.locator(".board select").first).to_be_visible(timeout=SOON)
    page.get_by_text("What a cut keeps").click()
    expect(page.get_by_text("Module by module")).to_be_visible(timeout=SOON)
    page.get_by_role("button", name="Open on the board").click()
    expect(page.locator('.board [data-role="step"]')).to_contain_text("ε-PARA", timeout=SOON)
    rested(page)
    no_message_of_failure(page)

    go(page, "Export")
    smaller = page.get_by_text("smaller, each module at its own rank")
    expect(smaller).to_be_visible(timeout=SOON)
    smaller.click()
    page.get_by_role("button", name="Write and verify").click()
    expect(page.get_by_text("Written, read back and compared")).to_be_visible(timeout=SOON)
    expect(page.get_by_text("vLLM takes it from --max-lora-rank")).to_be_visible()
    no_message_of_failure(page)
    (folder,) = (file.parent for file in app_home.rglob("adapter_config.json") if "rank" in file.parent.name)
    written, original = open_adapter(folder), open_adapter("demo:kinship")
    assert sum(f.parameters for f in written.modules.values()) < 0.9 * sum(
        f.parameters for f in original.modules.values()
    )
