"""What a search varies: knobs of the policy, the edit's strength, scope and energy rule, and gains of layer groups."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from surgery.adapter import SCOPES, in_scope, modules_in
from surgery.edits import (
    ENERGY_RULES,
    FAMILY,
    LARGEST_GAIN,
    STRENGTH,
    THIRD,
    THIRDS,
    EditPlan,
    Grid,
    grid_of,
    group_knobs,
    group_value,
    searchable,
    thirds_of,
    with_group,
    with_knobs,
)
from surgery.errors import PolicyError
from surgery.policies import Knob, knob_values, knobs_of
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

KNOBS = "knobs"
FAMILIES, ONLY_THIRDS, BOTH = "families", "thirds", "families-thirds"
GROUPS = (FAMILIES, ONLY_THIRDS, BOTH)
PARTS = ("strength", "scope", "energy", *GROUPS)
_IN = " in the third: "
_OF_EDIT = "edit."  # a knob of a policy may have the same name


@dataclass(frozen=True)
class SearchSpace:
    """What is varied of an edit; all else stays as its plan has it.

    knobs: names of the policy's; None for every switch and every number with a range, except a seed.
    parts: of `PARTS`, what is varied besides.
    """

    knobs: tuple[str, ...] | None = None
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise PolicyError(f"a search cannot vary {part!r}", f"choose from {', '.join(PARTS)}")


@dataclass(frozen=True)
class Dimension:
    """One thing that is varied: the steps of a grid, or a choice among names.

    `part` is `knobs` or one of `PARTS`. `start` is the step or the name that the plan given has, the nearest step where
    it lies between two.
    """

    name: str
    part: str
    start: int | str
    grid: Grid | None = None
    choices: tuple[str, ...] = ()

    def value(self, chosen: Any) -> Any:
        """What a step or a name stands for."""
        return chosen if self.grid is None else self.grid.value(chosen)


@dataclass(frozen=True)
class Room:
    """A plan and all that is varied of it."""

    plan: EditPlan
    dimensions: tuple[Dimension, ...]

    @property
    def start(self) -> dict[str, int | str]:
        """Where the plan stands, by dimension."""
        return {each.name: each.start for each in self.dimensions}

    def values(self, choose: Callable[[Dimension], Any]) -> dict[str, Any]:
        """What `choose` says of each dimension in turn; not asked of knobs that do nothing beside those before."""
        knobs, found = knob_values(self.plan.policy), {}
        for each in self.dimensions:
            knob = each.grid.knob if each.grid is not None and each.part == KNOBS else None
            if knob is not None and not knob.matters(knobs):
                continue
            found[each.name] = choose(each)
            if knob is not None:
                knobs[each.name] = each.value(found[each.name])
        return found

    def plan_at(self, values: Mapping[str, Any]) -> EditPlan:
        """The plan where dimensions have these values; raises `PolicyError` for knobs that are refused together."""
        given = [(each, each.value(values[each.name])) for each in self.dimensions if each.name in values]
        knobs = {each.name: value for each, value in given if each.part == KNOBS}
        parts = {each.part: value for each, value in given if each.part not in (KNOBS, *GROUPS)}
        plan = replace(with_knobs(self.plan, knobs), **parts)
        for each, value in given:
            if each.part in GROUPS:
                plan = _with_gain(plan, each, value)
        return plan


def room_of(plan: EditPlan, space: SearchSpace, spectra: Spectra, sensitivity: Sensitivity | None) -> Room:
    """The room that a search of this space has.

    plan: the edit to start from.
    space: what is asked for.
    spectra: of all modules, by name.
    sensitivity: what edits are made from; without second moments of inputs no rule reads them.

    Raises `PolicyError` where nothing can be varied, and for knobs that cannot.
    """
    own = knob_values(plan.policy)
    grids = _knob_grids(plan, space, spectra)
    found = [Dimension(grid.knob.name, KNOBS, grid.nearest(own[grid.knob.name]), grid) for grid in grids]
    for part in space.parts:
        name = f"{_OF_EDIT}{part}"
        if part in GROUPS:
            found += _gains(plan, part, spectra, _names(plan, space, spectra))
        elif part == STRENGTH.name:
            found.append(Dimension(name, part, grid_of(STRENGTH).nearest(plan.strength), grid_of(STRENGTH)))
        else:
            choices = _scopes(plan, spectra) if part == "scope" else _energies(plan, sensitivity)
            found.append(Dimension(name, part, getattr(plan, part), choices=choices))
    return Room(plan, tuple(found))


def _knob_grids(plan: EditPlan, space: SearchSpace, spectra: Spectra) -> list[Grid]:
    if space.parts and space.knobs is None and not any(map(_searchable, knobs_of(plan.policy))):
        return []  # a policy without knobs can still be turned up and down
    if space.parts and space.knobs == ():
        return []
    # no scope of the search has a module of a larger rank
    wide = replace(plan, scope="all") if "scope" in space.parts else plan
    return searchable(wide, space.knobs, spectra)


def _names(plan: EditPlan, space: SearchSpace, spectra: Spectra) -> list[str]:
    """The modules that an edit of this space may change."""
    return list(spectra) if "scope" in space.parts else in_scope(spectra, plan.scope)


def _gains(plan: EditPlan, part: str, spectra: Spectra, names: Iterable[str]) -> list[Dimension]:
    """The gains of layer groups that the modules `names` are in, each from 0 to 2."""
    names = list(names)
    if part == BOTH:
        thirds = thirds_of(spectra)
        pairs = dict.fromkeys((spectra[n].family, third) for n in names if (third := thirds[n]) is not None)
        knobs = [_gain_knob(family, third) for family, third in sorted(pairs)]
    else:
        wanted = FAMILY if part == FAMILIES else THIRD
        knobs = [knob for knob in group_knobs(spectra, names) if knob.name.startswith(wanted)]
    grids = [grid_of(knob) for knob in knobs]
    return [Dimension(g.knob.name, part, g.nearest(_gain_at(plan, part, g.knob.name)), g) for g in grids]


def _gain_knob(family: str, third: int) -> Knob:
    name = f"{family}{_IN}{THIRDS[third]}"
    return Knob(
        name, float, 1.0, "scales a family in a third of the layers", low=0.0, high=LARGEST_GAIN, step=0.05
    )


def _gain_at(plan: EditPlan, part: str, name: str) -> float:
    """Where the gain of a group stands in a plan."""
    if part != BOTH:
        return group_value(plan, name)
    family, third = name.rsplit(_IN, 1)
    gains = plan.groups.both.get(family)
    return 1.0 if gains is None else gains[THIRDS.index(third)]


def _with_gain(plan: EditPlan, group: Dimension, gain: float) -> EditPlan:
    """The plan with another gain of a group."""
    if group.part != BOTH:
        return with_group(plan, group.name, gain)
    family, third = group.name.rsplit(_IN, 1)
    gains = list(plan.groups.both.get(family, (1.0, 1.0, 1.0)))
    gains[THIRDS.index(third)] = gain
    both = {**plan.groups.both, family: (gains[0], gains[1], gains[2])}
    return replace(plan, groups=replace(plan.groups, both=both))


def _searchable(knob: Knob) -> bool:
    return knob.kind is bool or knob.slides


def _scopes(plan: EditPlan, spectra: Spectra) -> tuple[str, ...]:
    """The plan's own scope and named ones that select other modules; all of them hold what is set by hand."""
    held = {name for name, gains in plan.manual.items() if gains}
    found = {tuple(in_scope(spectra, plan.scope)): plan.scope}
    for scope in SCOPES:
        chosen = tuple(modules_in(spectra, scope))
        if chosen and held <= set(chosen):
            found.setdefault(chosen, scope)
    return tuple(found.values())


def _energies(plan: EditPlan, sensitivity: Sensitivity | None) -> tuple[str, ...]:
    measured = sensitivity is not None and sensitivity.inputs is not None
    return tuple(rule for rule in ENERGY_RULES if measured or rule != "functional" or rule == plan.energy)
