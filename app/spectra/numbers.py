"""Every number of the Spectra page, computed once for an adapter and a measurement.

Components stand end to end, module after module. What is known per component, per module, per layer
and per calibration budget comes from `surgery`; here it is only put side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.sensitivity import (
    KINDS,
    Budget,
    Component,
    Dichotomy,
    InputMoments,
    Sensitivity,
    budgets,
    dichotomy,
    layer_shares,
    ranked,
    standings,
)
from surgery.spectra import (
    Spectra,
    components_for_energy,
    effective_rank,
    full_participation,
    functional_participation,
    functional_shares,
    nuclear_participation,
    stable_rank,
)

ERRORS = 2.0  # standard errors from which a sign counts as sure
UNKNOWN = 2  # a standing of a component that has none: null, not measured, or without a finite gradient
BUDGETS = (32, 64, 128, 256)
LISTED = 100
# of the rank correlation of two halves: a ranking that another draw would turn over, one that it would keep
WEAK, STRONG = 0.5, 0.8
ALL = ""
# fields of Measured with a number for every component
_COLUMNS = ("mean", "error", "magnitude", "magnitude_error", "agreement")


@dataclass(frozen=True)
class Measured:
    """What a calibration adds. `mean` is signed; errors are standard errors; NaN where not measured.

    `layer_shares` holds, for every family and for all (`ALL`), layers and the shares of their energy
    that helps, is neutral and hurts; a layer without an answer is left out.
    """

    examples: int
    mean: Float64[ndarray, " component"]
    error: Float64[ndarray, " component"]
    magnitude: Float64[ndarray, " component"]
    magnitude_error: Float64[ndarray, " component"]
    agreement: Float64[ndarray, " component"]
    standing: Int8[ndarray, " component"]
    dichotomy: Dichotomy
    shares: Mapping[str, Float64[ndarray, " 3"]]
    layer_shares: Mapping[str, tuple[list[int], Float64[ndarray, "layer 3"]]]
    lists: Mapping[str, list[Component]]
    stability: tuple[Budget, ...]


@dataclass(frozen=True)
class Numbers:
    """The spectra, `share` being σₖ² over the module's Σσ² and `energy` its running sum.

    `functional` is σₖ²qₖ over the module's Σσ²q and `q` = E[(vₖᵀx)²], NaN where what enters was not measured.
    `ratios` holds r₂ (`nuclear`), and the participation ratios `functional` and `full`, by module.
    """

    spectra: Spectra
    starts: Mapping[str, int]
    sigma: Float64[ndarray, " component"]
    share: Float64[ndarray, " component"]
    energy: Float64[ndarray, " component"]
    degenerate: Bool[ndarray, " component"]
    effective: Mapping[str, float]
    stable: Mapping[str, float]
    k90: Mapping[str, int]
    functional: Float64[ndarray, " component"]
    q: Float64[ndarray, " component"]
    ratios: Mapping[str, Mapping[str, float]]
    measured: Measured | None

    def places(self, name: str) -> slice:
        """Where the components of a module stand."""
        return slice(self.starts[name], self.starts[name] + self.spectra[name].rank)

    def profile(self, measure: str) -> Mapping[str, float]:
        """One of the measures over depth, per module."""
        return {"effective": self.effective, "stable": self.stable, "k90": self.k90, **self.ratios}[measure]


def numbers_of(spectra: Spectra, sensitivity: Sensitivity | None) -> Numbers:
    """Raises `PolicyError` where the measurement is of another adapter."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is told as such
        return _numbers_of(spectra, sensitivity)


def _numbers_of(spectra: Spectra, sensitivity: Sensitivity | None) -> Numbers:
    ends = np.cumsum([0, *(spectrum.rank for spectrum in spectra.values())])
    shares = [_shares(spectrum.sigma) for spectrum in spectra.values()]
    return Numbers(
        spectra,
        dict(zip(spectra, ends[:-1].tolist(), strict=True)),
        _joined([spectrum.sigma for spectrum in spectra.values()]),
        _joined(shares),
        _joined([np.cumsum(share) for share in shares]),
        _joined([spectrum.degenerate for spectrum in spectra.values()]).astype(bool),
        {name: float(effective_rank(spectrum.sigma)) for name, spectrum in spectra.items()},
        {name: float(stable_rank(spectrum.sigma)) for name, spectrum in spectra.items()},
        {name: int(components_for_energy(spectrum.sigma)) for name, spectrum in spectra.items()},
        *_functional(spectra, None if sensitivity is None else sensitivity.inputs),
        None if sensitivity is None else _measured(spectra, sensitivity),
    )


def _functional(
    spectra: Spectra, inputs: InputMoments | None
) -> tuple[Float64[ndarray, " component"], Float64[ndarray, " component"], dict[str, dict[str, float]]]:
    """σ²q as shares of its module, q, and the participation ratios; NaN where what enters was not measured.

    Raises `PolicyError` where the measurement is of another adapter.
    """
    shares, qs = [], []
    nuclear = {name: nuclear_participation(spectrum.sigma) for name, spectrum in spectra.items()}
    functional, full = dict.fromkeys(spectra, np.nan), dict.fromkeys(spectra, np.nan)
    for name, spectrum in spectra.items():
        share = q = np.full(spectrum.rank, np.nan)
        if inputs is not None and name in inputs.prompt:
            M = inputs.of(name)
            if len(M) != spectrum.rank:
                raise PolicyError(
                    f"module {name!r} has {spectrum.rank} components and what enters it was measured for {len(M)}",
                    "calibrate this adapter",
                )
            q = np.diagonal(M).copy()
            share = functional_shares(spectrum.sigma, q)
            functional[name] = functional_participation(spectrum.sigma, q)
            full[name] = full_participation(spectrum.sigma, M)
        shares.append(share)
        qs.append(q)
    return _joined(shares), _joined(qs), {"nuclear": nuclear, "functional": functional, "full": full}


def verdicts(measured: Measured) -> list[str]:
    """In plain words, how far the rankings can be trusted at the largest budget."""
    if not measured.stability:
        return ["No ranking can be compared: no module has two components with finite sensitivities."]
    last = measured.stability[-1]
    half = last.examples // 2
    found = []
    for label, value in (("mean |g|", last.half_magnitude), ("signed mean g", last.half_signed)):
        if not np.isfinite(value):
            found.append(f"Ranking by {label}: unknown, there are too few examples to split.")
            continue
        strength = "weak" if value < WEAK else "strong" if value >= STRONG else "moderate"
        said = {
            "weak": "another draw of examples would order the components quite differently, so do not act on "
            "single places in it",
            "moderate": "its ends can be trusted more than its middle",
            "strong": "another draw would give nearly the same order",
        }[strength]
        found.append(
            f"Ranking by {label}: {strength}. Two halves of {half} examples each, sharing none, agree with a mean "
            f"rank correlation of {value:.2f}: {said}."
        )
    return found


def _measured(spectra: Spectra, sensitivity: Sensitivity) -> Measured:
    found = dichotomy(spectra, sensitivity, ERRORS)
    unknown = dict(zip(found.names, found.unknown.tolist(), strict=True))
    columns: dict[str, list[ndarray]] = {name: [] for name in _COLUMNS}
    standing = []
    for name, spectrum in spectra.items():
        if name not in sensitivity.values:
            for column in columns.values():
                column.append(np.full(spectrum.rank, np.nan))
            standing.append(np.full(spectrum.rank, UNKNOWN))
            continue
        moments, statistics = sensitivity.moments, sensitivity.statistics(name)
        place = moments.indices[name]
        mean, error = moments.mean[place], moments.error[place]
        columns["mean"].append(mean)
        columns["error"].append(error)
        columns["magnitude"].append(moments.magnitude[place])
        columns["magnitude_error"].append(statistics.magnitude_error)
        columns["agreement"].append(statistics.agreement)
        hidden = spectrum.null | unknown[name]
        standing.append(np.where(hidden, UNKNOWN, standings(mean, error, ERRORS)))
    shares = {
        name: row for name, row, none in zip(found.names, found.shares, found.unknown, strict=True) if not none
    }
    return Measured(
        sensitivity.examples,
        **{name: _joined(column) for name, column in columns.items()},
        standing=_joined(standing).astype(np.int8),
        dichotomy=found,
        shares=shares,
        layer_shares={ALL: layer_shares(spectra, found), **_by_family(spectra, found)},
        lists={kind: ranked(spectra, sensitivity, kind, LISTED, ERRORS) for kind in KINDS},
        stability=budgets(sensitivity, (*BUDGETS, sensitivity.examples)),
    )


def _by_family(spectra: Spectra, found: Dichotomy) -> dict[str, tuple[list[int], Float64[ndarray, "layer 3"]]]:
    shares = {
        family: layer_shares(spectra, found, family)
        for family in dict.fromkeys(spectra[name].family for name in found.names)
    }
    return {family: answer for family, answer in shares.items() if answer[0]}


def _shares(sigma: Float64[ndarray, " rank"]) -> Float64[ndarray, " rank"]:
    if not sigma.any():
        return np.zeros_like(sigma)
    squares: ndarray = (sigma / sigma[0]) ** 2
    return squares / squares.sum()


def _joined(parts: list[ndarray]) -> ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)
