"""Groups of options that several commands share, and the numbers that options take."""

import argparse
import math
from typing import Any

from surgery.cli.options import KNOB_PREFIX
from surgery.edits import ENERGY_RULES
from surgery.policies import POLICIES, Knob, knobs_of


def base_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", help="model folder, GGUF file or hub id; a demo has its own")
    parser.add_argument("--revision", help="revision of a hub id")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default cpu)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")


def model_options(parser: argparse.ArgumentParser, data_help: str) -> None:
    parser.add_argument("adapter", help="a folder, or demo:NAME")
    base_options(parser)
    parser.add_argument("--data", help=data_help)
    parser.add_argument("--template", default="chat", help="chat or plain (default chat)")
    parser.add_argument("--max-length", type=positive_number, default=1024, help="drop longer rows, in tokens")
    parser.add_argument(
        "--separator", action=argparse.BooleanOptionalAction, default=True, help="space before the answer"
    )
    parser.add_argument(
        "--eos", action=argparse.BooleanOptionalAction, default=True, help="end-of-sequence after it"
    )


def field_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt-field",
        default="prompt",
        help="field of the prompt, or a template such as '{context} {question}'",
    )
    parser.add_argument("--answer-field", default="answer", help="field of the answer, or a template")


def policy_options(parser: argparse.ArgumentParser) -> None:
    """Every knob of every policy; a knob of another policy than the one named is refused later."""
    parser.add_argument("--policy", required=True, help=", ".join(POLICIES))
    parser.add_argument("--energy", default="l1", help=f"{', '.join(ENERGY_RULES)} (default l1)")
    parser.add_argument(
        "--sigma-min", type=finite_number, default=0.0, help="smallest new singular value (default 0)"
    )
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
            parser.add_argument(flag, type=str if knob.kind is str else finite_number, **options)


def finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return value


def whole_number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value


def positive_number(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is below 1")
    return value
