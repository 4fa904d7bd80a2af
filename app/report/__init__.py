"""A finished run as one HTML file that needs no network: what was found, from what, and how to find it again.

It stands in the app because it needs both what the method computes and what `viz` draws; it needs no Streamlit.
`surgery report` and the Evaluate page write the same file.
"""

from pathlib import Path

from app.report.material import material_of
from app.report.page import page
from app.report.sections import SECTIONS
from surgery.errors import ExportError
from surgery.evaluation import Evaluation
from surgery.files import write_problem, write_whole
from surgery.runs import Run

__all__ = ["report_html", "write_report"]


def report_html(run: Run, evaluation: Evaluation | None = None) -> str:
    """The report of a run; the same files on a machine give the same text.

    evaluation: the run's own, where it has been read already.

    Raises `DataError` for a run that has not ended or whose files were changed.
    """
    return page(material_of(run, evaluation), SECTIONS)


def write_report(run: Run, file: Path) -> int:
    """Write the report of a run, whole or not at all, over what is there; returns its bytes.

    Raises `DataError` as `report_html` does, and `ExportError` where the file cannot be written.
    """
    data = report_html(run).encode()
    try:
        write_whole(file, data)
    except OSError as error:
        raise ExportError(
            f"the report cannot be written to {str(file)!r} ({write_problem(error, len(data))})",
            "name a file in a folder of yours with --out",
        ) from error
    return len(data)
