"""Options of what is asked of answers and of the rows that ask for them, and near-duplicates as text."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from surgery.data import ALLOW, NearDuplicate

_SHOWN = 20


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loss-only", action="store_true", help="the loss alone: nothing is generated, so no exact match"
    )
    parser.add_argument(
        "--filter",
        nargs="+",
        action="extend",
        metavar="FILTER",
        help="what of answer and reference is compared, one after the other: strip, lower, no-punctuation, number, "
        "'regex: PATTERN', 'regex-last: PATTERN' or 'remove: PATTERN'",
    )
    parser.add_argument("--stop", nargs="+", action="extend", metavar="TEXT", help="texts that end an answer")
    add_near_option(parser)


def add_near_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-near-duplicates",
        action="store_true",
        help="held-out examples may be nearly the same as those that the edit was made on; the run records which",
    )


def answer_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of an `EvaluationPlan` that these options give."""
    settings: dict[str, Any] = {
        "generate": not options.loss_only,
        "filters": tuple(options.filter or ()),
        "stop": tuple(options.stop or ()),
    }
    return settings | ({"near_duplicates": ALLOW} if options.allow_near_duplicates else {})


def near_record(pairs: Sequence[NearDuplicate]) -> dict[str, Any]:
    return {"near_duplicates": [asdict(pair) for pair in pairs]}


def near_text(pairs: Sequence[NearDuplicate]) -> str:
    """The pairs one below the other, the closest first."""
    lines = []
    for pair in sorted(pairs, key=lambda each: -each.overlap)[:_SHOWN]:
        same = "the same words" if pair.overlap == 1 else f"{pair.overlap:.0%} of the words in common"
        lines += [f"{pair.held} and {pair.seen}, {same}:", f"  {pair.held_text}", f"  {pair.seen_text}"]
    more = len(pairs) - _SHOWN
    return "\n".join([*lines, *([f"and {more} more; --json has them all"] if more > 0 else [])])
