"""How work that takes long tells how far it is."""

import time
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
    tokens: called by work of a model with how many tokens are read and written, and of how many that are expected:
        before the first batch with those of an earlier run, and then after every forward pass. It rises to the total
        and reaches it when all is done.
    """

    begin: Callable[[str], None] = _nobody_asks
    progress: Callable[[int, int], None] = _nobody_asks
    cancelled: Callable[[], bool] = _never
    resumed: Callable[[int, int], None] = _nobody_asks
    tokens: Callable[[int, int], None] = _nobody_asks

    def heed(self) -> None:
        """Raise `Cancelled` once the work is to stop."""
        if self.cancelled():
            raise Cancelled

    def part(self, before: int, total: int) -> "Control":
        """The control of a part of the work, whose first unit follows `before` others of `total`.

        What tokens the other parts have is not known, so it tells of none.
        """
        return replace(self, progress=lambda done, _: self.progress(before + done, total), tokens=_nobody_asks)


SILENT = Control()


class Pace:
    """How fast a step goes by its tokens, for whoever shows it; told as `Control.tokens` is.

    clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self.begin()

    def begin(self) -> None:
        """Another step begins."""
        self._started: float | None = None
        self._before = self.done = self.total = 0

    def tokens(self, done: int, total: int) -> None:
        if self._started is None or done < self.done:
            self._started, self._before = self._clock(), done
        self.done, self.total = done, total

    @property
    def share(self) -> float:
        """What part of the step is done, from 0 to 1; 0 before that is known."""
        return self.done / self.total if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace so far; None before anything was done."""
        here = self.done - self._before
        if self._started is None or here <= 0:
            return None
        return (self._clock() - self._started) / here * (self.total - self.done)

    def __str__(self) -> str:
        """How far it is and how long it still takes; empty where no tokens are told, or all are done."""
        if not self.total or self.done >= self.total:
            return ""
        left = self.seconds_left
        return f"{self.share:.0%} of the tokens" + ("" if left is None else f", about {duration(left)} left")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
