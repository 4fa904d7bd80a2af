"""From sensitivities to gains."""

from surgery.policies.controls import Identity, RandomIndex, Scale
from surgery.policies.evidence import Evidence, evidence_for, normalise, pooled
from surgery.policies.gates import AbsSelect, DoubleSmooth, RobustZ, SmoothAbs, ZScore
from surgery.policies.gradient import GradDirection, NaturalGradient
from surgery.policies.knobs import Knob, knob_values, knobs_of
from surgery.policies.policy import (
    FORMER_NAMES,
    POLICIES,
    Policy,
    ScopePolicy,
    for_scope,
    make_policy,
    position_of,
)
from surgery.policies.protected import Protected, multipliers
from surgery.policies.rank import CUTS, SCORES, Rank
from surgery.policies.transforms import HNS, Clip, FunctionalFlat, FunctionalHNS, Power, TailLift, TopShrink

__all__ = [
    "CUTS",
    "FORMER_NAMES",
    "HNS",
    "POLICIES",
    "SCORES",
    "AbsSelect",
    "Clip",
    "DoubleSmooth",
    "Evidence",
    "FunctionalFlat",
    "FunctionalHNS",
    "GradDirection",
    "Identity",
    "Knob",
    "NaturalGradient",
    "Policy",
    "Power",
    "Protected",
    "RandomIndex",
    "Rank",
    "RobustZ",
    "Scale",
    "ScopePolicy",
    "SmoothAbs",
    "TailLift",
    "TopShrink",
    "ZScore",
    "evidence_for",
    "for_scope",
    "knob_values",
    "knobs_of",
    "make_policy",
    "multipliers",
    "normalise",
    "pooled",
    "position_of",
]
