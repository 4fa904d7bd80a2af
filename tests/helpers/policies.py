"""Evidence, spectra and measurements from plain lists, and the words of the policies' formulas.

The formulas are written out in plain Python, one module at a time, and share no code with `surgery`.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from surgery.data import Encoding
from surgery.policies import POLICIES, Evidence
from surgery.sensitivity import InputMoments, Provenance, Sensitivity
from surgery.spectra import Spectrum

# the policies that treat every module alone; natural_gradient looks at the whole scope
ROW_POLICIES = {name: kind for name, kind in POLICIES.items() if not hasattr(kind, "gains_in_scope")}
PROVENANCE = Provenance("adapter", "base", "examples", Encoding(), (), "float32")

# few distinct values, so that ties are common
tied = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=24)
spread = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=24)
signed = st.lists(st.floats(-100, 100).filter(lambda g: g == 0 or abs(g) > 1e-6), min_size=1, max_size=24)
fractions = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3125, 0.5, 0.9, 1.0])
norms = st.sampled_from(["mean", "l2", "none"])


def evidence(
    magnitude: Any = None, *, g: Any = None, sigma: Any = None, q: Any = None, name: str = "m"
) -> Evidence:
    """A stack of one module, from mean |g| or from g itself, with some q where none is given."""
    signs = np.asarray(g if g is not None else magnitude, dtype=np.float64)
    size = np.abs(signs) if magnitude is None else np.asarray(magnitude, dtype=np.float64)
    given = np.arange(signs.size, 0, -1.0) if sigma is None else np.asarray(sigma, dtype=np.float64)
    with np.errstate(over="ignore"):
        rows = [given, signs, np.full(signs.size, np.nan), size, size**2]
    rows.append(some_q(signs.size) if q is None else np.asarray(q, dtype=np.float64))
    return Evidence((name,), *(row[np.newaxis].copy() for row in rows))


def stacked(*modules: Evidence) -> Evidence:
    """One stack of several."""
    names = tuple(name for module in modules for name in module.names)
    fields = ("sigma", "signed", "error", "magnitude", "second_moment", "q")
    return Evidence(names, *(np.concatenate([getattr(module, field) for module in modules]) for field in fields))


def gains_of(policy: Any, module: Evidence) -> np.ndarray:
    """The gains of a stack of one module."""
    gains: np.ndarray = policy.gains(module)
    assert gains.shape == module.sigma.shape
    assert gains.shape[0] == 1
    return gains[0]


def spectrum(name: str, sigma: Any) -> Spectrum:
    sigma = np.asarray(sigma, dtype=np.float64)
    layer = next((int(part) for part in name.split(".") if part.isdecimal()), None)
    return Spectrum(name, layer, name.rpartition(".")[2], np.eye(sigma.size), sigma, np.eye(sigma.size))


def measured(values: Mapping[str, Any]) -> Sensitivity:
    """Sensitivities from {module: rows of examples}, with some second moments of every module's input."""
    arrays = {name: np.asarray(g, dtype=np.float64) for name, g in values.items()}
    return with_some_q(Sensitivity(arrays, np.ones(len(next(iter(arrays.values())))), PROVENANCE))


def with_some_q(sensitivity: Sensitivity) -> Sensitivity:
    """The measurement with made-up second moments of every module's input."""
    sums = {name: np.diag(some_q(g.shape[1])) for name, g in sensitivity.values.items()}
    return replace(sensitivity, inputs=InputMoments(sums, sums, {"prompt": 1, "answer": 1}))


def some_q(rank: int) -> np.ndarray:
    """Second moments of a few sizes, the same for every module of a rank."""
    return np.random.default_rng(rank).lognormal(sigma=1.5, size=rank)


def with_protected(sensitivity: Sensitivity) -> Sensitivity:
    """The same beside a slice to protect: its examples in other places, so that the slopes are others."""
    counts = np.full(sensitivity.examples, 3)
    values = {name: g[:, ::-1] for name, g in sensitivity.values.items()}
    beside = replace(sensitivity, values=values, answer_tokens=counts)
    return replace(sensitivity, answer_tokens=counts, protected=(beside,))


# ---- the formulas ----


def normalised(values: Sequence[float], norm: str) -> list[float]:
    if norm == "none":
        return list(values)
    if norm == "mean":
        scale = math.fsum(abs(v) for v in values) / len(values)
    else:
        scale = math.sqrt(math.fsum(v * v for v in values))
    return [v / scale for v in values] if scale else list(values)


def gate_counts(r: int, core_frac: float, noise_frac: float, min_core_k: int) -> tuple[int, int]:
    core = min(r, max(round(r * core_frac), min_core_k))
    return core, min(max(round(r * noise_frac), 0), r - core)


def quantile(values: Sequence[float], q: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


def two_gates(below: float, above: float, amp: float, sup: float, mid: float) -> float:
    return mid - (mid - sup) * sigmoid(below) + (amp - mid) * sigmoid(above)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.pstdev(values)


def median_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The median and 1.4826 times the median distance from it."""
    centre = statistics.median(values)
    return centre, 1.4826 * statistics.median([abs(v - centre) for v in values])
