"""The front between what a protected edit gains on its own slice and what it costs the protected ones, along μ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
PROVEN = 5  # points of a front that are measured


@dataclass(frozen=True)
class FrontPoint:
    """One weight of the protected slices: the edit it makes, and what is expected of it on every slice."""

    mu: float
    plan: EditPlan
    target: Expectation
    protected: tuple[Expectation, ...]


def protected_front(
    plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity, weights: Sequence[float] = WEIGHTS
) -> tuple[FrontPoint, ...]:
    """The front of policy protected along μ, cross-fitted, without a model.

    plan: its scope, rules and strength are taken over, and step size and damping where its policy has them.
    spectra: of all modules, by name.
    sensitivity: of the target, with the protected slices beside.
    weights: values of μ; 0 is natural_gradient.

    Raises `PolicyError` as policy `protected` does.
    """
    found = []
    for mu in weights:
        tried = _at(plan, mu)
        edit = tried.apply(spectra, sensitivity)
        target = expected(tried, spectra, sensitivity, edit)
        assert target is not None  # the edit was made from the same sensitivities
        found.append(FrontPoint(mu, tried, target, expected_beside(tried, spectra, sensitivity, edit)))
    return tuple(found)


def measure_front(
    live: "LiveModel",
    points: Sequence[FrontPoint],
    sensitivity: Sensitivity,
    slices: Mapping[str, Calibration],
    *,
    control: Control = SILENT,
) -> dict[str, dict[str, Effect]]:
    """Paired changes of the answer loss on fresh rows, by slice and by the name `μ …` of the point.

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
    return f"μ {point.mu:g}"


def _at(plan: EditPlan, mu: float) -> EditPlan:
    own = plan.policy
    if isinstance(own, Protected):
        return replace(plan, policy=replace(own, mu=mu))
    policy = Protected(own.eta, own.damping, mu) if isinstance(own, NaturalGradient) else Protected(mu=mu)
    return replace(plan, policy=policy, energy=Protected.usual_energy)
