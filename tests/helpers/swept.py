"""Sweeps as the history keeps them, whose runs hold scores that a test chooses."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from surgery.adapter import open_adapter
from surgery.data import EvaluationPlan, plan_record
from surgery.edits import EditPlan, edit_record
from surgery.evaluation import BASELINE, Evaluation, Sample, row_scores
from surgery.experiments.sweeps import KeptSweep, expand, kept, kept_sweeps, ledger, parse_sweep
from surgery.policies import make_policy
from surgery.runs import Run, RunPlan, begin, finish

METHODS = ("scale, residual, none", "scale gamma 0.5, residual, none")


def begun_sweep(
    folder: Path, losses: Mapping[str, Mapping[str, np.ndarray]], *, name: str = "made up"
) -> KeptSweep:
    """A sweep of `METHODS` over adapters that were begun, of which those with losses have ended.

    losses: by the adapter's path below the folder and by method, what the loss of every example changes by.
    """
    policies = ["scale", {"policy": "scale", "knobs": {"gamma": 0.5}}]
    record = {
        "sweep": 1,
        "base": {"location": "made-up/base"},
        "calibration": {"data": "rows.jsonl"},
        "adapters": {path: str(folder / path) for path in losses},
        "tasks": {"sums": {"data": "rows.jsonl"}},
        "edits": [{"policies": policies, "energies": ["none"]}],
    }
    plan = expand(parse_sweep(yaml.safe_dump(record), name=name))
    keys = [f"{place:024x}" for place in range(len(plan.groups))]
    for group, key in zip(plan.groups, keys, strict=True):
        own = losses[group.adapter.name]
        if own:
            ledger.remember(key, (_run(group.adapter.source, own),))
    kept.keep_sweep(plan, keys)
    return next(sweep for sweep in kept_sweeps() if sweep.name == name)


def _run(source: str, changes: Mapping[str, np.ndarray]) -> Run:
    adapter = open_adapter(source)
    count = len(next(iter(changes.values())))
    losses = {BASELINE: np.ones(count), **{name: 1 + change for name, change in changes.items()}}
    evaluation = Evaluation(
        {name: row_scores(each, np.zeros(count), ("a",) * count) for name, each in losses.items()},
        tuple(Sample(f"key {n}", f"question {n}", f"reference {n}") for n in range(count)),
    )
    edits = {
        name: edit_record(EditPlan(make_policy("scale", {"gamma": 0.5 if "0.5" in name else 1.0}), energy="none"))
        for name in changes
    }
    plan = RunPlan(
        adapter=adapter.source,
        adapter_digest=adapter.digest,
        base={"location": "made-up/base"},
        fingerprint="a base",
        question={"rows": plan_record(EvaluationPlan("rows.jsonl", limit=count))},
        asked="rows.jsonl",
        examples=count,
        variants={name: "" if name == BASELINE else name for name in losses},
        edits=edits,
        settings={"dtype": "float32", "device": "cpu"},
    )
    run, log = begin(plan)
    log.close()
    return finish(run, evaluation)
