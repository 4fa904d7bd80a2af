"""`surgery convert`: a LoRA of an adapter that is none, or that was trained on a changed base."""

import argparse
from typing import Any

from surgery.cli.options import Command, Result, add_base_options, finite, positive
from surgery.cli.progress import progress_reporter
from surgery.conversion import ENERGY, Conversion, ConversionPlan, convert
from surgery.model import BaseChoice


def convert_command(options: argparse.Namespace) -> Result:
    plan = ConversionPlan(
        options.adapter,
        _choice(options, options.base, options.revision),
        _choice(options, options.residual_base, None),
        options.initial or "",
        options.rank,
        options.energy,
        options.scale,
        options.data or "",
    )
    done = convert(plan, options.out, control=progress_reporter("converting"))
    return _record(done), _text(done)


def _choice(options: argparse.Namespace, location: str | None, revision: str | None) -> BaseChoice | None:
    return BaseChoice(location, revision, options.device, options.dtype) if location else None


def _record(done: Conversion) -> dict[str, Any]:
    worst, share = done.largest
    return {
        "out": str(done.folder),
        "kind": done.kind,
        "modules": len(done.modules),
        "ranks": sorted({module.rank for module in done.modules.values()}),
        "error": done.error,
        "largest_error": share,
        "largest_error_in": worst,
        "logits": None if done.logits is None else done.logits.error,
        "logit_rows": None if done.logits is None else done.logits.rows,
        "errors": {name: {"norm": m.norm, "error": m.error, "rank": m.rank} for name, m in done.modules.items()},
        "notes": list(done.notes),
    }


def _text(done: Conversion) -> str:
    ranks = sorted({module.rank for module in done.modules.values()})
    span = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    worst, share = done.largest
    lines = [
        f"{done.kind}: {len(done.modules)} modules of rank {span}; error of all updates together "
        f"{done.error:.2e}, largest {share:.2e} in {worst}"
    ]
    if done.logits is not None:
        lines.append(
            f"PEFT's logits differ by {done.logits.error:.2e} of the largest, on {done.logits.rows} rows of "
            f"{done.logits.what}"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in done.notes), f"wrote {done.folder}"])


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "adapter", help="a folder of MLX or PEFT, or owner/name on the hub, that does not open as a LoRA"
    )
    parser.add_argument("--out", required=True, help="new folder for the LoRA")
    add_base_options(parser)
    parser.add_argument(
        "--residual-base", metavar="FOLDER", help="the model as PiSSA, OLoRA, CorDA, LoRA-GA or LoftQ changed it"
    )
    parser.add_argument("--initial", metavar="FOLDER", help="the adapter as it was saved before its training")
    parser.add_argument("--rank", type=positive, help="of every module (default: as --energy needs)")
    parser.add_argument(
        "--energy", type=finite, default=ENERGY, help=f"share of each update's energy to keep (default {ENERGY})"
    )
    parser.add_argument("--scale", type=finite, help="of an MLX adapter whose config leaves it open")
    parser.add_argument("--data", help="rows on which logits are compared (default: random tokens)")


COMMAND = Command("convert", "make a LoRA of another kind of adapter, with its error", _options, convert_command)
