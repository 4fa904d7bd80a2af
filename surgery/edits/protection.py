"""Take out of an edit's step the part that hurts the protected slices (ours): projection in the Fisher metric.

Of all steps that raise no protected slice's loss to first order, ḡ_P·δ ≤ 0, it is the nearest to the edit's, measured
by F̃ = F + λI of the target, so that what the target cares for changes least. It comes after the energy rule, which
then holds but for what was taken out, and before the strength.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.edits.edit import Edit, Manual, gains_of
from surgery.errors import PolicyError
from surgery.policies import multipliers
from surgery.sensitivity import JointRows, Sensitivity
from surgery.spectra import null_components

_DAMPING = 0.3  # that of natural_gradient, in mean non-zero eigenvalues
_CALIBRATE = "measure one with surgery calibrate and keep it beside (--protected FILE), or do without protection"


def check_protected(sensitivity: Sensitivity | None) -> Sensitivity:
    """The measurement, where it has a protected slice with a slope; else raises `PolicyError`."""
    if sensitivity is None or not sensitivity.protected:
        raise PolicyError("the edit is to spare protected slices, and there is none", _CALIBRATE)
    if all(beside.label_free for beside in sensitivity.protected):
        raise PolicyError(
            "no protected slice has answers of its own, so there is no direction that hurts to take out of the step",
            "use policy protected, which weighs how outputs move, or protect a slice by its answers",
        )
    return sensitivity


def spared(
    edit: Edit, sensitivity: Sensitivity | None, sigma_min: float = 0.0, manual: Manual | None = None
) -> Edit:
    """The edit without what hurts a protected slice to first order; bit for bit the same where nothing does.

    Components set by hand and modules that the edit leaves alone stay as they are, and a component that reaches the
    clamp stays there. Slices of answers drawn from the model have no slope and are not looked at. Raises `PolicyError`
    without a protected slice that has one.
    """
    joint = check_protected(sensitivity).moments.of_scope(list(edit.modules)).joint
    sigma = np.concatenate([module.sigma for module in edit.modules.values()])
    after = np.concatenate([module.sigma_after for module in edit.modules.values()])
    ends = np.cumsum([0, *(module.sigma.size for module in edit.modules.values())]).tolist()
    places = {name: slice(*ends[i : i + 2]) for i, name in enumerate(edit.modules)}
    found = without_harm(sigma, after, may_move(sigma, after, places, manual or {}), joint, sigma_min)
    modules = {}
    for name, module in edit.modules.items():
        own = found[places[name]]
        same = np.array_equal(own, module.sigma_after)
        modules[name] = module if same else replace(module, sigma_after=own, gains=gains_of(module.sigma, own))
    return Edit(modules)


def may_move(
    sigma: Float64[ndarray, " component"],
    after: Float64[ndarray, " component"],
    places: Mapping[str, slice],
    manual: Manual,
) -> Bool[ndarray, " component"]:
    """Which components the projection may move: live ones of modules that the edit moves, but for those set by hand."""
    free = np.zeros(sigma.size, dtype=bool)
    for name, place in places.items():
        if (after[place] != sigma[place]).any():
            free[place] = ~null_components(sigma[np.newaxis, place])[0]
            free[[place.start + k for k in manual.get(name, {})]] = False
    return free


def without_harm(
    sigma: Float64[ndarray, " component"],
    after: Float64[ndarray, " component"],
    free: Bool[ndarray, " component"],
    joint: JointRows,
    sigma_min: float = 0.0,
) -> Float64[ndarray, " component"]:
    """σ′ nearest to `after` in the metric F̃ with ḡ_P·(σ′ − σ) ≤ 0 for every protected slice, moving `free` components.

    joint: the target's examples and those of the protected slices.
    sigma_min: the clamp; what reaches it stays there, and the others make up for it.
    """
    means = joint.g @ joint.means[:, 1:]
    least = np.minimum(sigma_min, after)
    free, after = free.copy(), after.copy()
    while free.any():
        towards = _metric_solve(joint, free, means)
        nu = multipliers(means[free].T @ towards, -(means.T @ (after - sigma)), np.inf)
        if not nu.any():
            break
        found = after.copy()
        found[free] -= towards @ nu
        below = free & (found < least)
        if not below.any():
            return found
        after[below] = least[below]
        free &= ~below
    return after


def _metric_solve(
    joint: JointRows, free: Bool[ndarray, " component"], means: Float64[ndarray, "component slice"]
) -> Float64[ndarray, "moving slice"]:
    """F̃⁻¹ḡ_P over the free components, by Woodbury's identity."""
    target = joint.slices[0]
    g, wanted = joint.g[free, target], means[free]
    damp = _DAMPING * joint.eigenvalues[0]
    if damp == 0:
        return wanted
    system = g.T @ g
    system[np.diag_indices_from(system)] += damp * len(system)
    solved: ndarray = (wanted - g @ np.linalg.solve(system, g.T @ wanted)) / damp
    return solved
