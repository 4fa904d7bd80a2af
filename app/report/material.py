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
    """A finished run, its evaluation, and the edits that it proves.

    `subject` names the first of these edits, empty without one. `edits` are all of them by name, the subject first, each
    made again or the reason why it could not be; `why` is the reason where none could. `spectra` are of the modules of
    the adapter, by name; empty without the adapter.
    """

    run: Run
    evaluation: Evaluation
    subject: str = ""
    edits: Mapping[str, EditMadeAgain | str] = field(default_factory=dict)
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
    names = sorted(run.plan.edits, key=lambda name: name != EDIT)  # stable: the others in the run's order
    if not names:
        return Material(run, found, why="the run does not say how its variants were made")
    try:
        adapter = open_adapter(run.plan.adapter)
        if adapter.digest != run.plan.adapter_digest:
            raise DataError(
                f"{run.plan.adapter!r} is another version than the adapter of this run", "put the earlier one back"
            )
        spectra = decompose(adapter)
    except SurgeryError as error:
        return Material(run, found, names[0], why=str(error))
    return Material(run, found, names[0], {name: _made_again(run, name, spectra) for name in names}, spectra)


def _made_again(run: Run, name: str, spectra: Spectra) -> EditMadeAgain | str:
    try:
        return made_again(run, name, spectra)
    except SurgeryError as error:
        return str(error)
