"""The plan of a sweep: its cells, the passes through a model that serve them, and what that costs.

A cell is one number of a table. Cells that differ in nothing that acts share a variant; variants of one adapter
on one task ride in one pass, so many at once that memory and a lost worker cost little; and one calibration pass
at the largest budget serves every smaller one, because gₖ is kept for every example.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, TaskPlan, calibration_rows, read_slices
from surgery.edits import groups_text
from surgery.errors import SweepError
from surgery.experiments import check_guards
from surgery.experiments.sweeps.spec import Sweep, SweptAdapter, SweptTask
from surgery.experiments.sweeps.swept_edit import SweptEdit, pass_of, refuse_unfit
from surgery.policies import knobs_of
from surgery.sensitivity import characters, known_pace, known_proof_pace


@dataclass(frozen=True)
class SweepCell:
    """One number of a table; `variant` is the name of what answers for it in its run."""

    adapter: str
    task: str
    edit: SweptEdit

    @property
    def variant(self) -> str:
        return variant_name(self.edit)


@dataclass(frozen=True)
class Group:
    """Variants of one adapter that are put to one task in one pass: a run of the history.

    `passes` are the calibration passes that the edits read.
    """

    adapter: SweptAdapter
    task: SweptTask
    edits: Mapping[str, SweptEdit]
    passes: tuple[CalibrationPlan, ...]

    @property
    def seen(self) -> list[CalibrationPlan]:
        """The slices that the edits were made and chosen on."""
        chosen = [plan for edit in self.edits.values() for plan in edit.chosen]
        return list(dict.fromkeys([*self.passes, *chosen]))

    @property
    def seen_tasks(self) -> list[TaskPlan]:
        """The tasks of lm-eval that the edits were chosen on."""
        # by what they say: data files of a task are no key
        return list({repr(plan): plan for edit in self.edits.values() for plan in edit.chosen_tasks}.values())

    def pass_for(self, edit: SweptEdit) -> CalibrationPlan:
        """The pass of this group that an edit reads the first examples of."""
        wanted = pass_of(edit, self.adapter.calibration)
        return next(each for each in self.passes if replace(each, examples=1) == wanted)

    @property
    def requests(self) -> int | None:
        """Examples × variants, unedited adapter and base among these; None where the task alone knows its length."""
        return None if self.task.limit is None else self.task.limit * (len(self.edits) + 1 + self.task.base_arm)


@dataclass(frozen=True)
class SweepPlan:
    """All cells in the order of the file, and the groups that answer for them, adapter by adapter."""

    sweep: Sweep
    cells: tuple[SweepCell, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Cost:
    """What is still to be done. `seconds` is for one worker, None where no earlier run tells the pace.

    `requests` counts examples × variants of tasks whose length is known; `open_ended` names the others. `guards` counts
    the runs of guards beside them, which neither counts.
    """

    cells: int
    variants: int
    groups: int
    finished_groups: int
    passes: int
    calibration_examples: int
    requests: int
    open_ended: tuple[str, ...]
    seconds: float | None
    guards: int = 0


def variant_name(edit: SweptEdit) -> str:
    """What an edit is called in a run: its recipe, or what acts and nothing else, so that equal variants share a name."""
    policy, plan = edit.plan.policy, edit.plan
    if edit.label:
        return f"recipe {edit.label}"
    changed = [
        f"{k.name} {getattr(policy, k.name)}" for k in knobs_of(policy) if getattr(policy, k.name) != k.default
    ]
    parts = [" ".join([policy.name, *changed]), plan.scope, plan.energy]
    if plan.sigma_min:
        parts.append(f"σ from {plan.sigma_min:g}")
    if plan.strength != 1:
        parts.append(f"strength {plan.strength:g}")
    if groups := groups_text(plan.groups):
        parts.append(groups)
    if policy.needs_gradient:
        parts.append(f"{edit.budget} examples")
    # second moments of inputs are those of all rows that were measured, whatever the budget
    if plan.needs_sensitivity and edit.seed:
        parts.append(f"seed {edit.seed}")
    return ", ".join(parts)


def expand(sweep: Sweep) -> SweepPlan:
    """The cells of a sweep and the groups that answer for them."""
    tasks = {task.name: task for task in sweep.tasks}
    edits = {variant_name(edit): edit for edit in sweep.edits}
    cells, groups = [], []
    for adapter in sweep.adapters:
        for name in adapter.tasks:
            cells += [SweepCell(adapter.name, name, edit) for edit in sweep.edits]
            groups += [
                Group(adapter, tasks[name], part, _passes(adapter, part.values(), sweep.edits))
                for part in _parts(edits, sweep.variants_at_once)
            ]
    return SweepPlan(sweep, tuple(cells), tuple(groups))


def _parts(edits: Mapping[str, SweptEdit], most: int) -> list[dict[str, SweptEdit]]:
    """The variants in parts of equal size, give or take one: a short last pass would cost as much as a long one."""
    names, count = list(edits), -(-len(edits) // most)
    bounds = [len(names) * part // count for part in range(count + 1)]
    return [{name: edits[name] for name in names[a:b]} for a, b in pairwise(bounds)]


def _passes(
    adapter: SweptAdapter, edits: Iterable[SweptEdit], every: Iterable[SweptEdit]
) -> tuple[CalibrationPlan, ...]:
    """The passes that these edits read, each as long as the largest budget of every edit that reads it."""
    largest: dict[CalibrationPlan, int] = {}
    for edit in every:
        if edit.plan.needs_sensitivity:
            which = pass_of(edit, adapter.calibration)
            largest[which] = max(largest.get(which, 0), edit.budget)
    read = dict.fromkeys(pass_of(edit, adapter.calibration) for edit in edits if edit.plan.needs_sensitivity)
    return tuple(replace(which, examples=largest[which]) for which in read)


def passes_of(groups: Iterable[Group]) -> list[tuple[str, CalibrationPlan]]:
    """Every calibration pass that the groups need, once, with the name of its adapter."""
    return list(dict.fromkeys((group.adapter.name, plan) for group in groups for plan in group.passes))


def check(plan: SweepPlan) -> None:
    """Refuse what can be told without a model: adapters, scopes, rows that are too few or shared."""
    from surgery.evaluation.lm_eval import refuse_other_models

    sweep = plan.sweep
    tasks = {task.name: task for task in sweep.tasks}
    checked: set[str] = set()
    for adapter in sweep.adapters:
        opened = open_adapter(adapter.source)
        refuse_unfit(sweep.edits, opened.modules)
        mine = list(dict.fromkeys(s for g in plan.groups if g.adapter.name == adapter.name for s in g.seen))
        asked = [*adapter.guards, *(tasks[name].question for name in adapter.tasks)]
        if (place := repr((mine, asked))) not in checked:  # adapters of a set mostly ask the same
            checked.add(place)
            read_slices(mine)
            check_guards(asked, mine)
        for name in adapter.tasks:
            question = tasks[name].question
            if not isinstance(question, TaskPlan):
                continue
            refuse_other_models(opened.task)
            if tasks[name].run_programs and question.chat_template:
                raise SweepError(f"the task {name!r} runs programs in a chat", "leave out chat_template")


def cost(plan: SweepPlan, finished: Iterable[Group] = ()) -> Cost:
    """What the groups of a plan still cost, without those that are finished."""
    done = list(finished)
    groups = [group for group in plan.groups if group not in done]
    passes = passes_of(groups)
    bases = {adapter.name: adapter.base for adapter in plan.sweep.adapters}
    seconds: list[float | None] = []
    for name, each in passes:
        pace = known_pace(bases[name], each)
        seconds.append(None if pace is None else pace.seconds(each.examples, _characters(each)))
    for group in groups:
        pace_ = known_proof_pace(group.adapter.base, group.task.name)
        seconds.append(None if pace_ is None or group.requests is None else group.requests * pace_)
    return Cost(
        cells=len(plan.cells),
        variants=sum(len(group.edits) for group in groups),
        groups=len(groups),
        finished_groups=len(done),
        passes=len(passes),
        calibration_examples=sum(each.examples for _, each in passes),
        requests=sum(group.requests or 0 for group in groups),
        open_ended=tuple(dict.fromkeys(group.task.name for group in groups if group.requests is None)),
        seconds=None if None in seconds else float(sum(each for each in seconds if each is not None)),
        guards=sum(len(group.adapter.guards) for group in groups),
    )


def _characters(plan: CalibrationPlan) -> int:
    return characters(calibration_rows(plan))


def cost_text(cost: Cost) -> str:
    """The cost in one line."""
    parts = [
        f"{cost.cells} cells: {cost.variants} variants in {cost.groups} passes over held-out examples, "
        f"{cost.requests:,} answers",
        f"{cost.passes} calibration passes over {cost.calibration_examples:,} examples",
    ]
    if cost.finished_groups:
        parts.insert(0, f"{cost.finished_groups} passes are finished already")
    if cost.open_ended:
        parts.append(f"and all examples of {', '.join(cost.open_ended)}")
    if cost.guards:
        parts.append(f"{cost.guards} runs of guards beside them, whose time is not told")
    if cost.seconds is None:
        parts.append("time unknown until runs like these tell the pace")
    elif cost.groups:
        parts.append(f"about {duration(cost.seconds)} with one worker")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """A time in words that a person reads."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
