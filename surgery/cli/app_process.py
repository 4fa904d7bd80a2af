"""`surgery app`: starts the pages, which the method never imports."""

import argparse
import runpy
import sys
from pathlib import Path
from typing import NoReturn


def app_command(options: argparse.Namespace) -> NoReturn:
    """Go on as `python -m app WORDS` in this process; ends as that does, by `SystemExit`.

    It is the `app` that came with this package. What a person keeps under such a name in the current directory,
    which `python -m` searches first, is not taken for it.
    """
    project = Path(__file__).resolve().parents[2]
    here = Path.cwd()
    if here != project:
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    sys.argv[1:] = options.words
    runpy.run_module("app", run_name="__main__", alter_sys=True)
    sys.exit()
