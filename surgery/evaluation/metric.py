"""What is measured of an answer: the name, the unit and the direction of a metric."""

from dataclasses import asdict, dataclass
from typing import Any

_NATS = {
    "answer loss": "nats per answer token",
    "label loss": "nats per label",
    "cross-entropy": "nats per token",
    "KL from the unedited adapter": "nats per token",
    "KL from the base": "nats per token",
}


@dataclass(frozen=True)
class Metric:
    """A metric: one number per example. `binary` where it is 0 or 1: a share, whose changes are told in points.

    `macro` where the parts of the slice count the same whatever their size: the mean is that of their means.
    """

    name: str
    title: str
    higher_is_better: bool
    binary: bool
    macro: bool = False

    @property
    def unit(self) -> str:
        """What its numbers are counted in: points for shares of examples, nats for losses."""
        return "points" if self.binary else _NATS.get(self.title, self.title)

    @property
    def digits(self) -> int:
        """Decimals that its numbers are told with: a KL of a millionth of a nat is no zero."""
        return 6 if self.title.startswith("KL ") else 4

    def record(self) -> dict[str, Any]:
        """The metric as plain values; `macro` is left out where it is not so, as earlier versions wrote it."""
        return {name: value for name, value in asdict(self).items() if name != "macro" or value}


LOSS = Metric("loss", "answer loss", higher_is_better=False, binary=False)
EXACT = Metric("exact", "exact match", higher_is_better=True, binary=True)
