"""What every component of ours starts from: the drawing surfaces of `sheet.js` and the look of `sheet.css`."""

from pathlib import Path

_HERE = Path(__file__).parent
SHEET_JS = (_HERE / "sheet.js").read_text(encoding="utf-8") + "\n"
SHEET_CSS = (_HERE / "sheet.css").read_text(encoding="utf-8") + "\n"
