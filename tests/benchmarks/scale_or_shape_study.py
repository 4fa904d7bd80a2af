"""Scale or shape, on the demos: four edits with their controls on held-out rows of both tasks.

    python -m tests.benchmarks.scale_or_shape_study --examples 512 --losses losses.json

measures natural_gradient 0.1/0.3, grad_direction 2/0.2, hns 4+1 and power 0.5 (the last two on all modules) with
Scalar-E, Scalar-F and ShapeOnly of each, on rows of the adapter's own task and of the other demo's: the paired change
of the mean answer loss with its standard error, and the share of the edit's change that Scalar-E explains. What was
measured is kept in `--losses`, rows in file order, so that a study that `--seconds` cut off goes on where it was, and
the tables say on how many rows they stand. Sensitivities and input moments are those that ship with the demos.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from surgery import decompose, make_policy, open_adapter
from surgery.data import CalibrationPlan, encode, read_source
from surgery.edits import Edit, EditPlan
from surgery.evaluation import (
    BASELINE,
    SAME_ENERGY,
    SAME_NORM,
    SHAPE_ONLY,
    Marking,
    evaluate,
    explained_share,
    paired_effect,
)
from surgery.experiments import CONTROLS, control_of, flat_of, input_energies
from surgery.model import attach
from surgery.recipes import demo_plans
from surgery.sensitivity import load_sensitivity, shipped_measurements

PLANS = {
    "natural_gradient 0.1/0.3": EditPlan(
        make_policy("natural_gradient", {"eta": 0.1, "damping": 0.3}), energy="none"
    ),
    "grad_direction 2/0.2": EditPlan(
        make_policy("grad_direction", {"eta_suppress": 2.0, "eta_enhance": 0.2}), energy="l1"
    ),
    "hns 4+1, all modules": EditPlan(make_policy("hns", {"fast": 4, "stable": 1}), "all", "l1"),
    "power 0.5, all modules": EditPlan(make_policy("power", {"exponent": 0.5}), "all", "l1"),
}
BESIDE = (SAME_ENERGY, SAME_NORM, SHAPE_ONLY)
DEMOS = ("kinship", "arithmetic")
Losses = dict[str, dict[str, list[float]]]  # by edit and task, and by variant; rows in file order


def variants_of(demo: str, name: str) -> dict[str, Edit]:
    """One edit of a demo, under its own name, and its controls."""
    adapter = open_adapter(f"demo:{demo}")
    spectra = decompose(adapter)
    (shipped,) = shipped_measurements(adapter.digest)
    sensitivity = load_sensitivity(shipped.file)
    edit = PLANS[name].apply(spectra, sensitivity)
    flat = flat_of(edit, spectra, input_energies(sensitivity))
    return {name: edit, **{control: control_of(edit, CONTROLS[control], flat) for control in BESIDE}}


def measure(demo: str, rows: Mapping[str, int], losses: Losses, options: argparse.Namespace) -> Iterator[None]:
    """Adds the losses of batch after batch of a demo's edits on its tasks, so many rows of each task.

    Each edit gets `options.seconds` on each task, and the batch under way.
    """
    adapter = open_adapter(f"demo:{demo}")
    base, calibration, _ = demo_plans(f"demo:{demo}")
    with attach(adapter, decompose(adapter), base) as live:
        tokenizer = live.tokenizer_for(calibration.encoding)
        for task, name in itertools.product((task for task, count in rows.items() if count), options.edits):
            sigmas = {variant: edit.sigma_after for variant, edit in variants_of(demo, name).items()}
            plan = CalibrationPlan(demo_plans(f"demo:{task}")[2].data, encoding=calibration.encoding)
            held = read_source(plan.data, plan.fields).rows[: rows[task]]
            slice_ = encode(held, tokenizer, plan.encoding)
            found, until = losses.setdefault(f"{name} on {task}", {}), time.monotonic() + options.seconds
            while (done := len(found.get(BASELINE, ()))) < len(slice_.examples) and time.monotonic() < until:
                size = options.batch_size
                batch = replace(slice_, examples=slice_.examples[done : done + size])
                scored = evaluate(live, batch, sigmas, batch_size=size, marking=Marking(generate=False))
                for variant, score in scored.scores.items():
                    found.setdefault(variant, []).extend(score.loss.tolist())
                yield


def table(demo: str, losses: Losses) -> Iterator[str]:
    """The Markdown table of a demo: Δ loss of every variant on each task, and its share of the edit's."""
    yield f"| {demo} | rows | Δ loss | share of the edit's |"
    yield "|---|---|---|---|"
    for where, found in losses.items():
        own = {name: np.array(values) for name, values in found.items()}
        before, edit = own.pop(BASELINE), next(iter(name for name in PLANS if name in own))
        for name, after in own.items():
            effect = paired_effect(before, after)
            share = explained_share(own[edit] - before, after - before)
            told = share.why or f"{100 * share.share:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
            label, told = (where, "") if name == edit else (f"· {name}", told)
            yield f"| {label} | {before.size} | {effect.mean:+.4f} ± {effect.standard_error:.4f} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=512, help="held-out rows of the own task")
    parser.add_argument("--other", type=int, default=512, help="rows of the other demo's task")
    parser.add_argument("--edits", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--seconds", type=float, default=1e9, help="of each edit on each task, at most")
    parser.add_argument("--batch-size", type=int, default=16, help="rows at a time, times all variants")
    parser.add_argument(
        "--losses", type=Path, default=Path("scale_or_shape.json"), help="what was measured so far"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    known: dict[str, Any] = json.loads(options.losses.read_text()) if options.losses.exists() else {}
    for demo, other in zip(DEMOS, reversed(DEMOS), strict=True):
        losses = known.setdefault(demo, {})
        for _ in measure(demo, {demo: options.examples, other: options.other}, losses, options):
            options.losses.write_text(json.dumps(known))
    for demo in DEMOS:
        if known[demo]:
            print("\n".join(table(demo, known[demo])), end="\n\n")


if __name__ == "__main__":
    main()
