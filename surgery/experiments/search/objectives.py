"""What a search can be asked to improve: numbers of rows, and the size of the adapter.

Every objective is told as its change against the unedited adapter, which stands at zero in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from surgery.edits import Edit
from surgery.errors import PolicyError
from surgery.evaluation import Effect
from surgery.spectra import Spectra, null_components

OWN, PROTECTED, TASK = "own", "protected", "task"
# what is read of a row: its answer loss, whether its greedy answer is right, how far its answer tokens drift, or the
# score that its task gives it
Reading = Literal["loss", "exact", "kl", "score"]


@dataclass(frozen=True)
class Objective:
    """One number that a search minimises or maximises.

    name: as it is asked for.
    title: as it is shown.
    unit: of what is shown, which is the number times `factor` with `digits` behind the point.
    higher_is_better: whether it is maximised.
    rows: whose it is, `own`, `protected` or those of a `task`; None for one that no row is asked for.
    reading: what is read of these rows; None likewise.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool = False
    rows: str | None = None
    reading: Reading | None = None
    factor: float = 1.0
    digits: int = 4

    @property
    def sign(self) -> float:
        """What its number is multiplied by for less to be better."""
        return -1.0 if self.higher_is_better else 1.0

    def shown(self, value: float) -> str:
        """A change as text, with its sign."""
        return f"{self.factor * value:+.{self.digits}f}"

    def told(self, effect: Effect) -> str:
        """A change with its standard error, and whether it is within noise; a size has none."""
        if self.rows is None:
            return self.shown(effect.mean)
        noise = "" if effect.certain else ", within noise"
        return f"{self.shown(effect.mean)} ± {self.factor * effect.standard_error:.{self.digits}f}{noise}"


_POINTS = {"factor": 100.0, "digits": 1}
OBJECTIVES: dict[str, Objective] = {
    each.name: each
    for each in (
        Objective("loss", "answer loss", "nats per answer token", rows=OWN, reading="loss"),
        Objective(
            "exact",
            "right answers",
            "points",
            higher_is_better=True,
            rows=OWN,
            reading="exact",
            factor=100,
            digits=1,
        ),
        Objective("protected", "protected loss", "nats per answer token", rows=PROTECTED, reading="loss"),
        Objective("kl", "KL(unedited ‖ edited)", "nats per answer token", rows=OWN, reading="kl"),
        Objective(
            "protected-kl",
            "protected KL(unedited ‖ edited)",
            "nats per answer token",
            rows=PROTECTED,
            reading="kl",
        ),
        Objective(
            "task",
            "the task's own metric",
            "points",
            higher_is_better=True,
            rows=TASK,
            reading="score",
            factor=100,
            digits=1,
        ),
        Objective("parameters", "parameters kept", "% of the adapter's", factor=100, digits=1),
    )
}


def objectives_named(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of these names, in this order.

    Raises `PolicyError` for one that is not known or named twice, and where none is measured on rows.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise PolicyError(f"objective {name!r} is not known", f"choose from {', '.join(OBJECTIVES)}")
        if list(names).count(name) > 1:
            raise PolicyError(f"objective {name!r} is named twice", "name it once")
    found = tuple(OBJECTIVES[name] for name in names)
    if not any(each.rows for each in found):
        raise PolicyError(
            "no objective is measured on rows, so the smallest edit would be the best",
            "add one that is, such as loss",
        )
    return found


def kept_share(spectra: Spectra, edit: Edit) -> float:
    """Share of the factors' parameters that an edit keeps: components that are not null, (rows + columns) each.

    spectra: of all modules of the adapter, by name; those that the edit leaves alone count as they are.
    edit: of any of them.
    """
    kept = total = 0
    for name, spectrum in spectra.items():
        module = edit.modules.get(name)
        sigma = spectrum.sigma if module is None else module.sigma_after
        each = spectrum.U.shape[0] + spectrum.V.shape[0]
        kept += each * int((~null_components(sigma)).sum())
        total += each * sigma.size
    return kept / total if total else 0.0
