"""The options of every command, and one line for a mistake."""

import argparse
import io
import json
import math
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
from surgery.cli.options import KNOB_PREFIX, Result
from surgery.cli.run import run_command
from surgery.cli.runs import runs_command
from surgery.cli.sweep import sweep_command
from surgery.cli.text import printable
from surgery.edits import ENERGY_RULES
from surgery.errors import SurgeryError
from surgery.files import shipped_folder, without_nan
from surgery.policies import POLICIES, Knob, knobs_of

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

    def command(name: str, function: Callable[[argparse.Namespace], Result], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    # no word is an option here: all of them, --help too, are the app's own
    app = commands.add_parser("app", help="start the app", prefix_chars="\0", add_help=False)
    app.add_argument("words", nargs=argparse.REMAINDER)
    app.set_defaults(command=app_command)

    inspect = command("inspect", inspect_command, "modules, ranks, scaling, norms and effective ranks")
    inspect.add_argument("adapter", nargs="?", help="a folder, or demo:NAME")
    inspect.add_argument("--many", metavar="FOLDER", help="every adapter below a folder instead, one row each")
    inspect.add_argument("--out", help="with --many: a Parquet file to write the rows to")
    inspect.add_argument("--workers", type=_positive, default=1, help="with --many: processes (default 1)")

    gains = command("gains", gains_command, "the gains of one module, from numbers given by hand")
    gains.add_argument("--sigma", required=True, help="singular values, as 3,2,1")
    gains.add_argument("--sensitivity", required=True, help="signed sensitivities, as 0.1,-0.4,0.2")
    gains.add_argument("--module", default="module", help="name that seeds random_index")
    _policy_options(gains)

    calibrate = command("calibrate", calibrate_command, "measure sensitivities on a calibration slice")
    _model_options(
        calibrate,
        "calibration rows: JSON lines or parquet, or hub:OWNER/NAME[/CONFIG]:SPLIT; a demo has its own",
    )
    calibrate.add_argument("--examples", type=_count, default=128, help="how many rows (default 128)")
    calibrate.add_argument("--seed", type=_count, default=0, help="seed of the shuffle (default 0)")
    calibrate.add_argument("--start", type=_count, default=0, help="offset into the shuffled rows")
    calibrate.add_argument("--batch-size", type=_positive, default=8, help="examples at a time (default 8)")
    calibrate.add_argument(
        "--checkpointing", action="store_true", help="recompute activations: slower, for long examples"
    )
    _field_options(calibrate)
    calibrate.add_argument("--out", required=True, help="file to write the sensitivities to")

    edit = command("edit", edit_command, "apply a policy and write the edited adapter")
    edit.add_argument("adapter", help="a folder, or demo:NAME")
    edit.add_argument("--sensitivities", help="file written by calibrate")
    edit.add_argument(
        "--scope", default="residual", help="residual, attention-inputs, all, or a regular expression"
    )
    edit.add_argument("--out", required=True, help="new folder for the edited adapter")
    _policy_options(edit)

    evaluate = command(
        "evaluate", evaluate_command, "loss and exact match of variants, paired with the unedited adapter"
    )
    _model_options(evaluate, "held-out rows; a demo has its own")
    evaluate.add_argument("--variant", nargs="+", action="extend", help="exported folders or recipe files")
    evaluate.add_argument("--random", type=_count, default=0, help="how many random controls")
    evaluate.add_argument("--start", type=_count, default=0, help="offset of the slice")
    evaluate.add_argument("--seed", type=_count, help="shuffle before the slice is taken (default: file order)")
    _field_options(evaluate)
    evaluate.add_argument("--again", action="store_true", help=_AGAIN)
    evaluate.add_argument("--limit", type=_positive, help="so many rows (default: all)")
    evaluate.add_argument("--batch-size", type=_positive, default=32, help="examples at a time (default 32)")

    runs = command("runs", runs_command, "the history: every proof that was run, or one of them in full")
    runs.add_argument("run", nargs="?", help="a run's name, for its results")
    runs.add_argument("--adapter", help="only runs of this adapter")

    benchmark = command(
        "benchmark",
        benchmark_command,
        "a task of lm-eval: edits and random controls, paired with the unedited adapter",
    )
    benchmark.add_argument("adapter", help="a folder, or demo:NAME")
    _base_options(benchmark)
    benchmark.add_argument(
        "--task", required=True, help="commonsense_qa, gsm8k, humaneval, ifeval, or another of lm-eval's"
    )
    benchmark.add_argument(
        "--data-files", nargs="+", action="extend", metavar="SPLIT=FILE", help="local files instead of the hub"
    )
    benchmark.add_argument("--limit", type=_positive, help="how many examples (default: all)")
    benchmark.add_argument("--offset", type=_count, default=0, help="where the slice begins")
    benchmark.add_argument("--seed", type=_count, help="shuffle before the slice is taken")
    benchmark.add_argument("--fewshot", type=_count, help="examples shown (default: the task's own number)")
    benchmark.add_argument("--chat", action="store_true", help="put prompts into the chat template")
    benchmark.add_argument("--variant", nargs="+", action="extend", help="recipe files")
    benchmark.add_argument("--random", type=_count, default=0, help="how many random controls")
    benchmark.add_argument("--again", action="store_true", help=_AGAIN)
    benchmark.add_argument("--batch-size", type=_positive, help="examples at a time (default: what fits)")
    benchmark.add_argument(
        "--run-programs",
        action="store_true",
        help="run programs that the model writes, each in a sandbox of its own",
    )

    run = command("run", run_command, "calibrate, edit, evaluate and export as a recipe says")
    run.add_argument("recipe", help="a recipe.yaml")
    run.add_argument("--out", help="new folder (default: beside the recipe, named after it)")

    example = str(shipped_folder("sweeps") / "demos.yaml").replace("%", "%%")  # argparse fills in its own words
    sweep = command("sweep", sweep_command, "adapters × tasks × edits as a file lists them")
    sweep.add_argument("sweep", help=f"a sweep.yaml, such as {example}")
    sweep.add_argument("--limit", type=_positive, help="held-out examples of every task, whatever the file says")
    sweep.add_argument("--examples", type=_positive, help="no calibration budget is larger")
    sweep.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--in-process", action="store_true", help="without Ray, one pass after another")
    where.add_argument("--address", help="a Ray cluster (default: Ray on this machine)")
    sweep.add_argument("--workers", type=_positive, default=2, help="Ray workers on this machine (default 2)")
    sweep.add_argument("--tables", help="folder to write the paper's Tables 2 to 5 to, as CSV")
    return parser


def _base_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", help="model folder, GGUF file or hub id; a demo has its own")
    parser.add_argument("--revision", help="revision of a hub id")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default cpu)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")


def _model_options(parser: argparse.ArgumentParser, data_help: str) -> None:
    parser.add_argument("adapter", help="a folder, or demo:NAME")
    _base_options(parser)
    parser.add_argument("--data", help=data_help)
    parser.add_argument("--template", default="chat", help="chat or plain (default chat)")
    parser.add_argument("--max-length", type=_positive, default=1024, help="drop longer rows, in tokens")
    parser.add_argument(
        "--separator", action=argparse.BooleanOptionalAction, default=True, help="space before the answer"
    )
    parser.add_argument(
        "--eos", action=argparse.BooleanOptionalAction, default=True, help="end-of-sequence after it"
    )


def _field_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt-field",
        default="prompt",
        help="field of the prompt, or a template such as '{context} {question}'",
    )
    parser.add_argument("--answer-field", default="answer", help="field of the answer, or a template")


def _policy_options(parser: argparse.ArgumentParser) -> None:
    """Every knob of every policy; a knob of another policy than the one named is refused later."""
    parser.add_argument("--policy", required=True, help=", ".join(POLICIES))
    parser.add_argument("--energy", default="l1", help=f"{', '.join(ENERGY_RULES)} (default l1)")
    parser.add_argument("--sigma-min", type=_number, default=0.0, help="smallest new singular value (default 0)")
    offered: dict[str, list[Knob]] = {}
    for policy in POLICIES.values():
        for knob in knobs_of(policy):
            offered.setdefault(knob.name, []).append(knob)
    for name, (knob, *others) in offered.items():
        flag = "--" + name.replace("_", "-")
        options: dict[str, Any] = {
            "dest": f"{KNOB_PREFIX}{name}",
            "default": argparse.SUPPRESS,
            # policies that share a knob may use it differently
            "help": "; or ".join(dict.fromkeys(same.help for same in (knob, *others))),
        }
        if knob.kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            options["metavar"] = "|".join(knob.choices) or "X"
            parser.add_argument(flag, type=str if knob.kind is str else _number, **options)


def _join_lists(argv: Sequence[str]) -> list[str]:
    """Let a list begin with a minus sign: argparse would take `-0.4,0.1` for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--sigma", "--sensitivity"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is below 1")
    return value
