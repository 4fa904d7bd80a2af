"""Optuna's part: it proposes settings, is told what they gave, and keeps both in a journal on disk.

Whoever opens a study for writing holds the lock of its folder. The journal is JSON, one operation a line, and Optuna
replays it without running anything of it; what it says is checked again here, and one that does not fit is refused.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.edits import edit_record, stored_edit
from surgery.errors import DataError
from surgery.evaluation import Effect
from surgery.experiments.search.front import MEASURED, OUTCOMES, REFUSED, Trial
from surgery.experiments.search.objectives import Objective
from surgery.experiments.search.space import Dimension, Room
from surgery.files import digest

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.journal"
_LOCK = ".lock"
_MOST_BYTES, _LONGEST_LINE = 256 << 20, 16 << 20
_TRIAL = "trial"  # the attribute of Optuna's trial that holds ours


@dataclass(frozen=True)
class Proposal:
    """What is to be tried next: its number, the values of the dimensions by name, and Optuna's own handle of it."""

    number: int
    values: Mapping[str, Any]
    handle: "optuna.Trial"


class Study:
    """A study in a folder whose lock the caller holds.

    file: the journal, made where there is none.
    name: of the study in it, the search's own key.
    objectives: what is minimised and maximised.
    room: what is varied; the first trial stands where it starts.
    seed: of the sampler, which is seeded anew for each trial from this and from the trial's number. So what it
        proposes follows from the trials before, whether one process made them or several.

    Raises `DataError` for a journal that was damaged.
    """

    def __init__(self, file: Path, name: str, objectives: Sequence[Objective], room: Room, seed: int) -> None:
        import optuna  # here, because most sessions never search and it is slow to import

        self._file, self._objectives, self._room, self._seed = file, objectives, room, seed
        _drop_unfinished(file)
        directions = ["maximize" if each.higher_is_better else "minimize" for each in objectives]
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study
        try:
            self._study = optuna.create_study(
                storage=_storage(file), study_name=name, directions=directions, load_if_exists=True
            )
            self._fail_interrupted()
            self.trials = list(_trials(self._study, objectives))
        except (OSError, DataError):
            raise
        except Exception as error:  # whatever Optuna makes of a file that it did not write
            raise _damaged(file) from error
        finally:
            optuna.logging.set_verbosity(verbosity)

    def ask(self) -> Proposal:
        """The next setting: where the search starts, and after that what Optuna's TPE sampler proposes."""
        import optuna

        number = len(self.trials)
        self._study.sampler = _sampler(int(digest([str(self._seed), str(number)])[:8], 16))
        if number == 0 and not self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            self._study.enqueue_trial(self._room.start)
        handle = self._study.ask()

        def choose(each: Dimension) -> Any:
            if each.grid is None:
                return handle.suggest_categorical(each.name, each.choices)
            return handle.suggest_int(each.name, 0, each.grid.last)

        return Proposal(number, self._room.values(choose), handle)

    def tell(self, proposal: Proposal, trial: Trial) -> None:
        """Keep what a proposal gave.

        Optuna's multi-objective TPE asks every trial that it learns from for its numbers. So a trial that was stopped is
        told with the numbers of its first rows, one that was refused with infinite ones, and both as infeasible:
        the sampler keeps away from them and they are in no front.
        """
        proposal.handle.set_user_attr(_TRIAL, _record(trial))
        means = [trial.effects[o.name].mean if o.name in trial.effects else math.nan for o in self._objectives]
        worst = (math.inf * each.sign for each in self._objectives)
        values = [m if math.isfinite(m) else w for m, w in zip(means, worst, strict=True)]
        self._study.tell(proposal.handle, values)
        self.trials.append(trial)

    def _fail_interrupted(self) -> None:
        """Trials that a kill cut off are no trials: they are asked for again under the same number."""
        import optuna

        for each in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(each.number, state=optuna.trial.TrialState.FAIL)


def stored_trials(file: Path, name: str, objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """The trials in a journal, of which another process may write more; none without a file.

    Raises `DataError` for one that was damaged.
    """
    import optuna

    if not file.exists():
        return ()
    try:
        study = optuna.load_study(storage=_storage(file), study_name=name, sampler=optuna.samplers.RandomSampler())
        return tuple(_trials(study, objectives))
    except (OSError, DataError):
        raise
    except Exception as error:
        raise _damaged(file) from error


def _storage(file: Path) -> "optuna.storages.JournalStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if file.exists() and (not file.is_file() or file.stat().st_size > _MOST_BYTES):
        raise _damaged(file)
    return JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file))))


def _sampler(seed: int) -> "optuna.samplers.TPESampler":
    import optuna

    with warnings.catch_warnings():  # constraints are called experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constraints_func=_violation)


def _violation(trial: "optuna.trial.FrozenTrial") -> tuple[float]:
    """Above 0 for a trial that has no place in a front."""
    return (0.0 if trial.user_attrs[_TRIAL]["outcome"] == MEASURED else 1.0,)


def _drop_unfinished(file: Path) -> None:
    """Take away what a kill left: half of a last line, on which Optuna would write on, and the lock of its writer."""
    with suppress(FileNotFoundError):
        Path(f"{file}{_LOCK}").unlink()
    if not file.is_file():
        return
    with file.open("r+b") as journal:
        size = journal.seek(0, 2)
        first = journal.seek(max(0, size - _LONGEST_LINE))
        tail = journal.read()
        whole = tail.rfind(b"\n") + 1
        if first and not whole:
            raise _damaged(file)
        journal.truncate(first + whole)


def _damaged(file: Path) -> DataError:
    return DataError(
        f"the study of search {file.parent.name!r} was damaged",
        f"remove the folder {str(file.parent)!r} and search again",
    )


def _record(trial: Trial) -> dict[str, Any]:
    """A trial as plain values; its number is its place."""
    return {
        "edit": None if trial.plan is None else edit_record(trial.plan),
        "outcome": trial.outcome,
        "effects": {name: list(astuple(effect)) for name, effect in trial.effects.items()},
        "rows": trial.rows,
        "same_as": trial.same_as,
        "sigma": trial.sigma,
    }


def _trials(study: "optuna.Study", objectives: Sequence[Objective]) -> Iterator[Trial]:
    """Our trials in the order tried; what is not as it was written raises whatever error comes first."""
    import optuna

    asked = {each.name for each in objectives}
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    for number, each in enumerate(complete):
        record = each.user_attrs[_TRIAL]
        effects = {str(name): Effect(*map(float, numbers)) for name, numbers in record["effects"].items()}
        outcome, edit, rows, same_as = (record[name] for name in ("outcome", "edit", "rows", "same_as"))
        sound = outcome in OUTCOMES and type(rows) is int and (same_as is None or same_as in range(number))
        if not sound or (edit is None) != (outcome == REFUSED) or set(effects) != (asked if edit else set()):
            raise ValueError("no trial of a search")
        plan = None if edit is None else stored_edit(edit)
        yield Trial(number, plan, outcome, effects, rows, same_as, str(record["sigma"]))
