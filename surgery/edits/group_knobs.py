"""The gains of layer groups as knobs that slide: one for each family, one for each third of the layers."""

from collections.abc import Iterable
from dataclasses import replace

from surgery.edits.layer_groups import LARGEST_GAIN, THIRDS, thirds_of
from surgery.edits.plan import EditPlan
from surgery.errors import PolicyError
from surgery.policies import Knob
from surgery.spectra import Spectra

FAMILY, THIRD = "family: ", "third: "
_FAMILY_HELP = (
    "scales all modules of this family, after policy and energy rule: 0 takes them out, 1 leaves them as they are"
)
_THIRD_HELP = (
    "scales all modules in this third of the layers, after policy and energy rule: 1 leaves them as they are"
)


def group_knobs(spectra: Spectra, names: Iterable[str]) -> tuple[Knob, ...]:
    """The knobs of the groups that the modules `names` are in: families in their order, then thirds of the depth.

    A knob's name is its kind and its group, as `family: q_proj` and `third: last`.
    """
    names, thirds = list(names), thirds_of(spectra)
    families = dict.fromkeys(spectra[name].family for name in names)
    present = {thirds[name] for name in names}
    return (
        *(_knob(FAMILY + family, _FAMILY_HELP) for family in families),
        *(_knob(THIRD + third, _THIRD_HELP) for at, third in enumerate(THIRDS) if at in present),
    )


def is_group_knob(name: str) -> bool:
    """Whether a knob of that name is one of a layer group; no policy's has such a name."""
    return name.startswith((FAMILY, THIRD))


def group_value(plan: EditPlan, knob: str) -> float:
    """Where a plan's knob of a layer group stands."""
    if knob.startswith(FAMILY):
        return plan.groups.family.get(knob.removeprefix(FAMILY), 1.0)
    return plan.groups.third[_place(knob)]


def with_group(plan: EditPlan, knob: str, gain: float) -> EditPlan:
    """The plan with another gain of a layer group; raises `PolicyError` for a gain or a group that cannot be."""
    groups = plan.groups
    if knob.startswith(FAMILY):
        family = {**groups.family, knob.removeprefix(FAMILY): gain}
        return replace(plan, groups=replace(groups, family=family))
    third = list(groups.third)
    third[_place(knob)] = gain
    return replace(plan, groups=replace(groups, third=(third[0], third[1], third[2])))


def _knob(name: str, words: str) -> Knob:
    return Knob(name, float, 1.0, words, low=0.0, high=LARGEST_GAIN, step=0.05)


def _place(knob: str) -> int:
    name = knob.removeprefix(THIRD)
    if not knob.startswith(THIRD) or name not in THIRDS:
        raise PolicyError(f"{knob!r} names no layer group", f"write {FAMILY}NAME, or {THIRD}{' or '.join(THIRDS)}")
    return THIRDS.index(name)
