"""The shuffled-gains control of an edit: which components it turns up and down is left to chance, nothing else.

In each module the edit's own gains are dealt out to its components at random; clamp and energy rule follow as they
did for the edit. The step from σ is then made longer or shorter until the module moves as far, in ‖σ′ − σ‖₂, as the
edit moves it: a control that moves less than its edit would be beaten by size alone.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.edits import Edit, ModuleEdit
from surgery.errors import PolicyError
from surgery.files import digest
from surgery.policies import RandomIndex
from surgery.spectra import null_components

_FARTHEST = 1024.0  # times the first step
_NEAR = 1e-12
_NO_OTHER = "no other spectrum of this module keeps to the edit's rules"


def shuffled_gains(
    edit: Edit,
    *,
    energy: str,
    sigma_min: float,
    seed: int,
    q: Mapping[str, Float64[ndarray, " rank"]] | None = None,
    scaled: Collection[str] = (),
) -> Edit:
    """A control that deals each module's gains out to other components and moves it as far as the edit does.

    edit: σ′ of its modules.
    energy: `l1` holds Σσ of each module, `l2` Σσ², `functional` Σσ²q, `none` nothing.
    sigma_min: least σ′ of an edited component.
    seed: of the draw, which also depends on the module's name.
    q: second moments of the inputs by module, for rule `functional`.
    scaled: modules that the gain of a layer group scales, whose norm no rule holds.

    Modules that the edit leaves as they are stay so. Where all gains of a module are one number, there is nothing
    to deal out, and the paper's random gates give the direction instead. A module whose components cannot move as
    far within the rules moves as far as they can.

    Raises `PolicyError` where rule `functional` has no q.
    """
    modules = {}
    for name, module in edit.modules.items():
        rng = np.random.default_rng(int(digest(["shuffled gains", str(seed), name])[:32], 16))
        held = "none" if name in scaled else energy
        weights = (q or {}).get(name) if held == "functional" else None
        modules[name] = _shuffled(module, _Rule(module.sigma, held, sigma_min, weights), rng)
    return Edit(modules)


@dataclass(frozen=True)
class _Rule:
    """Clamp and energy rule of one module; `q` for the rule that weighs by it."""

    sigma: Float64[ndarray, " rank"]
    energy: str
    sigma_min: float
    q: Float64[ndarray, " rank"] | None = None

    @property
    def live(self) -> Bool[ndarray, " rank"]:
        """Components above rounding level: all others keep their σ."""
        return ~null_components(self.sigma)

    def __call__(self, wanted: Float64[ndarray, " rank"]) -> Float64[ndarray, " rank"]:
        """σ′ under the rule; the unchanged σ where nothing is left to rescale."""
        live = self.live
        after = np.where(live, np.maximum(wanted, self.sigma_min), self.sigma)
        if self.energy == "none":
            return after
        order = 1 if self.energy == "l1" else 2
        weights = 1.0 if self.q is None else np.sqrt(self.q)
        left, before = (np.linalg.norm((weights * each)[live], order) for each in (after, self.sigma))
        return np.where(live, after / left * before, after) if left > 0 else self.sigma


def _shuffled(module: ModuleEdit, rule: _Rule, rng: np.random.Generator) -> ModuleEdit:
    distance = float(np.linalg.norm(module.sigma_after - module.sigma))
    if distance == 0:
        return module
    if rule.energy == "functional" and rule.q is None:
        raise PolicyError(
            "a control under energy rule functional needs the second moments of inputs, and a module has none",
            "calibrate again, or choose another energy rule",
        )
    sigma, live = module.sigma, rule.live
    gains = np.ones_like(sigma)
    gains[live] = rng.permutation(module.gains[live])
    if np.ptp(gains[live]) <= _NEAR * gains[live].max():
        gains[live] = RandomIndex().gates(rng.permutation(live.sum())[np.newaxis])[0]
    step = rule(gains * sigma) - sigma
    if np.linalg.norm(step) <= _NEAR * np.linalg.norm(sigma):
        return ModuleEdit(np.ones_like(sigma), sigma, sigma, _NO_OTHER)
    after = _moved(rule, step, distance)
    return ModuleEdit(np.divide(after, sigma, out=np.ones_like(sigma), where=sigma > 0), sigma, after)


def _moved(rule: _Rule, step: Float64[ndarray, " rank"], distance: float) -> Float64[ndarray, " rank"]:
    """σ′ at the length of the step that moves σ by `distance`, or by as much as the rule lets it."""
    sigma = rule.sigma

    def excess(length: float) -> float:
        return float(np.linalg.norm(rule(sigma + length * step) - sigma)) - distance

    length = distance / float(np.linalg.norm(step))
    if abs(excess(length)) > _NEAR * distance:  # a component meets the clamp on the way, or the rule bends it
        from scipy.optimize import brentq

        far = _first(excess, length)
        length = float(brentq(excess, 0.0, far, xtol=1e-15, rtol=1e-14)) if excess(far) > 0 else far
    return rule(sigma + length * step)


def _first(excess: Callable[[float], float], length: float) -> float:
    """A length at which the step goes too far, by doubling; the longest one tried where none does."""
    while excess(length) <= 0 and length < _FARTHEST:
        length *= 2
    return length
