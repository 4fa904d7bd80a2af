"""From sensitivities to gains."""

from surgery.policies.controls import Identity, RandomIndex, Scale, Truncate
from surgery.policies.evidence import Evidence, evidence_for, normalise
from surgery.policies.gates import AbsSelect, DoubleSmooth, RobustZ, SmoothAbs, ZScore
from surgery.policies.gradient import GradDirection, NaturalGradient
from surgery.policies.knobs import Knob, knob_values, knobs_of
from surgery.policies.policy import POLICIES, Policy, ScopePolicy, for_scope, make_policy, position_of
from surgery.policies.protected import Protected, multipliers
from surgery.policies.transforms import HNS, Clip, FunctionalFlat, FunctionalHNS, Power, TailLift, TopShrink

__all__ = [
    "HNS",
    "POLICIES",
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
    "RobustZ",
    "Scale",
    "ScopePolicy",
    "SmoothAbs",
    "TailLift",
    "TopShrink",
    "Truncate",
    "ZScore",
    "evidence_for",
    "for_scope",
    "knob_values",
    "knobs_of",
    "make_policy",
    "multipliers",
    "normalise",
    "position_of",
]
