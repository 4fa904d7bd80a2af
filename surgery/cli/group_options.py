"""Options of the gains of layer groups."""

import argparse
from collections.abc import Sequence

from surgery.cli.options import finite
from surgery.edits import LARGEST_GAIN, LayerGroups
from surgery.errors import PolicyError

_THREE = ("FIRST", "MIDDLE", "LAST")


def add_group_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--family-gain",
        nargs="+",
        action="extend",
        metavar="FAMILY=GAIN",
        help=f"scale all modules of a family on top of the policy, as q_proj=0.8, by 0 to {LARGEST_GAIN:g}",
    )
    parser.add_argument(
        "--third-gain",
        nargs=3,
        type=finite,
        metavar=_THREE,
        help="scale the first, middle and last third of the layers",
    )
    parser.add_argument(
        "--family-third-gain",
        nargs="+",
        action="extend",
        metavar="FAMILY=GAINS",
        help="scale a family in each third, as q_proj=1,0.8,0.5",
    )


def groups_from(options: argparse.Namespace) -> LayerGroups:
    """The gains that these options name; raises `PolicyError` for a text that names none, and for a family named twice."""
    family = {name: gains[0] for name, gains in _named(options.family_gain or [], 1).items()}
    both = {
        name: (gains[0], gains[1], gains[2]) for name, gains in _named(options.family_third_gain or [], 3).items()
    }
    first, middle, last = options.third_gain or (1.0, 1.0, 1.0)
    return LayerGroups(family, (first, middle, last), both)


def _named(texts: Sequence[str], count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            gains = [float(number) for number in numbers.split(",")]
        except ValueError:
            gains = []
        if not name or len(gains) != count:
            example = "q_proj=0.8" if count == 1 else "q_proj=1,0.8,0.5"
            raise PolicyError(f"{text!r} is no family with its gain", f"write it as {example}")
        if name in found:
            raise PolicyError(f"the family {name!r} is given two gains", "name it once")
        found[name] = gains
    return found
