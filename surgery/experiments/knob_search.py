"""Search the knobs of a policy for the lowest loss on rows kept for that, by Optuna.

An edit that was chosen by what it measured on some rows looks better on them than it is.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float64
from numpy import ndarray

from surgery.edits import Edit, EditPlan, Grid, searchable, with_knobs
from surgery.errors import Cancelled, PolicyError
from surgery.evaluation import Effect, paired_effect
from surgery.experiments.tuning import TuningSetup
from surgery.model import Variant, VariantEngine
from surgery.policies import knob_values
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class SearchLimits:
    """Where a search ends: after so many trials, or with the trial that runs after so many seconds."""

    trials: int = 20
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """One edit that was tried, and the paired change of the mean answer loss, in nats per answer token."""

    plan: EditPlan
    measured: Effect


@dataclass(frozen=True)
class Search:
    """The edits that were measured, the plan given first, and the one that lowers the loss most."""

    trials: tuple[Trial, ...]
    best: Trial

    @property
    def warning(self) -> str:
        """What to say beside the best trial's number."""
        tried = "1 trial" if len(self.trials) == 1 else f"{len(self.trials)} trials"
        return (
            f"This is the best of {tried} on the rows that chose it, "
            "so the change measured there is optimistic: prove it on other rows."
        )


def search(
    setup: TuningSetup,
    plan: EditPlan,
    *,
    knobs: Sequence[str] | None = None,
    limits: SearchLimits | None = None,
    seed: int = 0,
    control: Control = SILENT,
) -> Search:
    """The setting of a policy's knobs with the lowest loss, of those tried by Optuna's TPE sampler.

    setup: the adapter in its running base model, its sensitivity and the rows to measure on.
    plan: the first trial, so nothing worse than it is returned.
    knobs: those to search; by default every switch and every number with a range, except a seed. Those that do
        nothing are left alone.
    limits: most trials and seconds.
    seed: of the sampler.
    control: hears of examples, the unedited adapter included.

    A setting that the policy refuses uses up a trial and is not measured; one that gives the same σ′ as an earlier
    trial uses one up too, and is neither measured nor listed again.

    A cancel or the limit of seconds ends the search after the running trial, the first one at the
    earliest, and what was found by then is returned: it raises no `Cancelled`, and one from
    `control.progress` is taken for a cancel.

    The best of many trials on one slice is optimistic, and more so the more there were: measure it
    again on rows that no trial has seen before you believe its number. See `Search.warning`.

    Raises `PolicyError` for a plan that cannot be applied, knobs that cannot be searched and limits
    that make no sense, all before the model runs.
    """
    trials, seconds = (limits or SearchLimits()).trials, (limits or SearchLimits()).seconds
    if trials < 1 or (seconds is not None and not seconds >= 0) or not 0 <= seed < 2**32:
        raise PolicyError(
            f"a search of {trials} trials in {seconds} seconds with seed {seed} cannot be made",
            "use 1 trial or more, 0 seconds or more, and a seed from 0 to 2**32 - 1",
        )
    setup.apply(plan)  # refused now, before the model runs
    watch = _Watch(control, seconds, (1 + trials) * len(setup.slice_.examples))
    proposals = Proposals(plan, searchable(plan, knobs, setup.live.spectra), seed)
    measured: dict[bytes, Trial] = {}
    tuning_slice = _TuningSlice(setup, watch)
    for number in range(trials):
        if number and watch.over():
            break
        asked, proposed = proposals.ask()
        if number == 0:
            proposed = plan  # as it stands, even where a value lies between two steps
        try:
            edit = setup.apply(proposed)
        except PolicyError:
            proposals.tell(asked, math.nan)
            continue
        same = b"".join(sigma.tobytes() for sigma in edit.sigma_after.values())
        if same not in measured:
            measured[same] = Trial(proposed, tuning_slice.effect(edit, number))
        proposals.tell(asked, measured[same].measured.mean)
    found = tuple(measured.values())
    return Search(found, min(found, key=_loss))  # of equals the earliest: the plan given wins a tie


class _Watch:
    """Tells how far a search is, and when it is over: by the clock, or by a cancel in either of its forms."""

    def __init__(self, control: Control, seconds: float | None, total: int) -> None:
        self._control, self._total = control, total
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        self._stopped = False

    def report(self, done: int) -> None:
        try:
            self._control.progress(done, self._total)
        except Cancelled:  # jobs of the app cancel by raising here, which would lose what was found
            self._stopped = True

    def over(self) -> bool:
        return self._stopped or self._control.cancelled() or time.monotonic() >= self._end


class _TuningSlice:
    """One slice with the losses of the unedited adapter, measured once for all trials."""

    def __init__(self, setup: TuningSetup, watch: _Watch) -> None:
        self._setup, self._examples, self._watch = setup, setup.slice_.examples, watch
        self._unedited = self._losses(None, 0)

    def effect(self, edit: Edit, number: int) -> Effect:
        """What `edit`, tried as number `number`, changes."""
        return paired_effect(self._unedited, self._losses(edit.sigma_after, 1 + number))

    def _losses(self, sigma: Variant | None, passes: int) -> Float64[ndarray, " example"]:
        before = passes * len(self._examples)

        def report(done: int, total: int) -> None:
            self._watch.report(before + done)

        engine = VariantEngine(self._setup.live, {"tried": sigma}, rows=self._setup.batch_size)
        return engine.answer_losses(self._examples, control=Control(progress=report))["tried"]


def _loss(trial: Trial) -> float:
    """Sorts trials; a model driven out of range is worse than anything."""
    return trial.measured.mean if math.isfinite(trial.measured.mean) else math.inf


class Proposals:
    """Optuna's part: it proposes settings, the first at the plan's own, and is told what they gave.

    It sees every knob as whole steps from the low end of its range.
    """

    def __init__(self, plan: EditPlan, room: "Sequence[Grid]", seed: int) -> None:
        import optuna  # here, because most sessions never search and it is slow to import

        self._plan, self._room = plan, room
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study
        try:
            self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        finally:
            optuna.logging.set_verbosity(verbosity)
        own = knob_values(plan.policy)
        self._study.enqueue_trial({grid.knob.name: grid.nearest(own[grid.knob.name]) for grid in room})

    def ask(self) -> "tuple[optuna.Trial, EditPlan]":
        trial = self._study.ask()
        values = knob_values(self._plan.policy)
        for grid in self._room:
            if grid.knob.matters(values):
                values[grid.knob.name] = grid.value(trial.suggest_int(grid.knob.name, 0, grid.last))
        return trial, with_knobs(self._plan, values)

    def tell(self, trial: "optuna.Trial", change: float) -> None:
        """NaN for a setting that was refused."""
        import optuna

        if math.isfinite(change):
            self._study.tell(trial, change)
        else:  # unlike a failed trial, the sampler learns from a pruned one where not to look
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
