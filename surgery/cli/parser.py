"""The options of every command, and one line for a mistake."""

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from surgery.cli.app_process import app_command
from surgery.cli.benchmark import benchmark_command
from surgery.cli.calibrate import calibrate_command
from surgery.cli.edit import edit_command
from surgery.cli.evaluate import evaluate_command
from surgery.cli.gains import gains_command
from surgery.cli.inspect import inspect_command
from surgery.cli.option_groups import (
    base_options,
    field_options,
    model_options,
    policy_options,
    positive_number,
    whole_number,
)
from surgery.cli.options import Result
from surgery.cli.run import run_command
from surgery.cli.runs import runs_command
from surgery.cli.sweep import sweep_command
from surgery.cli.text import printable
from surgery.errors import SurgeryError
from surgery.files import shipped_folder, without_nan

Command = Callable[[argparse.Namespace], Result]
_AGAIN = "the unedited adapter once more in other batches: the noise floor"


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
        options = _parser().parse_args(_join_lists(argv))
        record, text = options.command(options)
    except SurgeryError as error:
        print(f"surgery: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("surgery: stopped", file=sys.stderr)
        return 130
    print(json.dumps(without_nan(record)) if options.json else printable(text))
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog="surgery", description="See, edit and prove the singular values of a LoRA adapter.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # no word is an option here: all of them, --help too, are the app's own
    app = commands.add_parser("app", help="start the app", prefix_chars="\0", add_help=False)
    app.add_argument("words", nargs=argparse.REMAINDER)
    app.set_defaults(command=app_command)
    for name, (function, add_options, help) in _COMMANDS.items():
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        add_options(sub)
    return parser


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", nargs="?", help="a folder, or demo:NAME")
    parser.add_argument("--many", metavar="FOLDER", help="every adapter below a folder instead, one row each")
    parser.add_argument("--out", help="with --many: a Parquet file to write the rows to")
    parser.add_argument("--workers", type=positive_number, default=1, help="with --many: processes (default 1)")


def _gains_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sigma", required=True, help="singular values, as 3,2,1")
    parser.add_argument("--sensitivity", required=True, help="signed sensitivities, as 0.1,-0.4,0.2")
    parser.add_argument("--module", default="module", help="name that seeds random_index")
    policy_options(parser)


def _calibrate_options(parser: argparse.ArgumentParser) -> None:
    model_options(
        parser,
        "calibration rows: JSON lines or parquet, or hub:OWNER/NAME[/CONFIG]:SPLIT; a demo has its own",
    )
    parser.add_argument("--examples", type=whole_number, default=128, help="how many rows (default 128)")
    parser.add_argument("--seed", type=whole_number, default=0, help="seed of the shuffle (default 0)")
    parser.add_argument("--start", type=whole_number, default=0, help="offset into the shuffled rows")
    parser.add_argument("--batch-size", type=positive_number, default=8, help="examples at a time (default 8)")
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute activations: slower, for long examples"
    )
    field_options(parser)
    parser.add_argument("--out", required=True, help="file to write the sensitivities to")


def _edit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="a folder, or demo:NAME")
    parser.add_argument("--sensitivities", help="file written by calibrate")
    parser.add_argument(
        "--scope", default="residual", help="residual, attention-inputs, all, or a regular expression"
    )
    parser.add_argument("--out", required=True, help="new folder for the edited adapter")
    policy_options(parser)


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    model_options(parser, "held-out rows; a demo has its own")
    parser.add_argument("--variant", nargs="+", action="extend", help="exported folders or recipe files")
    parser.add_argument("--random", type=whole_number, default=0, help="how many random controls")
    parser.add_argument("--start", type=whole_number, default=0, help="offset of the slice")
    parser.add_argument(
        "--seed", type=whole_number, help="shuffle before the slice is taken (default: file order)"
    )
    field_options(parser)
    parser.add_argument("--again", action="store_true", help=_AGAIN)
    parser.add_argument("--limit", type=positive_number, help="so many rows (default: all)")
    parser.add_argument("--batch-size", type=positive_number, default=32, help="examples at a time (default 32)")


def _runs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", help="a run's name, for its results")
    parser.add_argument("--adapter", help="only runs of this adapter")


def _benchmark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="a folder, or demo:NAME")
    base_options(parser)
    parser.add_argument(
        "--task", required=True, help="commonsense_qa, gsm8k, humaneval, ifeval, or another of lm-eval's"
    )
    parser.add_argument(
        "--data-files", nargs="+", action="extend", metavar="SPLIT=FILE", help="local files instead of the hub"
    )
    parser.add_argument("--limit", type=positive_number, help="how many examples (default: all)")
    parser.add_argument("--offset", type=whole_number, default=0, help="where the slice begins")
    parser.add_argument("--seed", type=whole_number, help="shuffle before the slice is taken")
    parser.add_argument("--fewshot", type=whole_number, help="examples shown (default: the task's own number)")
    parser.add_argument("--chat", action="store_true", help="put prompts into the chat template")
    parser.add_argument("--variant", nargs="+", action="extend", help="recipe files")
    parser.add_argument("--random", type=whole_number, default=0, help="how many random controls")
    parser.add_argument("--again", action="store_true", help=_AGAIN)
    parser.add_argument("--batch-size", type=positive_number, help="examples at a time (default: what fits)")
    parser.add_argument(
        "--run-programs",
        action="store_true",
        help="run programs that the model writes, each in a sandbox of its own",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a recipe.yaml")
    parser.add_argument("--out", help="new folder (default: beside the recipe, named after it)")


def _sweep_options(parser: argparse.ArgumentParser) -> None:
    example = str(shipped_folder("sweeps") / "demos.yaml").replace("%", "%%")  # argparse fills in its own words
    parser.add_argument("sweep", help=f"a sweep.yaml, such as {example}")
    parser.add_argument(
        "--limit", type=positive_number, help="held-out examples of every task, whatever the file says"
    )
    parser.add_argument("--examples", type=positive_number, help="no calibration budget is larger")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--in-process", action="store_true", help="without Ray, one pass after another")
    where.add_argument("--address", help="a Ray cluster (default: Ray on this machine)")
    parser.add_argument(
        "--workers", type=positive_number, default=2, help="Ray workers on this machine (default 2)"
    )
    parser.add_argument("--tables", help="folder to write the paper's Tables 2 to 5 to, as CSV")


def _join_lists(argv: Sequence[str]) -> list[str]:
    """Let a list begin with a minus sign: argparse would take `-0.4,0.1` for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--sigma", "--sensitivity"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


# every command but the app: what it runs, what adds its options, and what it does
_COMMANDS: dict[str, tuple[Command, Callable[[argparse.ArgumentParser], None], str]] = {
    "inspect": (inspect_command, _inspect_options, "modules, ranks, scaling, norms and effective ranks"),
    "gains": (gains_command, _gains_options, "the gains of one module, from numbers given by hand"),
    "calibrate": (calibrate_command, _calibrate_options, "measure sensitivities on a calibration slice"),
    "edit": (edit_command, _edit_options, "apply a policy and write the edited adapter"),
    "evaluate": (
        evaluate_command,
        _evaluate_options,
        "loss and exact match of variants, paired with the unedited adapter",
    ),
    "runs": (runs_command, _runs_options, "the history: every proof that was run, or one of them in full"),
    "benchmark": (
        benchmark_command,
        _benchmark_options,
        "a task of lm-eval: edits and random controls, paired with the unedited adapter",
    ),
    "run": (run_command, _run_options, "calibrate, edit, evaluate and export as a recipe says"),
    "sweep": (sweep_command, _sweep_options, "adapters × tasks × edits as a file lists them"),
}
