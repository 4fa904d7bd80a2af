"""Policies: rules that turn sensitivities into gains (paper §3.4, Eq. 5–7).

A policy sees modules of equal rank as a stack and treats every row alone. Step sizes, gates and
fractions default to those of the authors' released code, because the paper's text does not give
them. A new policy is one frozen dataclass in `gates`, `steps` or `controls`, listed at the end of
that file; its fields are its knobs, and the app, the command line and the recipe pick them up.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from jaxtyping import Float64
from numpy import ndarray

from surgery.controls import CONTROLS, Identity, RandomIndex, Scale, Truncate
from surgery.errors import PolicyError
from surgery.evidence import Evidence
from surgery.gates import GATES, AbsSelect, DoubleSmooth, RobustZ, SmoothAbs, ZScore
from surgery.knobs import Knob, checked_knobs, knob_values, knobs_of
from surgery.steps import STEPS, GradDirection

__all__ = [
    "POLICIES",
    "AbsSelect",
    "DoubleSmooth",
    "Evidence",
    "GradDirection",
    "Identity",
    "Knob",
    "Policy",
    "RandomIndex",
    "RobustZ",
    "Scale",
    "SmoothAbs",
    "Truncate",
    "ZScore",
    "knob_values",
    "knobs_of",
    "make_policy",
]


class Policy(Protocol):
    """One rule; its dataclass fields are its knobs."""

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    def needs_gradient(self) -> bool:
        """Whether it works from sensitivities."""
        ...

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        """αₖ for every component, before manual gains, clamp and energy rule.

        A row may depend on nothing but its own row of the evidence. A row of ones from a policy that
        needs a gradient says that it finds nothing to edit there.
        """
        ...


POLICIES: dict[str, type[Any]] = {policy.name: policy for policy in (*STEPS, *GATES, *CONTROLS)}


def make_policy(name: str, knobs: Mapping[str, Any] | None = None) -> Policy:
    """Build a policy by name; raises `PolicyError` for an unknown name or knob, or a value out of range."""
    if name not in POLICIES:
        raise PolicyError(f"no policy called {name!r}", f"use one of {', '.join(POLICIES)}")
    kind = POLICIES[name]
    policy: Policy = kind(**checked_knobs(kind, knobs or {}))
    return policy
