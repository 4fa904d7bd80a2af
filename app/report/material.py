"""What a report is made from: a finished run, its evaluation, and its edit where that can be made again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import plotly.graph_objects as go

from app.report.markup import Html
from surgery.adapter import open_adapter
from surgery.errors import DataError, SurgeryError
from surgery.evaluation import Evaluation, EvaluationSummary, summarise
from surgery.experiments import EDIT, EditMadeAgain, made_again
from surgery.runs import Run
from surgery.spectra import Spectra, decompose


@dataclass(frozen=True)
class Material:
    """A finished run, its evaluation, and the edit that it proves.

    `subject` names that edit, the first of the run's, empty without one. `edit` is None where it could not be made
    again, and `why` then says why. `spectra` are of the modules of the adapter, by name; empty without the adapter.
    """

    run: Run
    evaluation: Evaluation
    subject: str = ""
    edit: EditMadeAgain | None = None
    spectra: Spectra = field(default_factory=dict)
    why: str = ""

    @cached_property
    def summary(self) -> EvaluationSummary:
        """The run in numbers, bootstrapped once for all sections."""
        return summarise(self.evaluation)


@dataclass(frozen=True)
class Part:
    """What one section puts into the report: HTML, figures by the name of their place, packed data for the script."""

    html: Html
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A section: its anchor, its heading, and what makes its part; None where a run has nothing of it."""

    name: str
    title: str
    part: Callable[[Material], Part | None]


def material_of(run: Run, evaluation: Evaluation | None = None) -> Material:
    """What this machine knows of a run; raises `DataError` for one that has not ended or whose files were changed.

    evaluation: the run's own, where it has been read already.
    """
    found = run.evaluation if evaluation is None else evaluation
    subject = EDIT if EDIT in run.plan.edits else next(iter(run.plan.edits), "")
    if not subject:
        return Material(run, found, why="the run does not say how its variants were made")
    try:
        adapter = open_adapter(run.plan.adapter)
        if adapter.digest != run.plan.adapter_digest:
            raise DataError(
                f"{run.plan.adapter!r} is another version than the adapter of this run", "put the earlier one back"
            )
        spectra = decompose(adapter)
        return Material(run, found, subject, made_again(run, subject, spectra), spectra)
    except SurgeryError as error:
        return Material(run, found, subject, why=str(error))
