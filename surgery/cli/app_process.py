"""`surgery app` and what else the app does for the command line, which the method never imports."""

import argparse
import runpy
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn


def app_command(options: argparse.Namespace) -> NoReturn:
    """Go on as `python -m app WORDS` in this process; ends as that does, by `SystemExit`."""
    _find_our_own()
    sys.argv[1:] = options.words
    runpy.run_module("app", run_name="__main__", alter_sys=True)
    sys.exit()


def part_of_app(name: str) -> ModuleType:
    """The module of that name in the app, such as `app.report`, loaded when it is asked for."""
    _find_our_own()
    return import_module(name)


def _find_our_own() -> None:
    """Let `app` be the one that came with this package.

    What a person keeps under such a name in the current directory, which `python -m` searches first, is not taken for
    it.
    """
    project = Path(__file__).resolve().parents[2]
    here = Path.cwd()
    if here != project:
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
