"""What the page's own scripts paint, told by Node: they run as they are, on a sheet that keeps every call."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "javascript" / "painted.mjs"


def node(*arguments: str, given: str = "") -> str:
    """What Node prints; a test without Node is skipped, except where nothing may be missing."""
    found = shutil.which("node")
    if found is None:
        reason = "no Node found: the page's scripts are not run"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [found, *arguments], input=given, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def painted(figure: str, data: dict[str, Any], **more: Any) -> Any:
    """What `figure` of tests/javascript/painted.mjs tells of the data of a component."""
    return json.loads(
        node(str(SCRIPT), given=json.dumps({"figure": figure, "data": data, **more}, allow_nan=False))
    )
