"""Whose control a variant of a run is, by which rule it was drawn, and where earlier versions drew another edit's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from surgery.evaluation import SAME_ENERGY, SAME_NORM, is_random_control

RANDOM_GATES, SHUFFLED_GAINS = "random gates", "shuffled gains"
_EDIT = "edit"  # the name under which a proof of the page and of a recipe has its edit
# of the random controls that the command line of earlier versions drew, whatever the edits beside them
_EARLIER_RULES = ("residual", "l1", 0.0)


@dataclass(frozen=True)
class ControlGroup:
    """The controls of one edit and what they share with it.

    `random` names its random controls and `scaled` its rescaling, empty without one. `kind` is how the random ones
    are drawn. `moved` is ‖σ′ − σ‖₂ of a random control over that of the edit, on average; None where the edit
    moves nothing. `shape` names by control those that tell scale from shape, the rescaling among them, and
    `unmatched` counts the modules whose functional energy could not be matched.
    """

    random: tuple[str, ...]
    scope: str
    energy: str
    sigma_min: float
    kind: str
    moved: float | None = None
    scaled: str = ""
    shape: Mapping[str, str] = field(default_factory=dict)
    unmatched: int = 0


def parse_controls(record: Mapping[str, Mapping[str, Any]]) -> dict[str, ControlGroup]:
    """Groups by the name of their edit, as a run keeps them; raises `TypeError` for anything else."""
    return {
        name: ControlGroup(
            **{**group, "random": tuple(map(str, group["random"])), "shape": dict(group.get("shape", {}))}
        )
        for name, group in record.items()
    }


def control_notes(controls: Mapping[str, ControlGroup]) -> tuple[str, ...]:
    """A sentence for each edit with random controls: which they are, under which rules and how far they move.

    And one where a scale control could not be matched in functional energy.
    """
    random = (_note(name, group) for name, group in controls.items() if group.random)
    return (*random, *filter(None, (_scale_note(name, group) for name, group in controls.items())))


def _scale_note(edit: str, group: ControlGroup) -> str:
    if SAME_NORM in group.shape and SAME_ENERGY not in group.shape:
        return (
            f"{group.scaled}: matched in Frobenius norm, because how much of the inputs each direction carries was not "
            "measured with these sensitivities; calibrate again for controls at the same functional energy"
        )
    if not group.unmatched:
        return ""
    return (
        f"{group.unmatched} of the modules of {edit!r} stay unedited in the controls at a functional energy: the second "
        "moments of their inputs are not known, or nothing passes through them"
    )


def _note(edit: str, group: ControlGroup) -> str:
    first, last = group.random[0], group.random[-1]
    named = first if first == last else f"{first} to {last}"
    whose = f"the random {'control' if first == last else 'controls'} of {edit!r}" if edit else "of no edit"
    clamp = f", σ′ from {group.sigma_min:g}" if group.sigma_min else ""
    told = f"{named}: {whose}, {group.kind} in scope {_short(group.scope)} under energy rule {group.energy}{clamp}"
    return told if group.moved is None else f"{told}; ‖σ′ − σ‖ is {group.moved:.2f} of the edit's"


def _short(scope: str) -> str:
    return scope if len(scope) <= 60 else f"{scope[:57]}…"


def unlike_controls(
    variants: Iterable[str], edits: Mapping[str, Mapping[str, Any]], controls: Mapping[str, ControlGroup]
) -> tuple[str, ...]:
    """Edits of a run whose random controls have another scope, energy rule or clamp than they have themselves.

    variants: all names of the run.
    edits: records of the plans that made edits, by name.
    controls: by the name of their edit; empty in runs of earlier versions, whose controls were those of the edit
        called `edit`, or else of the residual scope under l1.
    """
    if controls or not any(map(is_random_control, variants)):
        return ()
    own = edits.get(_EDIT)
    rules = _EARLIER_RULES if own is None else _rules(own)
    return tuple(name for name, edit in edits.items() if _rules(edit) != rules)


def _rules(edit: Mapping[str, Any]) -> tuple[str, str, float]:
    return str(edit.get("scope")), str(edit.get("energy")), float(edit.get("sigma_min", 0.0))


def unlike_note(edits: Iterable[str]) -> str:
    """What a reader of such a run has to know."""
    return (
        f"The random controls of this run have another scope or energy rule than {', '.join(map(repr, edits))}: "
        "no rank among them is told. Prove it again for controls of its own."
    )
