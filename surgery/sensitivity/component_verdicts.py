"""A component helps, hurts, is neutral or unknown: a missing gradient does not make a component wasteful."""

from dataclasses import dataclass
from enum import IntEnum
from math import isfinite

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64
from numpy import ndarray
from scipy.special import stdtr

from surgery.errors import PolicyError
from surgery.sensitivity.sensitivity import Sensitivity
from surgery.spectra import Spectra, Spectrum

KINDS = ("harmful", "wasteful", "helpful")


class Standing(IntEnum):
    """What raising σₖ does to the calibration loss; the code is the sign of ḡₖ."""

    HELPS = -1
    NEUTRAL = 0
    HURTS = 1


@dataclass(frozen=True)
class Dichotomy:
    """Per module, in columns helps, neutral, hurts: shares of Σσ², which sum to 1, and counts.

    Null components are not counted. `unknown` marks modules without an answer, whose shares and
    counts are 0: a zero update, or one that no finite gradient reached. `by_luck` is how many
    components would be named as helping or hurting if every true ḡ were 0: with z = 2 about 5 %.
    """

    names: tuple[str, ...]
    shares: Float64[ndarray, "module 3"]
    counts: Int64[ndarray, "module 3"]
    unknown: Bool[ndarray, " module"]
    by_luck: float

    @property
    def named(self) -> int:
        """Components found to help or to hurt, to be read against `by_luck`."""
        return int(self.counts[:, [0, 2]].sum())


@dataclass(frozen=True)
class Component:
    """One component of one module, with what is known of it.

    `energy_share` is σₖ² over its module's Σσ². `mean` and `error` are ḡₖ and its standard error;
    `if_zeroed` and `if_zeroed_error` the first-order change of the calibration loss if it were zeroed,
    −ḡₖσₖ, in nats per answer token. `degenerate` warns that σₖ is not alone: its direction, and so its
    ḡₖ, is one of many that the same ΔW allows.
    """

    name: str
    layer: int | None
    family: str
    component: int
    sigma: float
    energy_share: float
    mean: float
    error: float
    if_zeroed: float
    if_zeroed_error: float
    degenerate: bool


def standings(
    mean: Float64[ndarray, " *component"], error: Float64[ndarray, " *component"], z: float = 2.0
) -> Int8[ndarray, " *component"]:
    """A `Standing` per component: the sign of ḡ where |ḡ| > z·error, else neutral.

    Neutral too where the error is unknown, as from a single example, or ḡ is not finite. With z = 2
    about 5 % of components whose true ḡ is 0 are named helpful or harmful by luck: see `by_luck`.
    Raises `PolicyError` for a negative z or one that is not finite.
    """
    if not isfinite(z) or z < 0:
        raise PolicyError(f"z cannot be {z!r}", "use a number of standard errors from 0 up, such as 2")
    with np.errstate(invalid="ignore"):
        certain = np.isfinite(mean) & np.isfinite(error) & (np.abs(mean) > z * error)
        return np.where(certain, np.sign(mean), 0).astype(np.int8)


def by_luck(components: int, examples: int, z: float = 2.0) -> float:
    """How many of `components` with a true ḡ of 0 get a name by luck, on average.

    Student's t with examples − 1 degrees of freedom; exact where g is normally distributed over
    examples. None from a single example, whose error is unknown.
    """
    return float(components * 2 * stdtr(examples - 1, -z)) if examples > 1 else 0.0


def dichotomy(spectra: Spectra, sensitivity: Sensitivity, z: float = 2.0) -> Dichotomy:
    """Shares of energy Σσ² by standing for every measured module, in the order of `spectra`.

    Raises `PolicyError` where no module was measured or a measurement is of another adapter.
    """
    names = _measured(spectra, sensitivity)
    shares, counts = np.zeros((len(names), 3)), np.zeros((len(names), 3), dtype=np.int64)
    unknown = np.zeros(len(names), dtype=bool)
    tested = 0
    for row, name in enumerate(names):
        module, (mean, error) = spectra[name], _moments(sensitivity, name)
        unknown[row] = not _answered(module, sensitivity)
        if unknown[row]:
            continue
        live = ~module.null
        codes, energy = standings(mean, error, z)[live], _energy_shares(module)[live]
        for column, standing in enumerate(Standing):
            chosen = codes == standing
            shares[row, column], counts[row, column] = energy[chosen].sum(), chosen.sum()
        shares[row] /= shares[row].sum()
        tested += int(live.sum())
    return Dichotomy(tuple(names), shares, counts, unknown, by_luck(tested, sensitivity.examples, z))


def layer_shares(
    spectra: Spectra, verdicts: Dichotomy, family: str | None = None
) -> tuple[list[int], Float64[ndarray, "layer 3"]]:
    """Layers, and the shares of each one's energy Σσ² that helps, is neutral within noise and hurts.

    Over the modules of one family or of all; unknown ones and those outside a layer do not count.
    """
    rows: dict[int, list[int]] = {}
    for row, name in enumerate(verdicts.names):
        layer = spectra[name].layer
        if layer is not None and not verdicts.unknown[row] and family in (None, spectra[name].family):
            rows.setdefault(layer, []).append(row)
    layers = sorted(rows)
    shares = np.zeros((len(layers), 3))
    for at, layer in enumerate(layers):
        # relative to the largest σ, so that squares neither overflow nor all vanish
        largest = max(float(spectra[verdicts.names[row]].sigma[0]) for row in rows[layer])
        energy = np.array([((spectra[verdicts.names[row]].sigma / largest) ** 2).sum() for row in rows[layer]])
        shares[at] = energy @ verdicts.shares[rows[layer]] / energy.sum()
    return layers, shares


def ranked(
    spectra: Spectra, sensitivity: Sensitivity, kind: str, limit: int = 20, z: float = 2.0
) -> list[Component]:
    """The first components of a kind, over all measured modules.

    spectra: of all modules, by name.
    sensitivity: gₖ by example and component.
    kind: `harmful`: ḡ surely positive, the largest expected gain from zeroing it first. `helpful`: ḡ surely
        negative, the largest expected loss first. `wasteful`: neutral, with a known error, the largest share of
        their module's energy Σσ² first.
    limit: components to return at most.
    z: standard errors from which ḡ is sure.

    Up to `by_luck` of the first two kinds together are there by luck. Raises `PolicyError` for an unknown kind,
    and as `dichotomy` does.
    """
    if kind not in KINDS:
        raise PolicyError(f"kind {kind!r} is not known", f"use one of {', '.join(KINDS)}")
    wanted = {"harmful": Standing.HURTS, "wasteful": Standing.NEUTRAL, "helpful": Standing.HELPS}[kind]
    found: list[Component] = []
    for name in _measured(spectra, sensitivity):
        module, (mean, error) = spectra[name], _moments(sensitivity, name)
        if not _answered(module, sensitivity):
            continue
        chosen = (standings(mean, error, z) == wanted) & ~module.null & np.isfinite(error)
        found += _components(module, mean, error, np.flatnonzero(chosen))
    order = {
        "harmful": lambda c: c.if_zeroed,
        "wasteful": lambda c: -c.energy_share,
        "helpful": lambda c: -c.if_zeroed,
    }[kind]
    return sorted(found, key=order)[: max(limit, 0)]


def _components(
    module: Spectrum,
    mean: Float64[ndarray, " rank"],
    error: Float64[ndarray, " rank"],
    chosen: Int64[ndarray, " _"],
) -> list[Component]:
    shares, degenerate = _energy_shares(module), module.degenerate
    return [
        Component(
            module.name,
            module.layer,
            module.family,
            int(k),
            float(module.sigma[k]),
            float(shares[k]),
            float(mean[k]),
            float(error[k]),
            if_zeroed=float(-mean[k] * module.sigma[k]),
            if_zeroed_error=float(error[k] * module.sigma[k]),
            degenerate=bool(degenerate[k]),
        )
        for k in chosen
    ]


def _energy_shares(module: Spectrum) -> Float64[ndarray, " rank"]:
    """σ² over Σσ²; divided by σ₁ first, so that squares neither overflow nor vanish."""
    if not module.sigma.any():
        return np.zeros_like(module.sigma)
    squares: ndarray = (module.sigma / module.sigma[0]) ** 2
    return squares / squares.sum()


def _answered(module: Spectrum, sensitivity: Sensitivity) -> bool:
    """Whether there is an update and a finite gradient reached it: no gradient is no sign of waste."""
    g = sensitivity.values[module.name]
    return bool(module.sigma.any() and g.any() and np.isfinite(g).all())


def _moments(sensitivity: Sensitivity, name: str) -> tuple[Float64[ndarray, " rank"], Float64[ndarray, " rank"]]:
    moments = sensitivity.moments
    place = moments.indices[name]
    return moments.mean[place], moments.error[place]


def _measured(spectra: Spectra, sensitivity: Sensitivity) -> list[str]:
    names = [name for name in spectra if name in sensitivity.values]
    if not names:
        raise PolicyError("no module of this adapter has sensitivities", "calibrate this adapter first")
    for name in names:
        rank, found = spectra[name].rank, sensitivity.values[name].shape[1]
        if rank != found:
            raise PolicyError(
                f"module {name!r} has {rank} components and sensitivities for {found}", "calibrate this adapter"
            )
    return names
