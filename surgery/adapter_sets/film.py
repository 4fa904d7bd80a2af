"""How spectra and singular subspaces move over the checkpoints of one training.

Of every module at every step: σ, ‖ΔW‖_F, the effective rank, the overlap ‖U_{s,k}ᵀU_{t,k}‖²_F / k (paper §3.2,
Eq. 3) of its leading k directions with those at the last step and at the step before, and which component of the
last step each component is most like. All in float64, from the factors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from surgery.adapter_sets.adapter_set import AdapterSet, Member
from surgery.errors import AdapterError
from surgery.progress import SILENT, Control
from surgery.spectra import SIDES, Spectrum, effective_rank, null_components


@dataclass(frozen=True)
class ModuleFilm:
    """One module over the steps of a training; NaN where a checkpoint has no such module or too few components.

    `shape` are rows and columns of ΔW, `sigma` descends within each step, `norm` is ‖ΔW‖_F and `effective_rank` 0 for
    a zero update. `with_last` and `with_before` are overlaps of the leading 1, 2, … directions with those at the last
    step and at the step before, for each of `SIDES`. `match` is the component j at the last step with the largest
    `likeness` |uₖᵀuⱼ|·|vₖᵀvⱼ|, −1 for none; `angles` are those of uₖ and of vₖ with it, in degrees. Where
    `degenerate` is set, the component or its match shares its σ with a neighbour: its direction means nothing alone.
    """

    name: str
    layer: int | None
    family: str
    shape: tuple[int, int]
    sigma: Float64[ndarray, "step rank"]
    norm: Float64[ndarray, " step"]
    effective_rank: Float64[ndarray, " step"]
    with_last: Float64[ndarray, "side step rank"]
    with_before: Float64[ndarray, "side step rank"]
    match: Int64[ndarray, "step rank"]
    likeness: Float64[ndarray, "step rank"]
    angles: Float64[ndarray, "side step rank"]
    degenerate: Bool[ndarray, "step rank"]

    @property
    def rank(self) -> int:
        """The largest rank of all steps."""
        return self.sigma.shape[1]

    @property
    def matchable(self) -> int:
        """How many components of the last step can be a match: those that are not null."""
        final = self.sigma[-1][np.isfinite(self.sigma[-1])]
        return int((~null_components(final)).sum()) if final.size else 0


@dataclass(frozen=True)
class Film:
    """All modules of a training over its steps, which ascend."""

    steps: tuple[int, ...]
    modules: Mapping[str, ModuleFilm]

    @property
    def largest_k(self) -> int:
        return max(module.rank for module in self.modules.values())


@dataclass(frozen=True)
class _Frame:
    """One module at one step; `last` and `before` are None where there is nothing to compare with."""

    sigma: Float64[ndarray, " rank"]
    last: Float64[ndarray, "side shared"] | None
    before: Float64[ndarray, "side common"] | None
    match: Int64[ndarray, " live"]
    likeness: Float64[ndarray, " live"]
    angles: Float64[ndarray, "side live"]
    degenerate: Bool[ndarray, " live"]


def make_film(steps: Sequence[int], modules: Iterable[tuple[str, Sequence[Spectrum | None]]]) -> Film:
    """The film of a training.

    steps: of the checkpoints, ascending.
    modules: each with its spectra at those steps, None in a checkpoint that has no such module. Their directions are
        looked at once, in this order, and not kept.

    Scaling a factor and the other one against it changes nothing; scaling ΔW changes σ and norms alone. Raises
    `AdapterError` for fewer than two checkpoints, steps that do not ascend, no module, and a module whose shape
    changes, which is of another base model.
    """
    if len(steps) < 2:
        raise AdapterError(
            f"{len(steps)} checkpoint{'' if len(steps) == 1 else 's'} cannot show how a training moved",
            "open a folder with two checkpoints or more, called checkpoint-STEP as trainers name them",
        )
    if any(later <= step for step, later in pairwise(steps)):
        raise AdapterError(
            f"the steps {', '.join(map(str, steps))} do not ascend",
            "open the folder of one training, with one checkpoint a step",
        )
    films = {
        name: _module_film(steps, spectra)
        for name, spectra in modules
        if any(each is not None for each in spectra)
    }
    if not films:
        raise AdapterError("none of the checkpoints has a module", "open checkpoints of a LoRA adapter")
    return Film(tuple(steps), films)


def training_film(adapters: AdapterSet, checkpoints: Sequence[Member], *, control: Control = SILENT) -> Film:
    """The film of a training of a set, which holds its directions within the set's bound.

    adapters: the set.
    checkpoints: one of its `trainings`.
    control: hears of modules of checkpoints, and may stop it.

    Raises `Cancelled`, and `AdapterError` and `DataError` as `make_film` and `AdapterSet.by_module` do.
    """
    control.begin("decomposing and comparing checkpoints")
    steps = [-1 if member.step is None else member.step for member in checkpoints]
    return make_film(steps, adapters.by_module([member.name for member in checkpoints], control=control))


def _module_film(steps: Sequence[int], spectra: Sequence[Spectrum | None]) -> ModuleFilm:
    there = [(step, each) for step, each in zip(steps, spectra, strict=True) if each is not None]
    first = there[0][1]
    for step, other in there:
        if other.shape != first.shape:
            raise AdapterError(
                f"{first.name} is {first.shape[0]} × {first.shape[1]} at step {there[0][0]} and {other.shape[0]} × "
                f"{other.shape[1]} at step {step}",
                "open checkpoints of one training, which all have the same base model",
            )
    return _joined(
        first,
        [
            None if now is None else _frame(now, spectra[-1], spectra[at - 1] if at else None)
            for at, now in enumerate(spectra)
        ],
    )


def _frame(now: Spectrum, last: Spectrum | None, before: Spectrum | None) -> _Frame:
    cosines = None if last is None else _cosines(now, last)
    match, likeness, angles = _matched(now, last, cosines)
    theirs = last.degenerate[match] if last is not None else np.zeros(match.size, dtype=np.bool_)
    return _Frame(
        sigma=now.sigma,
        last=None if cosines is None else _overlaps(cosines),
        before=None if before is None else _overlaps(_cosines(now, before)),
        match=match,
        likeness=likeness,
        angles=angles,
        degenerate=now.degenerate[: match.size] | theirs,
    )


def _cosines(left: Spectrum, right: Spectrum) -> Float64[ndarray, "side left right"]:
    """Inner products of all singular directions that are not null, output side first."""
    ours, theirs = _live(left), _live(right)
    return np.stack([left.directions(s)[:, :ours].T @ right.directions(s)[:, :theirs] for s in SIDES])


def _live(module: Spectrum) -> int:
    """How many components are not null; σ descends, so they come first."""
    return int((~module.null).sum())


def _overlaps(cosines: Float64[ndarray, "side left right"]) -> Float64[ndarray, "side k"]:
    """Overlaps of the leading k directions for every k that both have: running sums of squared cosines."""
    sums = (cosines**2).cumsum(axis=1).cumsum(axis=2)
    diagonal = np.diagonal(sums, axis1=1, axis2=2)
    return np.clip(diagonal / np.arange(1, diagonal.shape[1] + 1), 0.0, 1.0)


def _matched(
    now: Spectrum, last: Spectrum | None, cosines: Float64[ndarray, "side now last"] | None
) -> tuple[Int64[ndarray, " found"], Float64[ndarray, " found"], Float64[ndarray, "side found"]]:
    """Of each component: the one at the last step that is most like it, how like it is, and the angles of both sides."""
    if last is None or cosines is None or 0 in cosines.shape:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((2, 0))
    likeness = np.abs(cosines[0] * cosines[1])
    match = likeness.argmax(axis=1)
    at = np.arange(match.size)
    angles = np.empty((2, match.size))
    for i, side in enumerate(SIDES):
        signs = np.where(cosines[i, at, match] < 0, -1.0, 1.0)
        # from the chord, because arccos is ill-conditioned for small angles
        chords = now.directions(side)[:, : match.size] - signs * last.directions(side)[:, match]
        angles[i] = np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(chords, axis=0) / 2, 1.0)))
    return match, np.minimum(likeness[at, match], 1.0), angles


def _joined(module: Spectrum, frames: Sequence[_Frame | None]) -> ModuleFilm:
    """The frames of one module as one film; steps without the module are NaN."""
    known = [(at, frame) for at, frame in enumerate(frames) if frame is not None]
    steps, rank = len(frames), max(frame.sigma.size for _, frame in known)
    arrays = {name: np.full((steps, rank), np.nan) for name in ("sigma", "likeness")}
    sides = {name: np.full((2, steps, rank), np.nan) for name in ("last", "before", "angles")}
    numbers = {name: np.full(steps, np.nan) for name in ("norm", "effective_rank")}
    match, degenerate = np.full((steps, rank), -1, dtype=np.int64), np.zeros((steps, rank), dtype=np.bool_)
    for at, frame in known:
        live = frame.match.size
        arrays["sigma"][at, : frame.sigma.size] = frame.sigma
        arrays["likeness"][at, :live] = frame.likeness
        match[at, :live], degenerate[at, :live] = frame.match, frame.degenerate
        for name, values in (("last", frame.last), ("before", frame.before), ("angles", frame.angles)):
            if values is not None:
                sides[name][:, at, : values.shape[1]] = values
        numbers["norm"][at] = np.linalg.norm(frame.sigma)
        numbers["effective_rank"][at] = effective_rank(frame.sigma)
    return ModuleFilm(
        module.name,
        module.layer,
        module.family,
        module.shape,
        with_last=sides["last"],
        with_before=sides["before"],
        angles=sides["angles"],
        match=match,
        degenerate=degenerate,
        **arrays,
        **numbers,
    )
