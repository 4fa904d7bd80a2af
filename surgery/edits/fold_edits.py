"""One edit, computed again from the training examples of every fold, so that the others can judge it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray

from surgery.adapter import in_scope
from surgery.edits.edit import Edit, checked_sensitivity, edit_stack
from surgery.edits.layer_groups import LayerGroups, component_gains, scaled_sigma
from surgery.edits.plan import EditPlan
from surgery.edits.protection import may_move, without_harm
from surgery.edits.strength import sigma_at
from surgery.policies import Evidence, Policy, ScopePolicy
from surgery.sensitivity import Folds, FoldStatistics, ScopeRows, Sensitivity, joint_training, unfitted
from surgery.spectra import Spectra

_CELLS = 500_000  # components × folds, above which one shuffle has to do


@dataclass(frozen=True)
class FoldEdits:
    """σ′ of the modules `names`, end to end, as every fold's training examples shape it.

    A module's components begin at `starts`. What is derived from an edit is derived from every fold's:
    `replace(edits, after=...)`.
    """

    names: tuple[str, ...]
    starts: Int[ndarray, " module"]
    sigma: Float64[ndarray, " component"]
    after: Float64[ndarray, "fold component"]
    folds: Folds

    def grouped(self, groups: LayerGroups, spectra: Spectra, sigma_min: float = 0.0) -> "FoldEdits":
        """The same with gains of layer groups, as `layer_groups.grouped`."""
        if groups.plain:
            return self
        gains = component_gains(groups, spectra, self.names)
        return replace(self, after=scaled_sigma(self.after, gains, sigma_min))

    def at(self, strength: float, sigma_min: float = 0.0) -> "FoldEdits":
        """The same at strength λ, as `with_strength`."""
        if strength == 1:
            return self
        sigma = np.broadcast_to(self.sigma, self.after.shape)
        return replace(self, after=sigma_at(sigma, self.after, strength, sigma_min))


def fold_edits(plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity) -> FoldEdits | None:
    """The edit of a plan from every fold's training examples; one edit where no g shapes it.

    plan: the edit, at its strength.
    spectra: of all modules, by name.
    sensitivity: gₖ by example and component.

    None where the plan reads g and the examples are too few for folds. Raises `PolicyError` as `make_edit` does.
    """
    if not plan.policy.needs_gradient and not plan.protect:
        return edit_as_fold(plan.apply(spectra, sensitivity), sensitivity)
    folds = sensitivity.folds
    names = in_scope(spectra, plan.scope)
    moments = checked_sensitivity(sensitivity, spectra, names, plan.needs_inputs).moments
    if folds is None:
        return None
    rows = moments.of_scope(names)
    folds = _bounded(folds, rows)
    statistics = rows.statistics(folds)
    sigma, after = np.concatenate([spectra[name].sigma for name in names]), np.empty(statistics.mean.shape)
    given = _given(plan.policy, sigma, rows, folds, statistics)
    for group, at in rows.groups:
        stack = _evidence(group, sigma[at], statistics, rows, at)
        if given is not None:
            stack = replace(stack, given=given[:, at].reshape(-1, at.shape[1]))
        made, _ = edit_stack(stack, plan.policy, plan.energy, plan.sigma_min, plan.manual)
        after[:, at.ravel()] = made.reshape(-1, at.size)
    starts = np.array([rows.indices[name][0] for name in names])
    found = FoldEdits(tuple(names), starts, sigma, after, folds).grouped(plan.groups, spectra, plan.sigma_min)
    if plan.protect:
        _spare(found.after, sigma, plan, rows, folds)
    return found.at(plan.strength, plan.sigma_min)


def _given(
    policy: Policy,
    sigma: Float64[ndarray, " component"],
    rows: ScopeRows,
    folds: Folds,
    statistics: FoldStatistics,
) -> Float64[ndarray, "fold component"] | None:
    """What a policy that looks at the whole scope gives it in every fold; None for one that takes module by module."""
    if isinstance(policy, ScopePolicy):
        return policy.gains_in_scope(sigma, rows, folds)
    if policy.pools:
        whole = np.arange(sigma.size)[np.newaxis]
        return policy.gains(_evidence(("the whole scope",), sigma[whole], statistics, rows, whole))
    return None


def edit_as_fold(edit: Edit, sensitivity: Sensitivity) -> FoldEdits:
    """An edit that stays as it is, judged on all examples: one that none of them has shaped."""
    modules = list(edit.modules.values())
    starts = np.cumsum([0, *(module.sigma.size for module in modules[:-1])])
    sigma = np.concatenate([module.sigma for module in modules])
    after = np.concatenate([module.sigma_after for module in modules])[np.newaxis]
    return FoldEdits(tuple(edit.modules), starts, sigma, after, unfitted(sensitivity.examples))


def _spare(
    after: Float64[ndarray, "fold component"],
    sigma: Float64[ndarray, " component"],
    plan: EditPlan,
    rows: ScopeRows,
    folds: Folds,
) -> None:
    """Take what hurts the protected slices out of every fold's step, as its training examples of all slices tell it."""
    places = {name: slice(int(own[0]), int(own[-1]) + 1) for name, own in rows.indices.items()}
    for fold, train in enumerate(joint_training(rows, rows.protected, folds)):
        free = may_move(sigma, after[fold], places, plan.manual)
        after[fold] = without_harm(sigma, after[fold], free, rows.joint.only(train), plan.sigma_min)


def _bounded(folds: Folds, rows: ScopeRows) -> Folds:
    """Fewer shuffles where a scope is so large that all of them would keep a person waiting."""
    if rows.finite.size * len(folds.held) <= _CELLS:
        return folds
    kept: Folds = rows.__dict__.setdefault("_one_shuffle", folds.first_shuffles(1))
    return kept


def _evidence(
    group: tuple[str, ...],
    sigma: Float64[ndarray, "module rank"],
    statistics: FoldStatistics,
    rows: ScopeRows,
    at: Int[ndarray, "module rank"],
) -> Evidence:
    """The modules of a group once for every fold, one row each."""
    mean, error, magnitude, second = (
        each[:, at].reshape(-1, at.shape[1])
        for each in (statistics.mean, statistics.error, statistics.magnitude, statistics.second_moment)
    )
    folds = len(mean) // len(group)
    names, q = group * folds, np.tile(rows.q[at], (folds, 1))
    return Evidence(names, np.tile(sigma, (folds, 1)), mean, error, magnitude, second, q)
