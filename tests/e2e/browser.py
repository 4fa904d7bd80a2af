"""Which Chromium the browser tests drive; run as a script, it prints the path or exits with 1."""

import os
import shutil
import sys
from pathlib import Path


def find_chromium() -> str | None:
    """$SURGERY_BROWSER and nothing else where it is set, then the system's Chromium, then Playwright's own."""
    chosen = os.environ.get("SURGERY_BROWSER")
    if chosen:
        return shutil.which(chosen)
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    from playwright.sync_api import sync_playwright  # slow to start: only where the system has none

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


if __name__ == "__main__":
    path = find_chromium()
    if path is None:
        sys.exit(1)
    print(f"browser: {path}")
