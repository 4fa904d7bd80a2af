"""Does the sensitivity rank what ablation confirms? Components zeroed one by one, expected and measured.

Zeroing σₖ is expected to change the loss of example i by −gᵢₖσₖ + Tᵢ/2·(gᵢₖσₖ)², with the curvature of a mean over T
answer tokens as in `edits.expectation`. The paper's method stands on the ranking that this gives (§3.3, §3.4); here
it is held against the loss of rows that nobody has seen. Components are chosen by the same calibration examples that
foretell them, so the strongest are expected to do a little too much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.adapter import in_scope
from surgery.data import Calibration
from surgery.edits import checked_sensitivity
from surgery.errors import PolicyError
from surgery.evaluation import BASELINE, Agreement, Marking, agreement, evaluate
from surgery.model import Variant
from surgery.progress import SILENT, Control
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.model import LiveModel

COUNT = 20
_ENOUGH = 3  # components, below which there is no ranking


@dataclass(frozen=True, eq=False)
class Ablation:
    """One component that is zeroed, and by how much that is expected to change the loss of every example.

    `linear` is −gᵢₖσₖ and `curvature` Tᵢ/2·(gᵢₖσₖ)², 0 where the tokens of the answers were not counted, in nats per
    answer token. `strongest` tells that its mean linear change is among the largest of the scope, of either sign; else
    it was drawn at random from the others.
    """

    module: str
    component: int
    strongest: bool
    linear: Float64[ndarray, " example"]
    curvature: Float64[ndarray, " example"]

    @property
    def name(self) -> str:
        return f"{self.module} {self.component}"

    @property
    def expected(self) -> Float64[ndarray, " example"]:
        return self.linear + self.curvature


def ablations(
    spectra: Spectra,
    sensitivity: Sensitivity | None,
    scope: str = "residual",
    *,
    count: int = COUNT,
    seed: int = 0,
) -> tuple[Ablation, ...]:
    """The components of a scope with the largest |ḡₖσₖ|, the largest first, and as many random ones of the others.

    spectra: of all modules, by name.
    sensitivity: gₖ by example and component.
    scope: a named scope or a regular expression over module names.
    count: of each kind; fewer random ones where the scope has no more.
    seed: of the draw.

    Null components, and those that no finite gradient reached, are left out. Raises `PolicyError` for a scope that was
    not measured or has fewer than three components left, and for answers drawn from the model, which have no slope.
    """
    if count < 1:
        raise PolicyError(f"{count} components were asked for", "use 1 or more")
    names = in_scope(spectra, scope)
    measured = checked_sensitivity(sensitivity, spectra, names, needs_q=False)
    if measured.label_free:
        raise PolicyError(
            "answers drawn from the model itself do not say which components hurt",
            "measure the answers of the rows instead",
        )
    places = [(name, k) for name in names for k in _askable(spectra, measured, name)]
    if len(places) < _ENOUGH:
        raise PolicyError(
            f"this scope has {len(places)} components that can be zeroed and were reached by a gradient",
            f"choose a scope with {_ENOUGH} or more",
        )
    sizes = [abs(float(measured.values[n][:, k].mean() * spectra[n].sigma[k])) for n, k in places]
    order = np.argsort(-np.array(sizes), kind="stable").tolist()
    others = np.random.default_rng(seed).permutation(order[count:])[:count].tolist()
    chosen = [(at, True) for at in order[:count]] + [(at, False) for at in sorted(others)]
    return tuple(_ablation(spectra, measured, places[at], strongest) for at, strongest in chosen)


def retold(chosen: Sequence[Ablation], spectra: Spectra, sensitivity: Sensitivity) -> tuple[Ablation, ...]:
    """The same components with what other examples say of them.

    chosen: the components.
    spectra: of their modules, by name.
    sensitivity: gₖ of the other examples, for these modules.

    Told by the rows that the ablation is measured on, only the step from a slope to a whole σ is left to be wrong.
    """
    return tuple(_ablation(spectra, sensitivity, (each.module, each.component), each.strongest) for each in chosen)


def ablated_losses(
    live: "LiveModel",
    slice_: Calibration,
    chosen: Sequence[Ablation],
    *,
    batch_size: int = 32,
    control: Control = SILENT,
) -> Float64[ndarray, "variant example"]:
    """Loss of every row of the unedited adapter, then with each component zeroed, in nats per answer token.

    live: the adapter in its running base model.
    slice_: encoded rows.
    chosen: the components, one variant each.
    batch_size: examples of a batch at most; all variants of them run at once, fewer where memory asks for it.
    control: hears of examples over all variants.

    Raises `Cancelled`.
    """
    variants: dict[str, Variant] = {}
    for each in chosen:
        sigma = live.spectra[each.module].sigma.copy()
        sigma[each.component] = 0.0
        variants[each.name] = {each.module: sigma}
    marking = Marking(generate=False)
    found = evaluate(live, slice_, variants, batch_size=batch_size, marking=marking, control=control)
    return np.stack([found.scores[name].loss for name in (BASELINE, *variants)])


def ablation_agreement(
    chosen: Sequence[Ablation],
    changes: Float64[ndarray, "component held"],
    *,
    curved: bool = True,
    paired: bool = False,
    seed: int = 0,
) -> Agreement:
    """How well expected and measured changes of the loss agree; strongest and random components are resampled apart.

    chosen: the components.
    changes: of the loss of every held-out row, by component.
    curved: whether the curvature is in what is expected; without it first order alone.
    paired: whether the components are told by the rows of `changes`, as `retold` does.
    seed: of the resamples.

    Raises `DataError` as `agreement` does.
    """
    told = np.stack([each.expected if curved else each.linear for each in chosen])
    kinds = [[at for at, each in enumerate(chosen) if each.strongest is kind] for kind in (True, False)]
    return agreement(told, changes, groups=[kind for kind in kinds if kind], paired=paired, seed=seed)


def _askable(spectra: Spectra, sensitivity: Sensitivity, name: str) -> list[int]:
    g = sensitivity.values[name]
    found: list[int] = np.flatnonzero(~spectra[name].null & np.isfinite(g).all(axis=0) & g.any(axis=0)).tolist()
    return found


def _ablation(spectra: Spectra, sensitivity: Sensitivity, place: tuple[str, int], strongest: bool) -> Ablation:
    name, k = place
    linear = -sensitivity.values[name][:, k] * spectra[name].sigma[k]
    tokens = sensitivity.answer_tokens
    bends = np.zeros_like(linear) if tokens is None else tokens / 2 * linear**2
    return Ablation(name, k, strongest, linear, bends)
