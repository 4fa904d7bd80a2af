"""How much worse an edit may be and still count as not inferior: a part of the question, named before it is asked."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from surgery.errors import DataError

_MARGIN = re.compile(r"\s*([0-9.]+(?:e-?[0-9]+)?)\s*(point|nat)s?\s*")
_EXAMPLE = "write it as 1point or 0.005nats"


@dataclass(frozen=True)
class Margins:
    """The largest losses that are still accepted, each above 0; None where nothing is claimed.

    points: of a share of right answers, in points: 1 is one example in a hundred.
    nats: of the loss.

    Raises `DataError` for a margin that is not above 0, or so large that nothing could miss it.
    """

    points: float | None = 1.0
    nats: float | None = 0.005

    def __post_init__(self) -> None:
        for value, most in ((self.points, 100.0), (self.nats, math.inf)):
            if value is not None and not 0 < value < most:
                raise DataError(f"a margin cannot be {value:g}", "name one above 0, and below 100 points")
        if self.points is None and self.nats is None:
            raise DataError("no margin is named", _EXAMPLE)

    @property
    def texts(self) -> tuple[str, ...]:
        """As a plan has them; `margins_from` of these gives the same margins."""
        named = ((self.points, "point"), (self.nats, "nat"))
        return tuple(f"{value!r} {unit}s" for value, unit in named if value is not None)


def margins_from(texts: Sequence[str]) -> Margins | None:
    """Margins from texts such as `1 point` and `0.005 nats`, at most one of each; None of no text.

    Raises `DataError` for a text that names no margin, and for two of one unit.
    """
    found: dict[str, float] = {}
    for text in texts:
        match = _MARGIN.fullmatch(text)
        try:
            value, unit = (float(match[1]), f"{match[2]}s") if match else (math.nan, "")
        except ValueError:
            value, unit = math.nan, ""
        if not unit:
            raise DataError(f"{text!r} is no margin", _EXAMPLE)
        if unit in found:
            raise DataError(f"two margins are named in {unit}", "name one of each")
        found[unit] = value
    return Margins(found.get("points"), found.get("nats")) if found else None
