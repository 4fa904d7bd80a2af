"""What every policy does to a demo adapter on held-out examples, on its own task and on the other demo's, as Markdown.

    python tests/benchmarks/demo_report.py kinship arithmetic > tests/benchmarks/DEMO_REPORT.md

512 held-out examples of its own task and 128 of the other, 128 for calibration, 16 random controls, the rescaling to the functional energy of grad_direction, the
unedited adapter once more in other batches. The proofs are runs of the history: cut off, the command goes on where
it was, and asked again it reads what it found.
"""

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from surgery import decompose, make_policy, open_adapter, preview
from surgery.adapter import Adapter
from surgery.data import CalibrationPlan, EvaluationPlan
from surgery.edits import EditPlan
from surgery.evaluation import AGAIN, BASELINE, SAME_ENERGY, SAME_NORM, Evaluation, least_detectable
from surgery.experiments import Proof, prove, random_controls, shape_controls
from surgery.model import BaseChoice, attach
from surgery.paper import reward_and_risk
from surgery.progress import Control
from surgery.recipes import demo_plans
from surgery.sensitivity import calibrate

FAR = 128  # examples of the other task
STRONGEST = "grad_direction"  # whose functional energy the rescaling takes
PLANS = {
    STRONGEST: EditPlan(),
    "grad_direction 0.2/0.2": EditPlan(make_policy("grad_direction", {"eta_suppress": 0.2, "eta_enhance": 0.2})),
    "natural_gradient": EditPlan(make_policy("natural_gradient", {}), energy="none"),
} | {
    name: EditPlan(make_policy(name, {}), energy="l1")
    for name in ("smooth_abs", "abs_select", "double_smooth", "z_score", "robust_z", "rank")
}


class Study:
    """One demo adapter: its edits, and what they do on its own rows and on those of the other demo."""

    def __init__(self, demo: str, other: str, controls: int) -> None:
        self.source, self.other, self.controls = f"demo:{demo}", f"demo:{other}", controls
        self.adapter: Adapter = open_adapter(self.source)
        self.spectra = decompose(self.adapter)
        base, calibration, rows = demo_plans(self.source)
        self.base: BaseChoice = base
        self.calibration: CalibrationPlan = calibration
        self.rows: EvaluationPlan = replace(rows, random=controls)
        self.far: EvaluationPlan = replace(demo_plans(self.other)[2], limit=FAR, random=0)
        self.run()

    def run(self) -> None:
        with attach(self.adapter, self.spectra, self.base) as live:
            self.sensitivity = calibrate(live, self.calibration, base=self.base, control=_told("calibrating"))
            edits = {name: plan.apply(self.spectra, self.sensitivity) for name, plan in PLANS.items()}
            self.edits = edits
            scaled = shape_controls(edits[STRONGEST], self.spectra, self.sensitivity, shape=False)
            beside = {**edits, **scaled}
            beside |= random_controls(self.spectra, self.controls)
            seen = [self.calibration]
            near = Proof(self.rows, beside, seen, PLANS, again=True, base=self.base)
            self.near = prove(live, near, control=_told(f"{self.source}, own task"))
            off = Proof(self.far, edits, seen, PLANS, base=self.base)
            self.off = prove(live, off, control=_told(f"{self.source}, {self.other}"))
            self.beside = beside

    def lines(self) -> Iterator[str]:
        own, off = self.near.evaluation, self.off.evaluation
        n = len(own.samples)
        yield f"## `{self.source}`"
        yield ""
        yield (
            f"Unedited: loss {_mean(own, 'loss'):.4f} nats per answer token, exact match {100 * _mean(own, 'exact'):.1f} % on "
            f"{n} held-out examples of its own task; {_mean(off, 'loss'):.4f} and {100 * _mean(off, 'exact'):.1f} % on "
            f"{len(off.samples)} of {self.other}. Runs {self.near.plan.key} and {self.off.plan.key}."
        )
        yield ""
        yield from self.on_its_task(own)
        yield ""
        yield from self.controls_of(own)
        yield ""
        yield from self.risk(own, off)

    def on_its_task(self, own: Evaluation) -> Iterator[str]:
        adjusted = own.adjusted("exact")
        yield (
            "| variant | Δ loss | 95 % | beats controls, p | Δ exact match, points | 95 % | gained, lost | p, Holm | "
            "predicted Δ calibration loss |"
        )
        yield "|---|---|---|---|---|---|---|---|---|"
        for name in [*PLANS, *(name for name in (SAME_ENERGY, SAME_NORM) if name in self.beside)]:
            loss, exact, test = own.effect(name, "loss"), own.effect(name, "exact"), own.tests("exact")[name]
            rank = own.permutation_rank(name, "loss")
            guess = preview(self.beside[name], self.sensitivity)
            assert rank is not None
            assert guess is not None
            yield (
                f"| {name} | {loss.mean:+.4f} ± {loss.standard_error:.4f} | {loss.low:+.4f} … {loss.high:+.4f} | "
                f"{rank.beaten} of {rank.controls}, {rank.p:.2f} | {100 * exact.mean:+.1f} ± "
                f"{100 * exact.standard_error:.1f} | {100 * exact.low:+.1f} … {100 * exact.high:+.1f} | "
                f"{test.gained}, {test.lost} | {adjusted[name]:.2f} | "
                f"{guess.predicted:+.4f} ± {guess.standard_error:.4f} |"
            )

    def controls_of(self, own: Evaluation) -> Iterator[str]:
        losses = [own.effect(name, "loss").mean for name in own.controls]
        exacts = [100 * own.effect(name, "exact").mean for name in own.controls]
        smallest = min(own.adjusted("exact")[name] for name in own.controls)
        certain = sum(own.effect(name, "loss").certain for name in own.controls)
        again, tests = own.effect(AGAIN, "loss"), own.tests("exact")[AGAIN]
        changed = float(np.mean(own.numbers(STRONGEST, "exact") != own.numbers(BASELINE, "exact")))
        points = 100 * least_detectable(changed**0.5, len(own.samples), tests=len(own.variants) - 1)
        yield (
            f"- {len(losses)} random controls: Δ loss from {min(losses):+.4f} to {max(losses):+.4f}, mean "
            f"{np.mean(losses):+.4f}; Δ exact match from {min(exacts):+.1f} to {max(exacts):+.1f} points, mean "
            f"{np.mean(exacts):+.2f}. {certain} of the {len(losses)} intervals of Δ loss exclude zero; the smallest "
            f"corrected p of exact match is {smallest:.2f}."
        )
        yield (
            f"- Noise floor: the unedited adapter in other batches moves the mean loss by {abs(again.mean):.1e} and "
            f"changes {tests.gained + tests.lost} answers from right to wrong or back."
        )
        yield (
            f"- With {changed:.0%} of the answers changing, as {STRONGEST} does, this slice shows a change of {points:.1f} "
            f"points four times in five, corrected for {len(own.variants) - 1} variants."
        )

    def risk(self, own: Evaluation, off: Evaluation) -> Iterator[str]:
        yield f"Reward on its own task against risk on {self.other} (§5.3: risk is max(0, −change)), in points:"
        yield ""
        yield "| edit | reward | Δ on the other task | gained, lost | p, Holm | risk | Δ loss on the other task |"
        yield "|---|---|---|---|---|---|---|"
        adjusted = off.adjusted("exact")
        for name in PLANS:
            near, far, loss = own.effect(name, "exact"), off.effect(name, "exact"), off.effect(name, "loss")
            reward, risk = reward_and_risk([100 * near.mean], 100 * far.mean)
            test = off.tests("exact")[name]
            yield (
                f"| {name} | {reward:+.1f} | {100 * far.mean:+.1f} ± {100 * far.standard_error:.1f} | "
                f"{test.gained}, {test.lost} | {adjusted[name]:.2f} | {risk:.1f} | {loss.mean:+.4f} ± "
                f"{loss.standard_error:.4f} |"
            )


def _mean(evaluation: Evaluation, measure: str) -> float:
    return float(evaluation.numbers(BASELINE, measure).mean())


def _told(step: str) -> Control:
    last = [-1]

    def report(done: int, total: int) -> None:
        if 100 * done // max(total, 1) != last[0]:
            last[0] = 100 * done // max(total, 1)
            print(f"{step}: {done} of {total}", file=sys.stderr, flush=True)

    return Control(progress=report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", nargs=2, help="two demos; each is the other's risk")
    parser.add_argument("--random", type=int, default=16)
    options = parser.parse_args()
    first, second = options.demos
    studies = [Study(first, second, options.random), Study(second, first, options.random)]
    print("# Every policy on both demos\n")
    print("    python tests/benchmarks/demo_report.py " + " ".join(options.demos))
    print(
        f"\n{torch.get_num_threads()} threads, {platform.machine()}, no GPU, torch {torch.__version__}, float32. "
        "Sensitivities from 128 calibration examples, scope residual, energy l1 (natural_gradient: none), every policy at its "
        "defaults. Changes are paired by example; ± is one standard error, intervals are 95 % paired bootstrap. "
        "p, Holm: McNemar's exact test, corrected for all variants of the run, the controls too. Rank keeps the 8 "
        "components of largest σ.\n"
    )
    for study in studies:
        print("\n".join(study.lines()), end="\n\n")


if __name__ == "__main__":
    main()
