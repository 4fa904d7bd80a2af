"""The one family of errors a user can cause.

Every message says what arrived, why it is refused and what to do instead, on one line: the app
shows it as a message, the command line prints it and exits with code 2.
"""

import copyreg
from collections.abc import Sequence
from typing import Any

_LONGEST = 1200  # of either half: what arrived may be megabytes of a file


class SurgeryError(ValueError):
    """A request that cannot be carried out, with the way forward."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = _one_line(problem)
        self.remedy = _one_line(remedy)
        super().__init__(f"{self.problem} → {self.remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        # as an exception is pickled by default, its constructor would be given the joined line alone
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def _one_line(text: str) -> str:
    line = " ".join(text[: 2 * _LONGEST].split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def first_line(error: BaseException, *, kind: bool = False) -> str:
    """The first line of what another library raised, at most 160 letters; its class where it says nothing.

    With `kind` the class stands in front of it.
    """
    name, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return name
    return f"{name}: {lines[0][:160]}" if kind else lines[0][:160]


class AdapterError(SurgeryError):
    """The files are not a LoRA adapter that can be edited exactly."""


class ChoiceError(AdapterError):
    """There are several adapters, or one elsewhere, where one was to be named.

    `choices` are those that can be opened, in the words that open them.
    """

    def __init__(self, problem: str, remedy: str, choices: Sequence[str] = ()) -> None:
        super().__init__(problem, remedy)
        self.choices = tuple(choices)


class BaseModelError(SurgeryError):
    """The base model cannot be loaded or does not fit the adapter."""


class RowsMixedError(BaseModelError):
    """A layer cannot tell the rows of a batch apart; one example at a time goes through."""


class DataError(SurgeryError):
    """Calibration or evaluation rows cannot be used."""


class PolicyError(SurgeryError):
    """A policy, a knob, a scope or an energy rule that does not exist or is out of range."""


class RecipeError(SurgeryError):
    """A recipe that cannot be read or does not fit what it is applied to."""


class SweepError(SurgeryError):
    """A sweep that cannot be read, or not be run where it was asked for."""


class ExportError(SurgeryError):
    """A folder that cannot be written or did not verify after writing."""


class Cancelled(Exception):
    """Raised inside long work when its cancel flag is set; never shown as an error."""
