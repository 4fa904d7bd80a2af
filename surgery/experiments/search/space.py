"""What a search varies: knobs of the policy, and the edit's strength, scope and energy rule."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from surgery.adapter import SCOPES, in_scope, modules_in
from surgery.edits import ENERGY_RULES, STRENGTH, EditPlan, Grid, grid_of, searchable, with_knobs
from surgery.errors import PolicyError
from surgery.policies import Knob, knob_values, knobs_of
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

KNOBS = "knobs"
PARTS = ("strength", "scope", "energy")
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
        parts = {each.part: value for each, value in given if each.part != KNOBS}
        return replace(with_knobs(self.plan, knobs), **parts)


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
        if part == STRENGTH.name:
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
