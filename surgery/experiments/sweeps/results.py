"""Results of a sweep, cell by cell, with tests corrected for the whole sweep, and what failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from surgery.edits import groups_text
from surgery.evaluation import BASELINE, Effect, Ledger, VariantMetrics, holm
from surgery.experiments.sweeps.kept import KeptSweep
from surgery.experiments.sweeps.plan import SweepCell
from surgery.experiments.sweeps.run import Swept
from surgery.experiments.sweeps.swept_edit import SweptEdit
from surgery.policies import knob_values
from surgery.runs import Run


@dataclass(frozen=True)
class CellResult:
    """A cell with its run: means and paired changes by metric, and the tests corrected for the whole sweep.

    `changes` holds mean, standard error and the 95 % interval against the unedited adapter; `holm` is McNemar's p
    after Holm's correction for every variant that the sweep put to this adapter and task. `ledgers` are there by metric
    where the base was asked.
    """

    cell: SweepCell
    run: str
    examples: int
    baseline: Mapping[str, float]
    means: Mapping[str, float]
    changes: Mapping[str, Effect]
    holm: Mapping[str, float]
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)


def results(swept: Swept | KeptSweep) -> tuple[CellResult, ...]:
    """Every cell whose run has ended, in the order of the sweep."""
    found: dict[tuple[str, str, str], tuple[Run, VariantMetrics, VariantMetrics]] = {}
    p_values: dict[tuple[str, str, str], dict[str, float]] = {}
    for each in swept.answered:
        assert each.run.metrics is not None
        variants = each.run.metrics.summary.variants
        for name in each.variants:
            found[each.adapter, each.task, name] = each.run, variants[name], variants[BASELINE]
            for metric, test in variants[name].tests.items():
                p_values.setdefault((each.adapter, each.task, metric), {})[name] = test.p
    adjusted = {place: holm(values) for place, values in p_values.items()}
    told = []
    for cell in swept.cells:
        place = cell.adapter, cell.task, cell.variant
        if place not in found:
            continue
        run, own, baseline = found[place]
        tests = {
            metric: values[cell.variant]
            for (adapter, task, metric), values in adjusted.items()
            if (adapter, task) == place[:2] and cell.variant in values
        }
        told.append(
            CellResult(
                cell, run.plan.key, run.plan.examples, baseline.means, own.means, own.changes, tests, own.ledgers
            )
        )
    return tuple(told)


def metrics_of(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """The metrics that any cell has, in the order in which they first come."""
    return tuple(dict.fromkeys(name for each in cells for name in each.means))


def edit_values(edit: SweptEdit) -> dict[str, Any]:
    """What tells an edit of a sweep from the others."""
    return {
        "recipe": edit.label,
        "policy": edit.plan.policy.name,
        "knobs": knob_values(edit.plan.policy),
        "scope": edit.plan.scope,
        "energy": edit.plan.energy,
        "sigma_min": edit.plan.sigma_min,
        "strength": edit.plan.strength,
        "groups": groups_text(edit.plan.groups),
        "budget": edit.budget,
        "seed": edit.seed,
    }


def failures(swept: Swept) -> list[dict[str, Any]]:
    """The groups that failed: what they were to answer, how often they were tried, and why they ended."""
    return [
        {
            "adapter": tried.group.adapter.name,
            "task": tried.group.task.name,
            "variants": list(tried.group.edits),
            "attempts": tried.attempts,
            "problem": tried.problem or "its run was not found",
        }
        for tried in swept.failed
    ]
