"""The parser of all commands, and one line for a mistake."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from surgery.cli import (
    benchmark,
    calibrate,
    convert,
    edit,
    evaluate,
    gains,
    inspect,
    microscope,
    pulls,
    report,
    resize,
    run,
    runs,
    search,
    sweep,
)
from surgery.cli.answer_options import near_record, near_text
from surgery.cli.app_process import app_command
from surgery.cli.text import printable
from surgery.data import NearDuplicatesError
from surgery.errors import SurgeryError
from surgery.files import without_nan

COMMANDS = tuple(
    module.COMMAND
    for module in (
        inspect,
        convert,
        gains,
        calibrate,
        microscope,
        edit,
        pulls,
        resize,
        evaluate,
        runs,
        report,
        benchmark,
        run,
        search,
        sweep,
    )
)


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise SurgeryError(message, f"see: python -m {self.prog} --help")


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets question marks, not a traceback
    try:
        options = _parsed(_join_lists(argv))
        record, text = options.command(options)
    except NearDuplicatesError as error:
        print(f"surgery: {printable(str(error))}\n{printable(near_text(error.pairs))}", file=sys.stderr)
        if options.json:
            print(json.dumps(near_record(error.pairs)))
        return 2
    except SurgeryError as error:
        print(f"surgery: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("surgery: stopped", file=sys.stderr)
        return 130
    print(json.dumps(without_nan(record)) if options.json else printable(text))
    return 0


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    options, unknown = _parser().parse_known_args(words)
    if unknown:  # argparse itself would point to the help of all commands
        raise SurgeryError(
            f"unrecognized arguments: {' '.join(unknown)}", f"see: python -m surgery {words[0]} --help"
        )
    return options


def _parser() -> _Parser:
    parser = _Parser(prog="surgery", description="See, edit and prove the singular values of a LoRA adapter.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    # no word is an option here: all of them, --help too, are the app's own
    app = commands.add_parser("app", help="start the app", prefix_chars="\0", add_help=False)
    app.add_argument("words", nargs=argparse.REMAINDER)
    app.set_defaults(command=app_command)
    for command in COMMANDS:
        parser_of = commands.add_parser(command.name, help=command.help, description=command.help)
        parser_of.set_defaults(command=command.run)
        parser_of.add_argument("--json", action="store_true", help="print one JSON object")
        command.add_options(parser_of)
    return parser


def _join_lists(argv: Sequence[str]) -> list[str]:
    """Let a list begin with a minus sign: argparse would take `-0.4,0.1` for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--sigma", "--sensitivity"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
