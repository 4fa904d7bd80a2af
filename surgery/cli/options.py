"""What commands share: groups of options, and options turned into plans, policies and variants."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surgery.cli.answer_options import near_text
from surgery.cli.text import evaluation_text
from surgery.data import (
    AUTO,
    DATE,
    FORMATS,
    TOKENIZERS,
    TURNS,
    Encoding,
    Margins,
    NearDuplicate,
    margins_from,
    parse_date,
    template_arguments,
)
from surgery.edits import STRONGEST
from surgery.errors import DataError, RecipeError
from surgery.evaluation import Evaluation, summarise, summary_record
from surgery.files import is_demo
from surgery.model import BaseChoice
from surgery.policies import POLICIES, Knob, Policy, knobs_of, make_policy
from surgery.recipes import demo_plans
from surgery.runs import Run, known_run

Result = tuple[dict[str, Any], str]
KNOB_PREFIX = "knob_"
ADAPTER_HELP = "a folder, demo:NAME, or owner/name[@revision][/folder] on the hub"
SHAPE_HELP = (
    "controls of each variant that have its size or its shape alone, and the share of its effect they explain"
)
MARGIN_HELP = "how much worse a variant may be and still count as not inferior, as 1point 0.005nats (these, where nothing is named)"
BASE_ARM_HELP = (
    "the base model without the adapter answers too: what training broke and taught, and what the edit does to it"
)
AGAIN_HELP = "the unedited adapter once more in other batches: the noise floor"


@dataclass(frozen=True)
class Command:
    """One command: its name, what it does in a few words, its options, and the function that carries it out."""

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Result]


def kept_run(evaluation: Evaluation, run: Run, of: str = "") -> Result:
    summary = summarise(evaluation)
    near = [NearDuplicate(**pair) for pair in run.plan.question.get("near_duplicates", ())]
    text = f"{evaluation_text(summary, of)}\n" + (f"{near_text(near)}\n" if near else "")
    text += f"kept as run {run.plan.key}"
    return {"run": run.plan.key, "question": dict(run.plan.question), **summary_record(summary)}, text


def run_from(options: argparse.Namespace) -> Run:
    """The run that was named; raises `DataError` where there is none of that name."""
    run = known_run(options.run)
    if run is None:
        raise DataError(f"there is no run {options.run!r}", "list them with: surgery runs")
    return run


def policy_from(options: argparse.Namespace) -> Policy:
    knobs = {k.removeprefix(KNOB_PREFIX): v for k, v in vars(options).items() if k.startswith(KNOB_PREFIX)}
    return make_policy(options.policy, knobs)


def base_from(options: argparse.Namespace) -> BaseChoice:
    location = options.base
    if not location:
        if not is_demo(options.adapter):
            raise RecipeError(f"{options.adapter!r} is no demo, so it has no default base", "give --base")
        location = demo_plans(options.adapter)[0].location
    return BaseChoice(location, options.revision, options.device, options.dtype)


def data_from(options: argparse.Namespace, slice_name: str) -> str:
    if options.data:
        return str(options.data)
    if not is_demo(options.adapter):
        raise DataError(f"{options.adapter!r} is no demo, so it has no default rows", "give --data F.jsonl")
    _, calibration, evaluation = demo_plans(options.adapter)
    return calibration.data if slice_name == "calibration" else evaluation.data


def encoding_from(options: argparse.Namespace) -> Encoding:
    separator = is_demo(options.data or options.adapter) if options.separator is None else options.separator
    encoding = Encoding(
        options.template,
        separator,
        options.eos,
        options.max_length,
        system=options.system,
        template_args=options.template_args,
        date=options.date,
        tokenizer=options.tokenizer,
    )
    parse_date(encoding.date)
    template_arguments(encoding.template_args)
    return encoding


def fields_from(options: argparse.Namespace) -> dict[str, Any]:
    """How records become rows, by the names of a plan's settings."""
    return {name: getattr(options, name) for name in ("prompt_field", "answer_field", "format", "turns")}


def add_variant_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variant", nargs="+", action="extend", help="exported folders, here or on the hub, or recipe files"
    )
    parser.add_argument("--random", type=count, default=0, help="how many random controls of each variant")
    parser.add_argument("--scope", help="of random controls where no variant says theirs (default residual)")
    parser.add_argument("--scale-or-shape", action="store_true", help=SHAPE_HELP)
    parser.add_argument("--again", action="store_true", help=AGAIN_HELP)
    parser.add_argument("--base-arm", action="store_true", help=BASE_ARM_HELP)
    add_margin_option(parser)


def add_margin_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--margin", nargs="*", metavar="MARGIN", help=MARGIN_HELP)


def margin_from(options: argparse.Namespace) -> tuple[str, ...]:
    """The margins as an `EvaluationPlan` has them; raises `DataError` for a text that names none."""
    if options.margin is None:
        return ()
    margins = margins_from(options.margin) or Margins()
    return margins.texts


def add_base_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base", help="model folder, GGUF file or owner/name[@revision] on the hub; a demo has its own"
    )
    parser.add_argument("--revision", help="revision of a hub id, where --base does not name it")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default cpu)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")


def add_model_options(parser: argparse.ArgumentParser, data_help: str) -> None:
    parser.add_argument("adapter", help=ADAPTER_HELP)
    add_base_options(parser)
    parser.add_argument("--data", help=data_help)
    parser.add_argument(
        "--template",
        default="chat",
        help="chat, plain, or a file with a chat template, FILE.jinja (default chat, and plain for models that are no causal "
        "language models)",
    )
    add_tokenizer_options(parser)
    parser.add_argument("--system", default="", help="system prompt of rows that have none")
    parser.add_argument("--date", default=DATE, help=f"day that a template prints (default {DATE})")
    parser.add_argument("--max-length", type=positive, default=1024, help="drop longer rows, in tokens")
    parser.add_argument(
        "--separator",
        action=argparse.BooleanOptionalAction,
        help="space before the answer (default: none, but for a demo's rows)",
    )
    parser.add_argument("--eos", action=argparse.BooleanOptionalAction, default=True, help="end of turn after it")


def add_tokenizer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--template-args",
        default="",
        metavar="JSON",
        help="arguments of the chat template, as '{\"enable_thinking\": false}', or languages of the tokenizer, as "
        '\'{"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}\'',
    )
    parser.add_argument(
        "--tokenizer", choices=TOKENIZERS, default=TOKENIZERS[0], help="the adapter folder's own, or the base's"
    )


def add_field_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt-field",
        default="prompt",
        help="field of the prompt, or a template such as '{context} {question}'",
    )
    parser.add_argument("--answer-field", default="answer", help="field of the answer, or a template")
    parser.add_argument("--format", default=AUTO, help=f"of the rows: {', '.join(FORMATS)} (default {AUTO})")
    parser.add_argument(
        "--turns", default=TURNS[0], help=f"answers of a conversation: {' or '.join(TURNS)} (default {TURNS[0]})"
    )


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Every knob of every policy; a knob of another policy than the one named is refused later."""
    parser.add_argument("--policy", required=True, help=", ".join(POLICIES))
    free = ", ".join(name for name, policy in POLICIES.items() if policy.usual_energy == "none")
    parser.add_argument(
        "--energy",
        help="what is held of each module: l1 its nuclear norm, l2 its Frobenius norm, functional its functional energy "
        f"E‖ΔWx‖², none nothing (default l1; none for {free})",
    )
    parser.add_argument("--sigma-min", type=finite, default=0.0, help="smallest new singular value (default 0)")
    parser.add_argument(
        "--strength",
        type=finite,
        default=1.0,
        help=f"how far the edit goes: 0 is none of it, 1 all, up to {STRONGEST:g} (default 1)",
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
            parser.add_argument(
                flag, type=str if knob.kind is str else float if knob.unbounded else finite, **options
            )


def finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is below 1")
    return value
