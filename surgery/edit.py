"""Turn a policy's gains into an edit of the whole adapter (paper §3.4, Eq. 5, and §3.5).

For every module in scope, in this order: policy gains, manual gains over them, clamp σ′ ≥ σ_min,
energy rule. A module that cannot be edited keeps α = 1 and says why.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import regex
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.policy import Evidence, Policy
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectra, null_components

ENERGY_RULES = ("l1", "l2", "none")
SCOPES = ("residual", "attention-inputs", "all")
# residual writers and attention inputs under the names that common architectures give them
_RESIDUAL = ("o_proj", "down_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "fc2", "wo", "o")
_ATTENTION = (
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "c_attn",
    "query_key_value",
    "query",
    "key",
    "value",
    "q",
    "k",
    "v",
)
_SCOPE_SECONDS = 1.0

Manual = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class ModuleEdit:
    """One module's edit: σ′ = gains·σ after manual gains, clamp and energy rule.

    `skipped` says why a module in scope was left alone; its gains are then all 1.
    """

    gains: Float64[ndarray, "rank"]
    sigma: Float64[ndarray, "rank"]
    sigma_after: Float64[ndarray, "rank"]
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
    def sigma_after(self) -> dict[str, Float64[ndarray, "rank"]]:
        return {name: module.sigma_after for name, module in self.modules.items()}

    @property
    def skipped(self) -> dict[str, str]:
        return {name: module.skipped for name, module in self.modules.items() if module.skipped}


@dataclass(frozen=True)
class Preview:
    """What the stored sensitivities say about an edit, with no model.

    `predicted` is the first-order change of the mean calibration loss, Σ ḡₖ(σ′ₖ − σₖ), in nats per
    answer token; `standard_error` is over calibration examples. `energy_moved` is the share of Σσ
    that changed place: half of Σ|σ′ − σ| over Σσ.
    """

    predicted: float
    standard_error: float
    raised: int
    lowered: int
    silenced: int
    energy_kept: float
    energy_moved: float


def in_scope(names: Mapping[str, str] | Spectra, scope: str) -> list[str]:
    """Modules in `scope`: `residual`, `attention-inputs`, `all`, or a regular expression.

    The expression is searched in the module's full path. Raises `PolicyError` when nothing matches.
    """
    if scope == "all":
        chosen = list(names)
    elif scope in SCOPES:
        last = _RESIDUAL if scope == "residual" else _ATTENTION
        chosen = [name for name in names if name.rpartition(".")[2] in last]
    else:
        pattern = check_scope(scope)
        try:
            chosen = [name for name in names if pattern.search(name, timeout=_SCOPE_SECONDS)]
        except TimeoutError as error:
            raise PolicyError(f"scope {scope!r} takes too long to match", "use a simpler expression") from error
    if not chosen:
        raise PolicyError(f"scope {scope!r} matches no module", "use all, or a part of a module's path")
    return chosen


def check_scope(scope: str) -> Any:
    """The compiled expression of a scope; raises `PolicyError` for one that is no regular expression."""
    try:
        return regex.compile(scope)
    except (regex.error, TypeError) as error:
        raise PolicyError(
            f"scope {scope!r} is no usable regular expression ({error})",
            f"use {', '.join(SCOPES)} or a simpler one",
        ) from error


def make_edit(
    spectra: Spectra,
    policy: Policy,
    *,
    sensitivity: Sensitivity | None = None,
    scope: str = "residual",
    energy: str = "l1",
    sigma_min: float = 0.0,
    manual: Manual | None = None,
) -> Edit:
    """Apply `policy` to every module in `scope`.

    Raises `PolicyError` when the policy needs sensitivities and there are none for this scope, or
    for a manual gain on a module or component that does not exist.
    """
    names = in_scope(spectra, scope)
    manual = manual or {}
    _check_manual(manual, spectra, names)
    if policy.needs_gradient:
        _check_measured(sensitivity, names)
    edited = {}
    for name in names:
        sigma = spectra[name].sigma
        if sensitivity is not None and name in sensitivity.values:
            g = sensitivity.values[name]
            evidence = Evidence(name, sigma, g.mean(axis=0), np.abs(g).mean(axis=0))
        else:
            evidence = Evidence(name, sigma, np.zeros_like(sigma), np.zeros_like(sigma))
        edited[name] = edit_module(evidence, policy, energy, sigma_min, manual.get(name, {}))
    return Edit(edited)


def edit_module(
    evidence: Evidence,
    policy: Policy,
    energy: str = "l1",
    sigma_min: float = 0.0,
    manual: Mapping[int, float] | None = None,
) -> ModuleEdit:
    """Gains, clamp and energy rule for one module; see the module docstring for the order."""
    check_rules(energy, sigma_min)
    sigma, reason = evidence.sigma, None
    if not sigma.any():
        return _left_alone(sigma, "a zero update has nothing to reweight")
    gains = np.ones_like(sigma)
    if policy.needs_gradient and not _has_gradient(evidence):
        reason = "no gradient reached this module"
    else:
        with np.errstate(over="ignore"):  # judged below, after the clamp
            gains = np.array(policy.gains(evidence), dtype=np.float64)
    for component, gain in (manual or {}).items():
        gains[component], reason = gain, None
    if energy != "none" and sigma_min == 0 and np.ptp(gains) == 0 and gains[0] not in (0, 1):
        reason = f"the {energy} energy rule undoes a uniform scale; use energy none"
    if reason:
        return _left_alone(sigma, reason)
    with np.errstate(over="ignore", invalid="ignore"):
        after = np.maximum(gains * sigma, sigma_min)
    # a component at rounding level has no direction of its own that a gain could lift
    null = null_components(sigma)
    after[null] = sigma[null]
    if not np.isfinite(after).all():
        raise PolicyError(f"the gains of module {evidence.name!r} overflow", "take smaller steps")
    if energy != "none":
        order = 1 if energy == "l1" else 2
        with np.errstate(over="ignore"):
            left = np.linalg.norm(after, order)
        if not np.isfinite(left):
            raise PolicyError(f"the gains of module {evidence.name!r} overflow", "take smaller steps")
        if left == 0:
            return _left_alone(sigma, "every component was silenced, so no energy is left to rescale")
        # an unchanged norm keeps its bits: identity stays identity
        before = np.linalg.norm(sigma, order)
        # divided first: the norm of very large gains may overflow where the ratio does not
        after = after if left == before else after / left * before
    return ModuleEdit(np.divide(after, sigma, out=np.ones_like(sigma), where=sigma > 0), sigma, after)


def preview(edit: Edit, sensitivity: Sensitivity | None) -> Preview | None:
    """The preview numbers of `edit`; None when its modules were not measured."""
    if sensitivity is None or any(name not in sensitivity.values for name in edit.modules):
        return None
    per_example = np.zeros(sensitivity.losses.size)
    for name, module in edit.modules.items():
        per_example += sensitivity.values[name] @ (module.sigma_after - module.sigma)
    n = per_example.size
    error = float(per_example.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return _preview(edit, float(per_example.mean()), error)


def summary(edit: Edit) -> Preview:
    """The preview numbers that need no sensitivities; the prediction is NaN."""
    return _preview(edit, float("nan"), float("nan"))


def _preview(edit: Edit, predicted: float, error: float) -> Preview:
    sigma = np.concatenate([module.sigma for module in edit.modules.values()])
    after = np.concatenate([module.sigma_after for module in edit.modules.values()])
    alive = sigma > 0
    total = sigma.sum() or 1.0
    return Preview(
        predicted=predicted,
        standard_error=error,
        raised=int((after[alive] > sigma[alive] * (1 + 1e-9)).sum()),
        lowered=int((after[alive] < sigma[alive] * (1 - 1e-9)).sum()),
        silenced=int((after[alive] == 0).sum()),
        energy_kept=float(after.sum() / total),
        energy_moved=float(np.abs(after - sigma).sum() / 2 / total),
    )


def _left_alone(sigma: Float64[ndarray, "rank"], reason: str) -> ModuleEdit:
    return ModuleEdit(np.ones_like(sigma), sigma, sigma.copy(), reason)


def _has_gradient(evidence: Evidence) -> bool:
    finite = np.isfinite(evidence.signed).all() and np.isfinite(evidence.magnitude).all()
    return bool(finite and evidence.magnitude.any())


def check_rules(energy: str, sigma_min: float) -> None:
    """Raises `PolicyError` for an unknown energy rule or an impossible clamp."""
    if energy not in ENERGY_RULES:
        raise PolicyError(f"energy rule {energy!r} is not known", f"use one of {', '.join(ENERGY_RULES)}")
    if not np.isfinite(sigma_min) or sigma_min < 0:
        raise PolicyError(f"sigma_min cannot be {sigma_min!r}", "use a number from 0 up")


def _check_measured(sensitivity: Sensitivity | None, names: Collection[str]) -> None:
    missing = [name for name in names if sensitivity is None or name not in sensitivity.values]
    if missing:
        raise PolicyError(
            f"{len(missing)} of {len(names)} modules in scope have no sensitivities (such as {missing[0]})",
            "calibrate with this scope first",
        )


def _check_manual(manual: Manual, spectra: Spectra, names: Collection[str]) -> None:
    for name, gains in manual.items():
        if name not in spectra or name not in names:
            raise PolicyError(f"a manual gain names module {name!r}, which is not in scope", "widen the scope")
        for component, gain in gains.items():
            if not 0 <= component < spectra[name].rank or not np.isfinite(gain) or gain < 0:
                raise PolicyError(
                    f"manual gain {gain!r} on component {component!r} of {name!r} cannot be used",
                    f"use components 0 to {spectra[name].rank - 1} and gains from 0 up",
                )
