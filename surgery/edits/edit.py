"""Turn a policy's gains into an edit of the whole adapter (paper §3.4, Eq. 5, and §3.5).

For every module in scope, in this order: policy gains, manual gains over them, clamp σ′ ≥ σ_min,
energy rule. Components at rounding level keep gain 1 throughout. A module that cannot be edited
keeps α = 1 and says why. Modules of equal rank are computed together and each as if it stood alone:
what else is in scope changes no bit of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.adapter import in_scope
from surgery.errors import PolicyError
from surgery.policies import Evidence, Policy, evidence_for, for_scope
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra, null_components, of_equal_rank

ENERGY_RULES = ("l1", "l2", "functional", "none")
Manual = Mapping[str, Mapping[int, float]]
_NO_INPUTS = "the second moments of this module's input were not measured"
_MEASURE = "measure them with surgery.sensitivity.calibrate, which is: surgery calibrate ADAPTER --out FILE"


@dataclass(frozen=True)
class ModuleEdit:
    """One module's edit: σ′ = gains·σ after manual gains, clamp and energy rule.

    `skipped` says why a module in scope was left alone; its gains are then all 1.
    """

    gains: Float64[ndarray, " rank"]
    sigma: Float64[ndarray, " rank"]
    sigma_after: Float64[ndarray, " rank"]
    skipped: str | None = None


@dataclass(frozen=True)
class Edit:
    """One variant of the adapter: the edits of the modules in scope; all others keep their σ."""

    modules: Mapping[str, ModuleEdit]

    @property
    def scalars(self) -> int:
        """Edited scalars: the ranks of the modules in scope, summed (paper Eq. 8, Table 1)."""
        return sum(module.sigma.size for module in self.modules.values())

    @property
    def sigma_after(self) -> dict[str, Float64[ndarray, " rank"]]:
        return {name: module.sigma_after for name, module in self.modules.items()}

    @property
    def skipped(self) -> dict[str, str]:
        return {name: module.skipped for name, module in self.modules.items() if module.skipped}


# seven: what an `EditPlan` holds one by one, which is built upon it, and what it is applied to
def make_edit(
    spectra: Spectra,
    policy: Policy,
    *,
    sensitivity: Sensitivity | None = None,
    scope: str = "residual",
    energy: str | None = None,
    sigma_min: float = 0.0,
    manual: Manual | None = None,
) -> Edit:
    """The edit that `policy` makes of every module in `scope`.

    spectra: of all modules, by name.
    policy: gives the gains αₖ of each component.
    sensitivity: gₖ by example and component, for policies that read it, and q for those and rules that read that.
    scope: a named scope or a regular expression over module names.
    energy: rule that holds one number of each module: `l1` its nuclear norm Σσ, `l2` its Frobenius norm, `functional`
        its functional energy Σσ²q, `none` nothing; None for the policy's usual one.
    sigma_min: least σ′ of an edited component.
    manual: gains by module and component, in place of the policy's.

    Raises `PolicyError` when the policy needs sensitivities and there are none for this scope, or
    for a manual gain on a module or component that does not exist.
    """
    names = in_scope(spectra, scope)
    energy = policy.usual_energy if energy is None else energy
    manual = manual or {}
    _check_manual(manual, spectra, names)
    moments = None
    needs_q = policy.needs_q or energy == "functional"
    if policy.needs_gradient or needs_q:
        measured = checked_sensitivity(sensitivity, spectra, names, needs_q)
        if measured.label_free and policy.needs_gradient:
            raise PolicyError(
                "these sensitivities are of answers drawn from the model itself, which say how its outputs move and "
                "not where they should go",
                "keep them beside as a protected slice, and measure the answers of the rows to edit for",
            )
        moments = measured.moments
    stacks = [
        evidence_for(group, np.stack([spectra[name].sigma for name in group]), moments)
        for group in of_equal_rank(spectra, names)
    ]
    policy = for_scope(policy, names, stacks, moments)
    edited: dict[str, ModuleEdit] = {}
    for stack in stacks:
        edited |= edit_modules(stack, policy, energy, sigma_min, manual)
    return Edit({name: edited[name] for name in names})


def edit_modules(
    evidence: Evidence,
    policy: Policy,
    energy: str | None = None,
    sigma_min: float = 0.0,
    manual: Manual | None = None,
) -> dict[str, ModuleEdit]:
    """Edits of modules of equal rank, by name: gains, clamp and energy rule in the order of the module docstring.

    evidence: σ and the statistics of g, one row a module.
    policy: gives the gains αₖ.
    energy: what is held of each module, as in `make_edit`; None for the policy's usual rule.
    sigma_min: least σ′ of an edited component.
    manual: gains by module and component, in place of the policy's.
    """
    after, reasons = edit_stack(evidence, policy, energy, sigma_min, manual)
    gains = gains_of(evidence.sigma, after)
    rows = zip(evidence.names, gains, evidence.sigma, after, reasons, strict=True)
    return {name: ModuleEdit(gain, old, new, reason) for name, gain, old, new, reason in rows}


def edit_stack(
    evidence: Evidence,
    policy: Policy,
    energy: str | None = None,
    sigma_min: float = 0.0,
    manual: Manual | None = None,
) -> tuple[Float64[ndarray, "module rank"], ndarray]:
    """σ′ of modules of equal rank, one row each, and per row why it was left alone, or None.

    The arguments are those of `edit_modules`; a module may stand in several rows, each with evidence of its own.
    """
    energy = policy.usual_energy if energy is None else energy
    check_rules(energy, sigma_min)
    names, sigma, live = evidence.names, evidence.sigma, ~null_components(evidence.sigma)
    gains, reasons = _wanted(evidence, policy, sigma_min, manual or {})
    if energy != "none" and sigma_min == 0:
        reasons[_uniform(gains, live)] = f"the {energy} energy rule undoes a uniform scale; use energy none"
    reasons[sigma.max(axis=1) == 0] = "a zero update has nothing to reweight"
    if energy == "functional":
        reasons[~evidence.has_q] = _NO_INPUTS
    with np.errstate(over="ignore", invalid="ignore"):  # judged on the next line
        after = np.where(live, np.maximum(gains * sigma, sigma_min), sigma)
    _refuse_overflow(names, reasons, np.isfinite(after.max(axis=1)))
    if energy != "none":
        left, before = _norms(after, live, energy, evidence.q), _norms(sigma, live, energy, evidence.q)
        _refuse_overflow(names, reasons, np.isfinite(left) & np.isfinite(before))
        empty = (left == 0) & ~reasons.astype(bool)
        reasons[empty] = "every component was zeroed, so the energy rule has nothing to rescale"
        after = _rescaled(after, live, left, before)
    alone = reasons.astype(bool)
    after[alone] = sigma[alone]
    return after, reasons


def gains_of(
    sigma: Float64[ndarray, "*module rank"], after: Float64[ndarray, "*module rank"]
) -> Float64[ndarray, "*module rank"]:
    """σ′/σ, and 1 where σ is 0."""
    gains: ndarray = np.divide(after, sigma, out=np.ones_like(sigma), where=sigma > 0)
    return gains


def check_rules(energy: str, sigma_min: float) -> None:
    """Raises `PolicyError` for an unknown energy rule or an impossible clamp."""
    if energy not in ENERGY_RULES:
        raise PolicyError(f"energy rule {energy!r} is not known", f"use one of {', '.join(ENERGY_RULES)}")
    if not np.isfinite(sigma_min) or sigma_min < 0:
        raise PolicyError(f"sigma_min cannot be {sigma_min!r}", "use a number from 0 up")


def _wanted(
    evidence: Evidence, policy: Policy, sigma_min: float, manual: Manual
) -> tuple[Float64[ndarray, "module rank"], ndarray]:
    """Policy gains under manual ones, and per module why the policy leaves it alone, or None."""
    gains = np.ones_like(evidence.sigma)
    reasons = np.full(len(evidence.names), None, dtype=object)
    asked = evidence.sigma.max(axis=1) > 0
    if policy.needs_gradient:
        reached = evidence.has_gradient
        reasons[~reached] = "no gradient reached this module"
        asked = asked & reached
    if policy.needs_q:
        reasons[~evidence.has_q] = _NO_INPUTS
        asked = asked & evidence.has_q
    if asked.any():
        with np.errstate(over="ignore"):  # judged after the clamp
            rows = evidence.rows(asked)
            gains[asked] = policy.gains(rows) if rows.given is None else rows.given
    if (policy.needs_gradient or policy.needs_q) and sigma_min == 0:
        unmoved = asked & (gains == 1).all(axis=1)
        reasons[unmoved] = "the policy finds nothing to change in this module"
    for row, name in enumerate(evidence.names) if manual else ():
        for component, gain in manual.get(name, {}).items():
            gains[row, component], reasons[row] = gain, None
    return gains, reasons


def _uniform(gains: ndarray, live: Bool[ndarray, "module rank"]) -> Bool[ndarray, " module"]:
    """Modules whose live components all have one gain other than 0 and 1."""
    low = np.where(live, gains, np.inf).min(axis=1)
    high = np.where(live, gains, -np.inf).max(axis=1)
    return (low == high) & np.isfinite(low) & (low != 0) & (low != 1)


def _norms(
    values: Float64[ndarray, "module rank"],
    live: Bool[ndarray, "module rank"],
    energy: str,
    q: Float64[ndarray, "module rank"],
) -> Float64[ndarray, " module"]:
    """What the rule holds of each module, in units of σ: Σσ, ‖σ‖₂ or √(Σσ²q)."""
    weighed = values * np.sqrt(q) if energy == "functional" else values
    with np.errstate(over="ignore"):
        norms: ndarray = np.linalg.norm(np.where(live, weighed, 0.0), 1 if energy == "l1" else 2, axis=1)
    return norms


def _rescaled(
    after: Float64[ndarray, "module rank"],
    live: Bool[ndarray, "module rank"],
    left: Float64[ndarray, " module"],
    before: Float64[ndarray, " module"],
) -> Float64[ndarray, "module rank"]:
    """Rows brought from norm `left` to norm `before`; an unchanged norm keeps its bits: identity stays identity."""
    changed = live & ((left != before) & (left > 0))[:, np.newaxis]
    norm = np.where(left > 0, left, 1.0)[:, np.newaxis]
    # divided first: the norm of very large gains may overflow where the ratio does not
    return np.where(changed, after / norm * before[:, np.newaxis], after)


def _refuse_overflow(names: Sequence[str], reasons: ndarray, finite: Bool[ndarray, " module"]) -> None:
    wrong = ~finite & ~reasons.astype(bool)
    if wrong.any():
        raise PolicyError(f"the gains of module {names[wrong.argmax()]!r} overflow", "take smaller steps")


def checked_sensitivity(
    sensitivity: Sensitivity | None, spectra: Spectra, names: Sequence[str], needs_q: bool
) -> Sensitivity:
    """The measurement, where it holds what an edit of these modules reads; else raises `PolicyError`."""
    if sensitivity is None:
        raise PolicyError("the edit works from sensitivities, and none were given", _MEASURE)
    if needs_q and sensitivity.inputs is None:
        raise PolicyError(
            "the edit works from the second moments of inputs, and these sensitivities were measured without them",
            f"measure again: {_MEASURE}",
        )
    for beside in sensitivity.protected:
        _refuse_unfit(beside, spectra, names)
    _refuse_unfit(sensitivity, spectra, names)
    return sensitivity


def _refuse_unfit(sensitivity: Sensitivity, spectra: Spectra, names: Sequence[str]) -> None:
    """Raise `PolicyError` for a measurement that does not have every component of these modules."""
    missing = [name for name in names if name not in sensitivity.values]
    if missing:
        raise PolicyError(
            f"{len(missing)} of {len(names)} modules in scope have no sensitivities (such as {missing[0]})",
            f"give those of this very adapter, or {_MEASURE}",
        )
    for name in names:
        found, rank = sensitivity.values[name].shape[1], spectra[name].rank
        if found != rank:
            raise PolicyError(
                f"module {name!r} has {rank} components and sensitivities for {found}",
                f"give those of this very adapter, or {_MEASURE}",
            )


def _check_manual(manual: Manual, spectra: Spectra, names: Sequence[str]) -> None:
    for name, gains in manual.items():
        if name not in spectra or name not in names:
            raise PolicyError(f"a manual gain names module {name!r}, which is not in scope", "widen the scope")
        for component, gain in gains.items():
            if not 0 <= component < spectra[name].rank or not np.isfinite(gain) or gain < 0:
                raise PolicyError(
                    f"manual gain {gain!r} on component {component!r} of {name!r} cannot be used",
                    f"use components 0 to {spectra[name].rank - 1} and gains from 0 up",
                )
