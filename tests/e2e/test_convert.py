"""A folder of MLX in a real browser: refused, converted where it was refused, and open."""

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import save_file

from surgery import open_adapter
from tests.e2e.driving import fresh, no_message_of_failure, rested


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_mlx_folder_is_converted_where_it_is_refused(
    page: Page, app_url: str, app_home: Path, tmp_path: Path, scheme: str
) -> None:
    rng, folder, name = np.random.default_rng(0), tmp_path / f"mlx-{scheme}", "model.layers.0.self_attn.o_proj"
    folder.mkdir()
    parts = {"lora_a": rng.standard_normal((64, 4)), "lora_b": rng.standard_normal((4, 64))}
    save_file({f"{name}.{k}": v.astype(np.float32) for k, v in parts.items()}, folder / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 20.0}, "model": "owner/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(fresh(app_url))
    rested(page)
    page.get_by_text("Folder", exact=True).click()
    page.get_by_role("textbox", name="Adapter folder").fill(str(folder))
    page.get_by_test_id("stBaseButton-primaryFormSubmit").click()
    expect(page.get_by_text("Make a LoRA of this MLX adapter")).to_be_visible(timeout=20_000)
    page.screenshot(path=tmp_path / "refused.png")
    page.get_by_role("button", name="Convert and open").click()
    expect(page.get_by_text("Converted from MLX")).to_be_visible(timeout=60_000)
    rested(page)
    no_message_of_failure(page)
    page.screenshot(path=tmp_path / "converted.png")
    expect(page.get_by_text(f"mlx-{scheme}-lora").first).to_be_visible()
    overflow = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
    assert list(open_adapter(app_home / "exports" / f"mlx-{scheme}-lora").modules) == [name]
