"""How work that takes long tells how far it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from surgery.errors import Cancelled


def _nobody_asks(*_: object) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Control:
    """Callbacks of whoever waits for the work; a `Control()` tells nobody and never stops.

    begin: called with the name of each step before it starts.
    progress: called with how many units of the step are done, and of how many.
    cancelled: polled between batches; once it is true the work raises `Cancelled`.
    resumed: called with what an earlier run had done of the step, and of how many, before the first new batch.
    """

    begin: Callable[[str], None] = _nobody_asks
    progress: Callable[[int, int], None] = _nobody_asks
    cancelled: Callable[[], bool] = _never
    resumed: Callable[[int, int], None] = _nobody_asks

    def heed(self) -> None:
        """Raise `Cancelled` once the work is to stop."""
        if self.cancelled():
            raise Cancelled

    def part(self, before: int, total: int) -> "Control":
        """The control of a part of the work, whose first unit follows `before` others of `total`."""
        return replace(self, progress=lambda done, _: self.progress(before + done, total))


SILENT = Control()
