"""Deprecation warnings that our own code causes, told from those that libraries cause among themselves.

A library that renames an argument warns about the frame that called its function, which for a torch model is a
frame of torch, or through transformers' logging, which names no frame and says a thing once in a process. So the
stack decides: a warning is ours if the first frame that is not of the library that speaks, of torch or of Python
itself is in app, surgery or viz.
"""

import logging
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import transformers.utils.logging  # noqa: F401 - gives loggers `warning_once`

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / package}/" for package in ("app", "surgery", "viz"))
DEPRECATIONS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)
found: list[str] = []


def watch() -> None:
    """From here on, note in `found` what our code causes in this process, in every thread."""
    warnings.warn = _watched_warn(warnings.warn)
    for name in ("warning", "warning_once"):
        setattr(logging.Logger, name, _watched_log(getattr(logging.Logger, name)))


def _watched_warn(warn: Callable[..., None]) -> Callable[..., None]:
    def watched(message: Any, category: Any = None, stacklevel: int = 1, *rest: Any, **options: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category
        if isinstance(kind, type) and issubclass(kind, DEPRECATIONS):
            _note(message, sys._getframe(1))
        warn(message, category, stacklevel + 1, *rest, **options)

    return watched


def _watched_log(log: Callable[..., None]) -> Callable[..., None]:
    def watched(self: logging.Logger, message: Any, *values: Any, **options: Any) -> None:
        if re.search("deprecated|will be removed", str(message)):
            _note(message, sys._getframe(1))
        log(self, message, *values, **options)

    return watched


def _note(message: Any, frame: FrameType | None) -> None:
    speaker = _library(frame)
    while frame and not _ours(frame) and _library(frame) in (speaker, "torch", "python"):
        if frame.f_code.co_name == "<module>":
            return  # what a library says while it is imported: Python names who imports it, where that is meant
        frame = frame.f_back
    if frame and _ours(frame):
        place = Path(frame.f_code.co_filename).relative_to(ROOT)
        found.append(f"{place}:{frame.f_lineno}: {message}")


def _ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OURS)


def _library(frame: FrameType | None) -> str:
    """The installed package that a frame belongs to, "python" for Python's own, else its file."""
    file = frame.f_code.co_filename if frame else ""
    if installed := re.search(r"/(?:site|dist)-packages/([^/.]+)", file):
        return installed[1]
    return "python" if file.startswith(("<", sysconfig.get_path("stdlib"))) else file
