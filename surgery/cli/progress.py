"""Progress of a command on standard error."""

import sys
import time
from contextlib import suppress

from surgery.progress import Control, Pace

# seconds between two lines of progress that say the same but for the time left
_EVERY_TERMINAL, _EVERY_LINE = 0.2, 30.0


def progress_reporter(step: str = "") -> Control:
    """Progress on standard error: one line a step, rewritten in place on a terminal. `step` is the first."""
    reporter = _Reporter(step)
    return Control(begin=reporter.begin, progress=reporter.progress, tokens=reporter.tokens)


class _Reporter:
    """Writes a line for each tenth and each half minute where there is no terminal, and at most five a second on one."""

    def __init__(self, step: str) -> None:
        self._terminal, self._pace = sys.stderr.isatty(), Pace()
        self.begin(step)

    def begin(self, step: str) -> None:
        self._step, self._done, self._total = step, 0, 0
        self._pace.begin()
        self._shown: object = None
        self._written = 0.0

    def progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._write((self._step, 10 * done // max(total, 1)))

    def tokens(self, done: int, total: int) -> None:
        self._pace.tokens(done, total)
        self._write(self._shown)

    def _write(self, mark: object) -> None:
        """Write the line where there is something new in it; `mark` tells what is."""
        now = time.monotonic()
        ended = self._done == self._total
        waited = now - self._written >= (_EVERY_TERMINAL if self._terminal else _EVERY_LINE)
        if (self._shown is None and mark is None) or (mark == self._shown and (ended or not waited)):
            return
        left = f", {self._pace}" if str(self._pace) and not ended else ""
        line = f"{self._step}: {self._done}/{self._total}{left}"
        if self._terminal:
            tell(f"\r{line}\033[K", end="\n" if ended else "")
        else:
            tell(line)
        self._shown, self._written = mark, now


def tell(text: str, end: str = "\n") -> None:
    """Print on standard error; that nobody reads it is no reason to throw the work away."""
    with suppress(BrokenPipeError):
        print(text, end=end, file=sys.stderr, flush=True)
