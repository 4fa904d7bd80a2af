"""The front between what a protected edit gains on its own slice and what it costs the protected ones.

It is drawn along μ, the price of what a protected slice loses, or along ε, the most that it is expected to lose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from surgery.data import Calibration
from surgery.edits import EditPlan, Expectation, expected, expected_beside
from surgery.evaluation import Effect
from surgery.experiments.tuning import measure_edits
from surgery.policies import NaturalGradient, Protected
from surgery.progress import SILENT, Control
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.model import LiveModel

WEIGHTS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
BOUNDS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # nats per answer token
PROVEN = 5  # points of a front that are measured
Along = Literal["μ", "ε"]


@dataclass(frozen=True)
class FrontPoint:
    """One weight μ of the protected slices, or one bound ε on what they lose: the edit it makes, and what is expected
    of it on every slice.
    """

    along: Along
    value: float
    plan: EditPlan
    target: Expectation
    protected: tuple[Expectation, ...]


def protected_front(
    plan: EditPlan,
    spectra: Spectra,
    sensitivity: Sensitivity,
    values: Sequence[float] | None = None,
    *,
    along: Along = "μ",
) -> tuple[FrontPoint, ...]:
    """The front of policy protected along μ or along ε, cross-fitted, without a model.

    plan: its scope, rules and strength are taken over, and step size and damping where its policy has them.
    spectra: of all modules, by name.
    sensitivity: of the target, with the protected slices beside.
    values: of μ, where 0 is natural_gradient, or of ε in nats per answer token; `WEIGHTS` or `BOUNDS` where not given.
    along: `μ` keeps a bound that the plan has. `ε` bounds what every protected slice is expected to lose, at the least
        weight that keeps to it, from 0 up, and where none does by a shorter step.

    Raises `PolicyError` as policy `protected` does.
    """
    found = []
    for value in (WEIGHTS if along == "μ" else BOUNDS) if values is None else values:
        tried = _at(plan, along, value)
        edit = tried.apply(spectra, sensitivity)
        target = expected(tried, spectra, sensitivity, edit)
        assert target is not None  # the edit was made from the same sensitivities
        found.append(FrontPoint(along, value, tried, target, expected_beside(tried, spectra, sensitivity, edit)))
    return tuple(found)


def measure_front(
    live: "LiveModel",
    points: Sequence[FrontPoint],
    sensitivity: Sensitivity,
    slices: Mapping[str, Calibration],
    *,
    control: Control = SILENT,
) -> dict[str, dict[str, Effect]]:
    """Paired changes of the answer loss on fresh rows, by slice and by the name of the point, as `μ 1` or `ε 0.005`.

    live: the adapter in its running base model.
    points: of a front; of more than `PROVEN` those evenly spread over it.
    sensitivity: what the front was drawn from.
    slices: encoded rows that shaped no edit, by the name of the slice.
    control: hears of examples over all slices and edits.
    """
    edits = {front_name(point): point.plan.apply(live.spectra, sensitivity) for point in spread(points)}
    return measure_edits(live, slices, edits, control=control)


def spread(points: Sequence[FrontPoint]) -> tuple[FrontPoint, ...]:
    """`PROVEN` points evenly over a front, its ends among them; all of a front that has no more."""
    last = len(points) - 1
    chosen = {round(i * last / (PROVEN - 1)) for i in range(PROVEN)} if last >= PROVEN else range(last + 1)
    return tuple(points[i] for i in sorted(chosen))


def front_name(point: FrontPoint) -> str:
    """What a point of a front is called in tables and figures."""
    return f"{point.along} {point.value:g}"


def front_place(plan: EditPlan, along: Along) -> str:
    """The name of the point of a front that a plan stands on; empty for a plan that is on none along that."""
    own = plan.policy
    if not isinstance(own, Protected):
        return ""
    if along == "μ":
        return f"μ {own.mu:g}"
    return f"ε {own.limit:g}" if own.limited and own.mu == 0 else ""


def _at(plan: EditPlan, along: Along, value: float) -> EditPlan:
    knobs: dict[str, Any] = {"mu": value} if along == "μ" else {"mu": 0.0, "limited": True, "limit": value}
    own = plan.policy
    if isinstance(own, Protected):
        return replace(plan, policy=replace(own, **knobs))
    if isinstance(own, NaturalGradient):
        knobs |= {"eta": own.eta, "damping": own.damping}
    return replace(plan, policy=Protected(**knobs), energy=Protected.usual_energy)
