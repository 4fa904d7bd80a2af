"""Data for the script of a report: packed, so that it is small, and so that no text of a file stands in the page's HTML."""

import base64
import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import plotly

_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def packed(data: Any) -> str:
    """JSON, compressed and in base64; the same data give the same text."""
    return _packed(json.dumps(data, separators=(",", ":"), allow_nan=False).encode())


@lru_cache(maxsize=1)
def plotly_script() -> tuple[str, str]:
    """plotly.js as it comes with plotly, and the same packed: a third of its 4.8 MB."""
    text = _PLOTLY.read_text(encoding="utf-8")
    return text, _packed(text.encode())


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
