"""What lm-eval changes in the process that it runs in, its seeds, progress bars and templates, put back."""

import contextlib
import logging
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partialmethod
from threading import RLock
from typing import Any

import numpy as np

from surgery.errors import Cancelled, DataError, SurgeryError, first_line

# what simple_evaluate sets before it loads a task
RANDOM_SEED, OTHER_SEED = 0, 1234
_PATCHING = RLock()


@dataclass(frozen=True)
class RandomState:
    """The state of the global generators of Python, numpy and torch."""

    python: Any
    numpy: Any
    torch: Any

    @classmethod
    def now(cls) -> "RandomState":
        import torch

        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())

    @classmethod
    def of_lm_eval(cls) -> "RandomState":
        """The state right after the seeds that `simple_evaluate` sets."""
        import torch

        with kept_random_state():
            random.seed(RANDOM_SEED)
            np.random.seed(OTHER_SEED)
            # of the processor alone: torch.manual_seed would leave those of the accelerators changed
            torch.default_generator.manual_seed(OTHER_SEED)
            return cls.now()

    def restore(self) -> None:
        import torch

        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)


@contextlib.contextmanager
def kept_random_state(start: RandomState | None = None) -> Iterator[None]:
    """Whatever draws inside leaves the global generators as they were; `start` is what it draws from."""
    before = RandomState.now()
    if start is not None:
        start.restore()
    try:
        yield
    finally:
        before.restore()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, warnings and prints of lm-eval and its data loaders off the standard streams' way.

    Bars and warnings for the author of a task are dropped; what is printed goes to standard error, for a
    command's output may be read by a program. A definition's templates reach no Python inside.
    """
    import datasets
    from tqdm.std import tqdm

    bar: Any = tqdm
    log = logging.getLogger("lm_eval")
    with _PATCHING, contextlib.redirect_stdout(sys.stderr), _sandboxed_templates():
        original, enabled, level = bar.__init__, datasets.is_progress_bar_enabled(), log.level
        bar.__init__ = partialmethod(original, disable=True)
        datasets.disable_progress_bars()
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            bar.__init__ = original
            log.setLevel(level)
            if enabled:
                datasets.enable_progress_bars()


@contextlib.contextmanager
def _sandboxed_templates() -> Iterator[None]:
    """Templates of definitions, which may come from anywhere, are rendered as before, but call nothing private."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    module: Any = installed_lm_eval().utils
    original = module.env
    module.env = SandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    module.env.filters = original.filters
    try:
        yield
    finally:
        module.env = original


def installed_lm_eval() -> Any:
    """The package lm-eval; raises `DataError` where it is not installed."""
    try:
        import lm_eval.utils
    except ImportError as error:
        raise DataError(
            f"lm-eval is not installed ({error})", "run: pip install 'lm-eval[ifeval]==0.4.13'"
        ) from error
    return lm_eval


@contextlib.contextmanager
def refusing(name: str, doing: str, remedy: str = "choose another task or slice") -> Iterator[None]:
    """Definitions of tasks are programs of many authors: whatever they raise becomes a `DataError`."""
    try:
        yield
    except (SurgeryError, Cancelled):
        raise
    except Exception as error:
        raise DataError(
            f"lm-eval could not {doing} the task {name!r} ({first_line(error, kind=True)})", remedy
        ) from error
