"""Knobs: the fields of a policy's dataclass, with what the app and the command line show of them."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar

from surgery.errors import PolicyError
from surgery.policies.evidence import MAGNITUDES, NORMS


@dataclass(frozen=True)
class Knob:
    """How a knob is offered: its range, step and one line of help. Limits are inclusive.

    `when` names an earlier knob and the value, or the values, it must have for this one to matter. `unbounded` tells that `high` is
    only where a slider ends: larger values and infinity are allowed. `components` tells that it counts components, of
    which a module has no more than its rank.
    """

    name: str
    kind: type
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    when: tuple[str, Any] | None = None
    unbounded: bool = False
    components: bool = False

    @property
    def slides(self) -> bool:
        """Whether it has a range to slide over or to search; a seed is a name, not an amount."""
        return self.kind in (int, float) and bool(self.step) and self.name != "seed"

    def matters(self, values: Mapping[str, Any]) -> bool:
        """Whether it does anything beside these values of the other knobs."""
        if self.when is None:
            return True
        name, wanted = self.when
        found: bool = values[name] in wanted if isinstance(wanted, tuple) else values[name] == wanted
        return found


def knob(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that is a knob; `limits` are the optional fields of `Knob`."""
    return field(default=default, metadata={"help": help, **limits})


def fraction_knob(default: float, help: str) -> Any:
    return knob(default, help, low=0.0, high=1.0, step=0.05)


def gate_knob(default: float, help: str) -> Any:
    return knob(default, help, low=0.0, high=4.0, step=0.05)


def softness_knob(default: float, help: str) -> Any:
    return knob(default, help, low=0.05, high=4.0, step=0.05)


def norm_knob() -> Any:
    return knob("mean", "how magnitudes are normalised inside a module", choices=NORMS)


def magnitude_knob(**limits: Any) -> Any:
    return knob(
        "mean_abs",
        "mean_abs averages |g| over examples (the paper); abs_mean takes |average g| (the released code), "
        "in which examples that disagree cancel",
        choices=MAGNITUDES,
        **limits,
    )


def knobs_of(policy: type[Any] | Any) -> tuple[Knob, ...]:
    """The knobs of a policy, in order, as the app and the command line offer them."""
    return tuple(Knob(f.name, type(f.default), f.default, **f.metadata) for f in dataclasses.fields(policy))


def knob_values(policy: Any) -> dict[str, Any]:
    """The policy's knobs and their present values."""
    return {knob.name: getattr(policy, knob.name) for knob in knobs_of(policy)}


class Knobbed:
    """What a policy is made of: a frozen dataclass whose fields are knobs.

    However it is made, a value out of its knob's range raises `PolicyError`, and one in range has the knob's kind.
    `usual_energy` is the energy rule of an edit that names none; `needs_q` tells that it works from the second
    moments of what enters a module, `needs_protected` from measurements of slices that it is not to hurt, `pools` that
    it looks at all modules in scope as if they were one; `steps` names the knobs that say how far it goes.
    """

    usual_energy: ClassVar[str] = "l1"
    needs_protected: ClassVar[bool] = False
    steps: ClassVar[tuple[str, ...]] = ()

    @property
    def needs_q(self) -> bool:
        return False

    @property
    def pools(self) -> bool:
        return False

    def __post_init__(self) -> None:
        for knob in knobs_of(self):
            object.__setattr__(self, knob.name, _checked(knob, getattr(self, knob.name)))


def refuse_unknown(policy: type[Any], names: Iterable[str]) -> None:
    """Raise `PolicyError` for a name that is no knob of `policy`."""
    known = [knob.name for knob in knobs_of(policy)]
    for name in names:
        if name not in known:
            offered = ", ".join(known) or "none: it has no knobs"
            raise PolicyError(f"policy {policy.name} has no knob {name!r}", f"its knobs are {offered}")


def _checked(knob: Knob, value: Any) -> Any:
    if knob.kind is bool or knob.kind is str:
        valid = isinstance(value, knob.kind) and (not knob.choices or value in knob.choices)
        expected = f"one of {', '.join(knob.choices)}" if knob.choices else "true or false"
    else:
        value = math.inf if knob.unbounded and value == "inf" else value
        low, high = knob.low or 0, math.inf if knob.high is None else knob.high
        if knob.unbounded:  # a whole number may be too large for a float, and infinity is one
            high = sys.float_info.max if value != math.inf else math.inf
        number = isinstance(value, Real) and not isinstance(value, bool)
        # compared before anything is computed: a whole number may be too large for a float
        valid = number and low <= value <= high and (knob.kind is float or float(value).is_integer())
        expected = f"a {'whole ' if knob.kind is int else ''}number from {low:g} {'up' if knob.unbounded else f'to {high:g}'}"
    if not valid:
        raise PolicyError(f"knob {knob.name} cannot be {value!r}", f"use {expected}")
    return knob.kind(value)
