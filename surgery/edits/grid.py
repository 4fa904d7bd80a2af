"""The steps of a policy's knobs, for sweeps and searches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from surgery.adapter import in_scope
from surgery.edits.plan import EditPlan
from surgery.errors import PolicyError
from surgery.policies import Knob, knob_values, knobs_of, make_policy
from surgery.spectra import Spectra


@dataclass(frozen=True)
class Grid:
    """The values that a knob slides over: `last` + 1 of them, `low` the first. A switch has two."""

    knob: Knob
    low: float
    step: float
    last: int

    def value(self, step: int) -> Any:
        return self.knob.kind(round(self.low + self.step * step, 9))

    def nearest(self, value: float) -> int:
        return min(self.last, max(0, round((value - self.low) / self.step)))


def grid_of(knob: Knob, high: float | None = None) -> Grid:
    """The grid of a knob, up to `high` where that is less; raises `PolicyError` for one without a range."""
    if knob.kind is bool:
        return Grid(knob, 0, 1, 1)
    if knob.low is None or knob.high is None or not knob.step:
        raise PolicyError(f"knob {knob.name} has no range", "choose a sliding knob")
    top = knob.high if high is None else max(knob.low, min(knob.high, high))
    # a last step that would pass the end is left out; rounding is not to cost one that meets it
    return Grid(knob, knob.low, knob.step, math.floor((top - knob.low) / knob.step + 1e-9))


def searchable(plan: EditPlan, names: Sequence[str] | None, spectra: Spectra) -> list[Grid]:
    """What a search may vary: the knobs of `names`, or all that slide and do something."""
    offered = {knob.name: knob for knob in knobs_of(plan.policy)}
    own = knob_values(with_knobs(plan, {}).policy)
    sliding = {name for name, knob in offered.items() if knob.kind is not str and name != "seed"}
    wanted = sliding if names is None else set(names)
    for name in sorted(wanted - sliding):
        raise PolicyError(
            f"policy {plan.policy.name} has no knob {name!r} to search",
            f"choose from {', '.join(k for k in offered if k in sliding) or 'another policy'}",
        )
    for name in [] if names is None else names:
        if not _can_matter(offered[name], wanted, own):
            other, needed = offered[name].when or ("", None)
            raise PolicyError(f"knob {name} does nothing unless {other} is {needed}", f"set or search {other} too")
    usable = {name for name in wanted if _can_matter(offered[name], wanted, own)}
    if not usable:
        raise PolicyError(f"there is no knob of {plan.policy.name} to search", "choose knobs or another policy")
    # there are no more components than the largest rank
    rank = max(spectra[name].rank for name in in_scope(spectra, plan.scope))
    return [grid_of(knob, rank if knob.components else None) for name, knob in offered.items() if name in usable]


def _can_matter(knob: Knob, varied: set[str], own: Mapping[str, Any]) -> bool:
    return knob.matters(own) or (knob.when is not None and knob.when[0] in varied)


def with_knobs(plan: EditPlan, values: Mapping[str, Any]) -> EditPlan:
    """The plan with other knobs; raises `PolicyError` for any that is unknown or out of range."""
    return replace(plan, policy=make_policy(plan.policy.name, {**knob_values(plan.policy), **values}))
