"""Trials of a search, and those of them that nothing dominates."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from surgery.edits import EditPlan
from surgery.evaluation import Effect
from surgery.experiments.search.objectives import Objective

MEASURED, STOPPED, REFUSED, BROKEN = "measured", "stopped", "refused", "broken"
OUTCOMES = {
    MEASURED: "measured on all rows",
    STOPPED: "stopped early: worse than the unedited adapter in every objective",
    REFUSED: "refused by its policy",
    BROKEN: "drove the model out of range",
}


@dataclass(frozen=True)
class Trial:
    """One edit that was tried.

    number: from 0, in the order tried.
    plan: the edit; None for a setting that its policy refuses.
    outcome: one of `OUTCOMES`.
    effects: change against the unedited adapter by objective; of a trial that was stopped those of its first rows,
        which are no result.
    rows: of its own slice, that it was asked.
    same_as: number of the earlier trial whose σ′ it has, and whose effects these are.
    sigma: identity of its σ′.
    """

    number: int
    plan: EditPlan | None
    outcome: str
    effects: Mapping[str, Effect] = field(default_factory=dict)
    rows: int = 0
    same_as: int | None = None
    sigma: str = ""

    @property
    def name(self) -> str:
        """What it is called in tables, figures and recipes."""
        return f"trial {self.number + 1}"


def front(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """The trials that nothing dominates by their means, the unedited adapter included, best in the first objective first.

    A trial is dominated by another that is no worse in any objective and better in one; of equals the earliest
    stays. One that was not measured on all rows has no place here, nor one that is nowhere better than the unedited
    adapter.
    """
    places = [
        (_place(trial, objectives), trial)
        for trial in trials
        if trial.outcome == MEASURED and trial.same_as is None
    ]
    nothing = (0.0,) * len(objectives)
    kept: list[tuple[tuple[float, ...], Trial]] = []
    for place, trial in places:
        others = [other for other, each in places if each is not trial]
        if any(value < 0 for value in place) and not any(_beats(other, place) for other in (*others, nothing)):
            kept.append((place, trial))
    unique = dict(reversed(kept))
    return tuple(unique[place] for place in sorted(unique))


def _place(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Changes of which less is better; what is not finite is worse than anything."""
    means = (each.sign * trial.effects[each.name].mean for each in objectives)
    return tuple(mean if math.isfinite(mean) else math.inf for mean in means)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def warning(trials: Sequence[Trial]) -> str:
    """How many trials were looked at, and what that means for the numbers of the best."""
    tried = "1 trial" if len(trials) == 1 else f"{len(trials)} trials"
    words = {STOPPED: "stopped early", REFUSED: "refused", BROKEN: "not finite"}
    counts = {word: sum(trial.outcome == outcome for trial in trials) for outcome, word in words.items()}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return (
        f"{tried} looked at{f' ({told})' if told else ''}. These are the rows that chose, so changes measured here are "
        "optimistic, the more so the more trials: prove an edit on other rows."
    )
