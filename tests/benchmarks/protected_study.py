"""Does a protected step keep the gain and spare the other task? Kinship's adapter with arithmetic protected.

    python -m tests.benchmarks.protected_study --out FOLDER

The demo's own calibration plan, residual writers, energy none, natural_gradient at its defaults against policy
protected at several weights μ, and against the same natural step with what hurts taken out. μ is chosen on the tuning slices of both tasks, the least whose measured loss on the
protected task rises by no more than half the bar, and confirmed once on 512 test rows of both. Losses only. What was
measured is kept in FOLDER, so that a stopped run goes on where it was. Prints Markdown.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery import decompose, encode, open_adapter
from surgery.data import CalibrationPlan, read_rows
from surgery.edits import Edit, EditPlan, expected, expected_beside
from surgery.files import data_file, demo_slice
from surgery.model import LiveModel, VariantEngine, attach
from surgery.policies import NaturalGradient, Protected
from surgery.recipes import demo_plans
from surgery.sensitivity import (
    Sensitivity,
    calibrate,
    load_sensitivity,
    save_sensitivity,
    shipped_measurements,
)
from surgery.spectra import Spectra

OWN, OTHER = "demo:kinship", "demo:arithmetic"
WEIGHTS = (0.1, 0.2, 0.5)
BAR, SHARE = 0.005, 0.8
NATURAL, SPARED = "natural_gradient", "natural_gradient, what hurts taken out"


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    adapter = open_adapter(OWN)
    spectra = decompose(adapter)
    base, plan, _ = demo_plans(OWN)
    with attach(adapter, spectra, base) as live:
        sensitivity = _sensitivity(live, plan, adapter.digest, options.out)
        plain = EditPlan(NaturalGradient(), energy="none")
        plans = {NATURAL: plain, SPARED: replace(plain, protect=True)}
        plans |= {f"protected, μ {mu:g}": EditPlan(Protected(mu=mu)) for mu in WEIGHTS}
        edits = {name: plan.apply(spectra, sensitivity) for name, plan in plans.items()}
        tuned = {task: _losses(live, task, "tuning", options.tuning, edits, options.out) for task in (OWN, OTHER)}
        chosen = _chosen(tuned)
        print(f"Chosen on {options.tuning} tuning rows of each task: {chosen}.\n")
        final = {name: edits[name] for name in (NATURAL, SPARED, chosen)}
        proven = {task: _losses(live, task, "test", options.test, final, options.out) for task in (OWN, OTHER)}
    _print("tuning", plans, spectra, sensitivity, tuned)
    _print("test", {name: plans[name] for name in final}, spectra, sensitivity, proven)
    for name in (SPARED, chosen):
        _verdict(proven, name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what was measured")
    parser.add_argument("--tuning", type=int, default=96, help="tuning rows of each task (default 96)")
    parser.add_argument("--test", type=int, default=512, help="test rows of each task (default 512)")
    return parser.parse_args()


def _sensitivity(live: LiveModel, plan: CalibrationPlan, digest: str, out: Path) -> Sensitivity:
    """What ships of the demo's own rows, with those of the other task beside."""
    (shipped, *_) = shipped_measurements(digest)
    beside = out / "beside.safetensors"
    if not beside.exists():
        save_sensitivity(calibrate(live, replace(plan, data=demo_slice(OTHER, "calibration"))), beside)
    return replace(load_sensitivity(shipped.file), protected=(load_sensitivity(beside),))


def _losses(
    live: LiveModel, task: str, slice_name: str, count: int, edits: Mapping[str, Edit], out: Path
) -> dict[str, Float64[ndarray, " example"]]:
    """The loss of every row under every edit, less that of the unedited adapter."""
    file = out / f"{task.removeprefix('demo:')}-{slice_name}-{count}.npz"
    if not file.exists():
        begun = time.monotonic()
        _, plan, _ = demo_plans(OWN)
        rows = read_rows(data_file(demo_slice(task, slice_name)))[:count]
        examples = encode(rows, live.tokenizer_for(plan.encoding), plan.encoding).examples
        variants = {"unedited": None, **{name: edit.sigma_after for name, edit in edits.items()}}
        found = VariantEngine(live, variants).answer_losses(examples)
        np.savez(file, **found)
        print(f"{task} {slice_name}: {len(examples)} rows in {time.monotonic() - begun:.0f} s", flush=True)
    held = np.load(file)
    return {name: held[name] - held["unedited"] for name in edits}


def _chosen(tuned: Mapping[str, Mapping[str, ndarray]]) -> str:
    """The least weight that keeps the protected task within half the bar, else the largest."""
    names = [name for name in tuned[OTHER] if name not in (NATURAL, SPARED)]
    return next((name for name in names if tuned[OTHER][name].mean() <= BAR / 2), names[-1])


def _print(
    slice_name: str,
    plans: Mapping[str, EditPlan],
    spectra: Spectra,
    sensitivity: Sensitivity,
    changes: Mapping[str, Mapping[str, ndarray]],
) -> None:
    rows = len(next(iter(changes[OWN].values())))
    print(
        f"\n| edit | expected, own | {slice_name}, own ({rows} rows) | expected, protected | {slice_name}, protected |"
    )
    print("|---|---|---|---|---|")
    for name, plan in plans.items():
        own = expected(plan, spectra, sensitivity)
        (other,) = expected_beside(plan, spectra, sensitivity)
        assert own is not None
        cells = [f"{own.mean:+.4f}", _told(changes[OWN][name]), f"{other.mean:+.4f}", _told(changes[OTHER][name])]
        print(f"| {name} | {' | '.join(cells)} |")


def _told(change: Float64[ndarray, " example"]) -> str:
    return f"{change.mean():+.4f} ± {change.std(ddof=1) / np.sqrt(change.size):.4f}"


def _verdict(proven: Mapping[str, Mapping[str, ndarray]], chosen: str) -> None:
    share = proven[OWN][chosen].mean() / proven[OWN][NATURAL].mean()
    rise = proven[OTHER][chosen].mean()
    kept, spared = share >= SHARE, rise <= BAR
    print(
        f"\n{chosen} keeps {share:.0%} of natural_gradient's gain ({'met' if kept else 'missed'}: {SHARE:.0%}), and the "
        f"protected loss changes by {rise:+.4f} ({'met' if spared else 'missed'}: at most {BAR:+.3f})."
    )


if __name__ == "__main__":
    main()
