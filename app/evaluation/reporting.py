"""The button that gives a run as one HTML file."""

from functools import partial
from typing import Any

from app.report import report_html
from surgery.evaluation import Evaluation
from surgery.runs import Run

_HELP = (
    "Verdict, tables, live figures, the edit, answers, recipe and digests in one file of a few MB. It opens in a browser "
    "without network: surgery report RUN writes the same."
)


def report_button(cell: Any, proven: tuple[Run, Evaluation] | None, key: str) -> None:
    """The report of a run that has ended, made when it is asked for; without one the button waits."""
    run = proven[0] if proven is not None else None
    cell.download_button(
        "Report",
        partial(report_html, *proven) if proven is not None else b"",
        f"report-{run.plan.key}.html" if run is not None else "report.html",
        "text/html",
        on_click="ignore",
        key=f"report-{key}",
        icon=":material/summarize:",
        help=_HELP,
        disabled=proven is None,
        width="stretch",
    )
