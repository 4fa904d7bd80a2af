"""What every component of ours starts from: one script joined from its files, and the look of `sheet.css`."""

import re
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent
_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.{1,2}/[^"]+)"\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default\b)", re.MULTILINE)
SHEET_CSS = (_HERE / "sheet.css").read_text(encoding="utf-8") + "\n"


def component(name: str, folder: Path, stem: str) -> Any:
    """The component that `stem`.html, `stem`.css and `stem`.mjs in `folder` make, with the look of a sheet."""
    return st.components.v2.component(
        name,
        html=(folder / f"{stem}.html").read_text(encoding="utf-8"),
        css=SHEET_CSS + (folder / f"{stem}.css").read_text(encoding="utf-8"),
        js=script_of(folder / f"{stem}.mjs"),
    )


def script_of(entry: Path) -> str:
    """The script of a component as one text: `entry` behind all files that it imports, each once.

    A component is sent as one string and can import nothing there. Its files are modules all the same, so
    that tests and the linter read each of them as it is. Their names share one scope here, and a name that
    two files define is a syntax error.
    """
    joined: dict[Path, str] = {}
    _join(entry.resolve(), joined)
    return "\n".join(joined.values())


def _join(file: Path, joined: dict[Path, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for name in _IMPORT.findall(text):
        found = (file.parent / name).resolve()
        if found not in joined:
            _join(found, joined)
    joined[file] = _EXPORT.sub("", _IMPORT.sub("", text))
