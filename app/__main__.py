"""`python -m app`, or `surgery app`: start the server with what every page imports already loaded.

The first visitor would otherwise wait for these imports. torch is not among them: it is loaded when
a model runs. `--folder PATH`, any number of times, names the folders that paths typed into the app may
lie in, besides the workbench's own. Further arguments are Streamlit's own, such as `--server.port 8601`.
"""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from app.server.malloc import keep_to_few_arenas
from surgery.files import FOLDERS

WARM = (
    "pandas",
    "plotly.graph_objects",
    "streamlit.elements.plotly_chart",
    "surgery.sensitivity",
    "viz",
    "app.state.workspace",
)


def main() -> None:
    """Load, then hand over to Streamlit's own command line; never returns."""
    from streamlit.web.cli import main as streamlit

    options, others = _parser().parse_known_args()
    if options.folder is not None:
        os.environ[FOLDERS] = os.pathsep.join(options.folder)
    keep_to_few_arenas()
    # a thread that computes may hold the interpreter this long before an answer goes out
    sys.setswitchinterval(0.0005)
    for name in WARM:
        import_module(name)
    script = str(Path(__file__).with_name("asgi.py"))
    sys.exit(streamlit(["run", script, *others], prog_name="streamlit"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="surgery app",
        usage="%(prog)s [--folder PATH ...] [--server.port PORT] [any option of `streamlit run`]",
        description="Start the app on this machine alone, at http://127.0.0.1:8501 unless told otherwise.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--folder",
        action="append",
        type=_folder,
        metavar="PATH",
        help="a folder that paths typed into the app may lie in; without any, all that the account may reach",
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"surgery: {message} → see: surgery app --help\n")


def _folder(text: str) -> str:
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir() or os.pathsep in str(folder):
        raise argparse.ArgumentTypeError(f"no usable folder at {text!r}")
    return str(folder)


if __name__ == "__main__":
    main()
