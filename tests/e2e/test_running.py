"""What runs is seen wherever one goes, also in a second tab, and the page that waits fills by itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from app.state.saved import record_of
from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.data import CalibrationPlan
from surgery.model import BaseChoice
from tests.e2e.driving import LONG, go, no_message_of_failure, rested
from tests.helpers.models import save_adapter, save_model, tiny_llama


@pytest.fixture
def tiny(tmp_path: Path, app_home: Path) -> Iterator[str]:
    """The id of a workspace on a tiny base of its own, with rows that take some seconds to measure."""
    save_model(tiny_llama(), tmp_path / "base")
    adapter = open_adapter(str(save_adapter(tiny_llama(), tmp_path / "adapter")))
    rows = [json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a in range(20) for b in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    plan = CalibrationPlan(str(tmp_path / "rows.jsonl"), 400, batch_size=1)
    workspace = Workspace(adapter, decompose(adapter), BaseChoice(str(tmp_path / "base")), plan)
    name = uuid4().hex[:12]
    record: dict[str, Any] = record_of(workspace)
    folder = app_home / "workspaces"
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    yield name
    for file in set(folder.iterdir()) - before:  # so that no later visit opens them, or copies of them
        file.unlink()


def test_a_calibration_started_on_the_surgery_page_is_seen_everywhere_and_fills_pages_and_tabs(
    page: Page, app_url: str, tiny: str
) -> None:
    page.goto(f"{app_url}/surgery?w={tiny}")
    rested(page)
    page.get_by_role("button", name="Calibrate with these settings").click()
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible(timeout=30_000)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("button", name="Stop", exact=True)).to_be_visible(timeout=30_000)
    go(page, "Export")
    expect(stop).to_have_count(1)
    expect(page.get_by_text("this page fills by itself")).to_be_visible()
    expect(page.get_by_role("button", name="Write and verify")).to_be_visible(timeout=LONG)
    expect(stop).to_have_count(0)
    no_message_of_failure(page)
    expect(other.locator(".board .numbers dd").first).to_contain_text("±", timeout=LONG)
    other.close()
