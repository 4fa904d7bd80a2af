"""Held-out effect of every policy on a demo adapter, with random controls, as a Markdown table.

    python tests/benchmarks/demo_effects.py kinship

128 calibration examples, 512 test examples, 5 random controls, plain rescaling. Beside each change
of the calibration loss stands its first-order prediction.
"""

import argparse
import platform
import sys
import time

import torch

from surgery import decompose, make_edit, make_policy, open_adapter, preview
from surgery.evaluate import evaluate
from surgery.measure import attach, calibrate, calibration_slice
from surgery.proof import prove, random_controls
from surgery.recipe import demo_plans

POLICIES = {
    "grad_direction": ("grad_direction", {}, "l1"),
    "grad_direction 0.2/0.2": ("grad_direction", {"eta_suppress": 0.2, "eta_enhance": 0.2}, "l1"),
    "smooth_abs": ("smooth_abs", {}, "l1"),
    "abs_select": ("abs_select", {}, "l1"),
    "scale 0.9": ("scale", {"gamma": 0.9}, "none"),
    "scale 1.1": ("scale", {"gamma": 1.1}, "none"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo")
    parser.add_argument("--random", type=int, default=5)
    options = parser.parse_args()

    source = f"demo:{options.demo}"
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    base, calibration, evaluation = demo_plans(source)
    began = time.time()
    with attach(adapter, spectra, base) as live:
        loaded = time.time()
        sensitivity = calibrate(live, calibration)
        calibrated = time.time()
        edits = {
            name: make_edit(spectra, make_policy(policy, knobs), sensitivity=sensitivity, energy=energy)
            for name, (policy, knobs, energy) in POLICIES.items()
        }
        edits |= random_controls(spectra, options.random)
        sigmas = {name: edit.sigma_after for name, edit in edits.items()}
        measured = evaluate(live, calibration_slice(live, calibration), sigmas, generate=False)
        print(f"calibrated and predicted after {time.time() - began:.0f} s", file=sys.stderr, flush=True)
        held_out = prove(
            live, evaluation, [calibration], edits, progress=lambda d, t: print(d, t, file=sys.stderr, flush=True)
        )
    unedited = held_out.scores["unedited"]
    print(
        f"{source}: unedited held-out loss {unedited.loss.mean():.4f}, exact match {unedited.exact.mean():.1%}, "
        f"{len(held_out.examples)} test and {sensitivity.examples} calibration examples; calibration took "
        f"{calibrated - loaded:.0f} s, everything {time.time() - began:.0f} s on {torch.get_num_threads()} threads, "
        f"{platform.machine()}, torch {torch.__version__}\n"
    )
    print("| variant | Δ loss, held out | Δ exact match, points | Δ calibration loss, measured | predicted |")
    print("|---|---|---|---|---|")
    for name, edit in edits.items():
        loss, exact = held_out.effect(name, "loss"), held_out.effect(name, "exact")
        near = measured.effect(name, "loss")
        guess = preview(edit, sensitivity)
        assert guess is not None
        print(
            f"| {name} | {loss.mean:+.4f} ± {loss.standard_error:.4f} | {100 * exact.mean:+.1f} ± "
            f"{100 * exact.standard_error:.1f} | {near.mean:+.4f} ± {near.standard_error:.4f} | "
            f"{guess.predicted:+.4f} ± {guess.standard_error:.4f} |"
        )


if __name__ == "__main__":
    main()
