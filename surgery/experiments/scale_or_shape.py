"""Controls that tell whether an edit works by its size or by its shape, from any edit and with the same U and V.

For σ and σ′ = τ of a module with the second moments q of its inputs (follow-up to the paper, TTtianTT/peft-sft-lab):

    scalar_e         σ·√(Στ²q/Σσ²q)   its functional energy and nothing else
    scalar_f         σ·‖τ‖₂/‖σ‖₂      its Frobenius norm and nothing else
    scalar_n         σ·Στ/Σσ          its nuclear norm and nothing else: the identity under rule l1
    one_scale        γσ               one γ for all modules, at the functional energy of the whole edit
    shuffled_scales                   those of scalar_e dealt out among modules of a family, the total restored
    shape_only       τ·√(Σσ²q/Στ²q)   its shape at the old functional energy
    head_only        min(σ, τ)        what it suppresses
    tail_only        max(σ, τ)        what it amplifies: head + tail − σ = τ

Null components keep gain 1, and a module that the edit leaves alone stays so. Where q is not known, the controls that
read it leave the module unedited and say why: they claim nothing about it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray

from surgery.edits import Edit, ModuleEdit, gains_of
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra, null_components

InputEnergies = Mapping[str, Float64[ndarray, " rank"]]
NO_MOMENTS = "the second moments of this module's input were not measured"
SILENT = "no energy passes through this module, so none can be matched"
_EMPTY = "every component was zeroed, so there is no shape to rescale"


def input_energies(sensitivity: Sensitivity | None) -> dict[str, Float64[ndarray, " rank"]]:
    """qₖ = E[(vₖᵀx)²] by module, of those that were measured and can be used; none of a file without them."""
    inputs = sensitivity.inputs if sensitivity is not None else None
    found = {name: inputs.q(name) for name in inputs.prompt} if inputs is not None else {}
    return {name: q for name, q in found.items() if np.isfinite(q).all() and (q >= 0).all() and q.any()}


@dataclass(frozen=True)
class Flat:
    """The components of all modules of an edit end to end, with what the controls read of them.

    `q` is NaN where it is not known; `ranks` and `families` are by module, in the order of `names`.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    ranks: Int[ndarray, " module"]
    sigma: Float64[ndarray, " component"]
    q: Float64[ndarray, " component"]
    live: Bool[ndarray, " component"]

    @cached_property
    def starts(self) -> Int[ndarray, " module"]:
        """Where each module begins."""
        starts: ndarray = np.cumsum(self.ranks) - self.ranks
        return starts

    @cached_property
    def size(self) -> Float64[ndarray, " module"]:
        """√(Σσ²q) of each module; NaN where q is not known."""
        return self.sizes(self.sigma, "functional")

    def spread(self, values: Float64[ndarray, "*fold module"]) -> Float64[ndarray, "*fold component"]:
        """A number of each module at every component of it."""
        return np.repeat(values, self.ranks, axis=-1)

    def sizes(self, values: Float64[ndarray, "*fold component"], kind: str) -> Float64[ndarray, "*fold module"]:
        """√(Σσ²q), ‖σ‖₂ or Σσ of each module over its live components, in units of σ."""
        weighed = np.where(self.live, values * np.sqrt(self.q) if kind == "functional" else values, 0.0)
        if kind == "l1":
            total: ndarray = np.add.reduceat(weighed, self.starts, axis=-1)
            return total
        if kind == "l2":  # to the bit the norm of earlier versions, whose runs go on
            rows = weighed.reshape(-1, self.sigma.size)
            norms = [[np.linalg.norm(part) for part in np.split(row, self.starts[1:])] for row in rows]
            return np.reshape(norms, (*values.shape[:-1], self.ranks.size))
        # divided first: squares of large values overflow where their root does not
        top = np.maximum.reduceat(weighed, self.starts, axis=-1)
        top = np.where(top > 0, top, 1.0)
        return top * np.sqrt(np.add.reduceat((weighed / self.spread(top)) ** 2, self.starts, axis=-1))

    def moved(self, after: Float64[ndarray, "*fold component"]) -> Bool[ndarray, "*fold module"]:
        """Which modules the edit changes at all."""
        return np.logical_or.reduceat(after != self.sigma, self.starts, axis=-1)

    def times(
        self, values: Float64[ndarray, "*#fold component"], gains: Float64[ndarray, "*#fold module"]
    ) -> Float64[ndarray, "*fold component"]:
        """Values of each module times its gain, and σ where a component is null or the gain is not finite."""
        gain = self.spread(gains)
        with np.errstate(invalid="ignore"):
            scaled = gain * values
        return np.where(self.live & np.isfinite(gain), scaled, self.sigma)


def flat_of(edit: Edit, spectra: Spectra, q: InputEnergies) -> Flat:
    """The modules of an edit end to end.

    edit: σ of its modules.
    spectra: of these, for their families.
    q: second moments of the inputs, by module; those of a module of another rank count as unknown.
    """
    sigmas = [module.sigma for module in edit.modules.values()]
    unknown = {name: np.full_like(module.sigma, np.nan) for name, module in edit.modules.items()}
    known = {name: each for name, each in q.items() if name in unknown and each.shape == unknown[name].shape}
    return Flat(
        tuple(edit.modules),
        tuple(spectra[name].family for name in edit.modules),
        np.array([sigma.size for sigma in sigmas]),
        np.concatenate(sigmas),
        np.concatenate([known.get(name, each) for name, each in unknown.items()]),
        np.concatenate([~null_components(sigma) for sigma in sigmas]),
    )


Control = Callable[[Flat, Float64[ndarray, "*fold component"], int], Float64[ndarray, "*fold component"]]


def _scalar(kind: str) -> Control:
    def control(
        flat: Flat, after: Float64[ndarray, "*fold component"], seed: int
    ) -> Float64[ndarray, "*fold component"]:
        return flat.times(flat.sigma, _ratio(flat.sizes(after, kind), flat.sizes(flat.sigma, kind)))

    return control


def one_scale(
    flat: Flat, after: Float64[ndarray, "*fold component"], seed: int = 0
) -> Float64[ndarray, "*fold component"]:
    """γσ in every module that the edit moves and whose q is known; their functional energy is the edit's."""
    moved = flat.moved(after) & (flat.size > 0)
    wanted, present = _total(flat.sizes(after, "functional"), moved), _total(flat.size, moved)
    return flat.times(flat.sigma, np.where(moved, _ratio(wanted, present), np.nan))


def shuffled_scales(
    flat: Flat, after: Float64[ndarray, "*fold component"], seed: int = 0
) -> Float64[ndarray, "*fold component"]:
    """The scales of `scalar_e` dealt out among the moved modules of each family, then all times one factor.

    The factor restores the functional energy of the whole edit. A module that is alone in its family keeps its scale.
    """
    moved = flat.moved(after) & (flat.size > 0)
    gains = np.where(moved, _ratio(flat.sizes(after, "functional"), flat.size), np.nan)
    dealt = gains.reshape(-1, flat.ranks.size).copy()
    for row, kept in zip(dealt, moved.reshape(dealt.shape), strict=True):
        rng = np.random.default_rng(seed)  # the same deal in every fold, as far as the same modules move
        for family in dict.fromkeys(flat.families):
            at = np.flatnonzero(kept & (np.array(flat.families) == family))
            row[at] = row[rng.permutation(at)]
    shuffled = dealt.reshape(gains.shape)
    wanted, found = _total(gains * flat.size, moved), _total(shuffled * flat.size, moved)
    return flat.times(flat.sigma, shuffled * np.where(found > 0, _ratio(wanted, found), 1.0))


def shape_only(
    flat: Flat, after: Float64[ndarray, "*fold component"], seed: int = 0
) -> Float64[ndarray, "*fold component"]:
    """σ′ of each module at the functional energy that it had before; a module that was zeroed stays unedited."""
    return flat.times(after, _ratio(flat.size, flat.sizes(after, "functional")))


def head_only(
    flat: Flat, after: Float64[ndarray, "*fold component"], seed: int = 0
) -> Float64[ndarray, "*fold component"]:
    """min(σ, σ′)."""
    return np.minimum(flat.sigma, after)


def tail_only(
    flat: Flat, after: Float64[ndarray, "*fold component"], seed: int = 0
) -> Float64[ndarray, "*fold component"]:
    """max(σ, σ′)."""
    return np.maximum(flat.sigma, after)


scalar_e, scalar_f, scalar_n = _scalar("functional"), _scalar("l2"), _scalar("l1")
READS_Q: frozenset[Control] = frozenset({scalar_e, one_scale, shuffled_scales, shape_only})


def control_of(edit: Edit, control: Control, flat: Flat, *, seed: int = 0) -> Edit:
    """One of this file's controls of an edit.

    edit: σ′ of its modules.
    control: such as `scalar_e`.
    flat: its modules end to end, as `flat_of` gives them.
    seed: of the deal, for `shuffled_scales`.
    """
    after = np.concatenate([module.sigma_after for module in edit.modules.values()])
    found = np.split(control(flat, after, seed), flat.starts[1:])
    sizes = flat.sizes(after, "functional")
    modules = {}
    for place, (name, module) in enumerate(edit.modules.items()):
        reason = module.skipped
        if reason is None and control in READS_Q:
            reason = _unmatched(flat.size[place], sizes[place], control)
        new = found[place]
        modules[name] = ModuleEdit(gains_of(module.sigma, new), module.sigma, new, reason)
    return Edit(modules)


def _unmatched(size: float, size_after: float, control: Control) -> str | None:
    """Why a control that reads q leaves a module unedited, or None where it does not."""
    if np.isnan(size):
        return NO_MOMENTS
    if size == 0:
        return SILENT
    return _EMPTY if control is shape_only and size_after == 0 else None


def _total(
    sizes: Float64[ndarray, "*#fold module"], of: Bool[ndarray, "*fold module"]
) -> Float64[ndarray, "*fold one"]:
    """The root of the sum of the squares of some modules' sizes."""
    chosen = np.where(of, sizes, 0.0)
    top = chosen.max(axis=-1, keepdims=True)
    total: ndarray = top * np.linalg.norm(chosen / np.where(top > 0, top, 1.0), axis=-1, keepdims=True)
    return total


def _ratio(
    above: Float64[ndarray, "*#fold #module"], below: Float64[ndarray, "*#fold #module"]
) -> Float64[ndarray, "*fold module"]:
    """NaN where there is nothing to divide by."""
    above, below = np.broadcast_arrays(above, below)
    ratio: ndarray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio
