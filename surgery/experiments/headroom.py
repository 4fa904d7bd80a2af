"""What any spectrum edit could still gain: σ alone trained on the calibration rows, stopped by the tuning rows.

An edit moves σ once and sees every row once. Adam (Kingma and Ba 2015) moves it many times; where that gains no more,
no policy will. The tuning rows choose the epoch, so their loss there is optimistic: prove the edit on other rows.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.adapter import in_scope
from surgery.data import Calibration
from surgery.edits import Edit, EditPlan
from surgery.errors import PolicyError
from surgery.evaluation import Effect, paired_effect
from surgery.experiments.steps import by_hand, tuning_losses
from surgery.experiments.tuning import TuningSetup
from surgery.progress import SILENT, Control
from surgery.sensitivity import measure_sensitivity

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Training:
    """How σ is trained.

    epochs: passes over the calibration rows at most.
    patience: epochs without a lower tuning loss after which it stops.
    learning_rate: of Adam, as a share of a module's mean σ.
    batch_size: rows of an update.
    seed: of the order of the rows.
    """

    epochs: int = 20
    patience: int = 3
    learning_rate: float = 0.02
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.epochs, self.patience, self.batch_size)
        if min(counts) < 1 or not 0 < self.learning_rate < 1 or not 0 <= self.seed < 2**32:
            raise PolicyError(
                f"σ cannot be trained by {self}",
                "use 1 or more epochs, patience and batch_size, a learning rate between 0 and 1 and a seed from 0",
            )


@dataclass(frozen=True)
class Headroom:
    """Where training σ led, at the epoch of lowest tuning loss.

    plan: makes the edit, bit for bit: gains by hand under energy rule none.
    epoch: that epoch, counted from 1; 0 where none lowered the tuning loss.
    calibration: mean loss of the calibration rows during each epoch, in nats per answer token, while σ moves.
    tuning: mean loss of the tuning rows before the first epoch and after each.
    change: of the tuning loss at that epoch, paired by row.
    seconds: that all of it took.
    """

    plan: EditPlan
    edit: Edit
    epoch: int
    calibration: tuple[float, ...]
    tuning: tuple[float, ...]
    change: Effect
    seconds: float


class _Adam:
    """Adam over a vector, with a step size for each entry."""

    def __init__(self, sizes: Float64[ndarray, " component"]) -> None:
        self._sizes, self._count = sizes, 0
        self._mean, self._square = np.zeros_like(sizes), np.zeros_like(sizes)

    def step(self, g: Float64[ndarray, " component"]) -> Float64[ndarray, " component"]:
        """What is added to the vector for its gradient."""
        self._count += 1
        first, second = _BETAS
        self._mean = first * self._mean + (1 - first) * g
        self._square = second * self._square + (1 - second) * g**2
        mean = self._mean / (1 - first**self._count)
        root = np.sqrt(self._square / (1 - second**self._count))
        moved: ndarray = -self._sizes * mean / (root + _EPSILON)
        return moved


class _Trainee:
    """σ of the modules in scope, end to end, while it is trained."""

    def __init__(self, setup: TuningSetup, calibration: Calibration, scope: str, training: Training) -> None:
        spectra = setup.live.spectra
        self.names = in_scope(spectra, scope)
        self._setup, self._rows, self._training = setup, calibration, training
        self._ends = np.cumsum([spectra[name].rank for name in self.names])[:-1]
        self._free = np.concatenate([~spectra[name].null for name in self.names])
        sizes = [np.full(spectra[name].rank, spectra[name].sigma.mean()) for name in self.names]
        self._adam = _Adam(training.learning_rate * np.concatenate(sizes))
        self._sigma = np.concatenate([spectra[name].sigma for name in self.names])
        self._order = np.random.default_rng(training.seed)

    @property
    def sigma(self) -> dict[str, Float64[ndarray, " rank"]]:
        """σ by module as it stands; null components are never moved, and a strength does not turn round."""
        return dict(zip(self.names, np.split(self._sigma.copy(), self._ends), strict=True))

    def epoch(self, control: Control) -> float:
        """One pass over the rows; the mean of the losses on the way."""
        count = len(self._rows.examples)
        order, losses = self._order.permutation(count), []
        for first in range(0, count, self._training.batch_size):
            chosen = tuple(self._rows.examples[i] for i in order[first : first + self._training.batch_size])
            batch = replace(self._rows, examples=chosen)
            found = measure_sensitivity(
                self._setup.live,
                batch,
                self.names,
                batch_size=self._training.batch_size,
                control=control.part(first, count),
                sigma=self.sigma,
            )
            g = np.concatenate([found.values[name].mean(axis=0) for name in self.names])
            moved = np.maximum(self._sigma + self._adam.step(np.where(np.isfinite(g), g, 0.0)), 0.0)
            self._sigma = np.where(self._free, moved, self._sigma)
            losses.append(found.losses)
        return float(np.concatenate(losses).mean())


def headroom(
    setup: TuningSetup,
    calibration: Calibration,
    *,
    scope: str = "residual",
    training: Training = Training(),
    control: Control = SILENT,
) -> Headroom:
    """σ of a scope trained on the calibration rows, at the epoch that the tuning rows like best.

    setup: the live model, and the tuning slice that chooses the epoch.
    calibration: encoded rows to train on.
    scope: a named scope or a regular expression over module names.
    training: how.
    control: hears of rows, of both slices, over all epochs that there may be.

    The same seed gives the same σ. Raises `PolicyError` for a scope without modules, and `Cancelled`.
    """
    begun, spectra = time.monotonic(), setup.live.spectra
    trainee = _Trainee(setup, calibration, scope, training)
    judges = len(setup.slice_.examples)
    total = judges + training.epochs * (len(calibration.examples) + judges)
    control.progress(0, total)
    unedited = best = tuning_losses(setup, None, control.part(0, total))
    at: dict[str, Float64[ndarray, " rank"]] = {}
    chosen, calibrated, tuned = 0, [], [float(unedited.mean())]
    for epoch in range(1, training.epochs + 1):
        rest = total - (training.epochs + 1 - epoch) * (len(calibration.examples) + judges)
        calibrated.append(trainee.epoch(control.part(rest, total)))
        after = trainee.sigma
        losses = tuning_losses(setup, after, control.part(rest + len(calibration.examples), total))
        tuned.append(float(losses.mean()))
        if losses.mean() < best.mean():
            best, at, chosen = losses, after, epoch
        elif epoch - chosen >= training.patience:
            break
    plan = by_hand(spectra, at, scope)
    edit, change = plan.apply(spectra, None), paired_effect(unedited, best)
    return Headroom(plan, edit, chosen, tuple(calibrated), tuple(tuned), change, time.monotonic() - begun)
