"""What was measured of the demo adapters and ships beside them: their sensitivities, and one proof each.

    python -m assets.demo.measure kinship arithmetic

calibrates each on its 128 calibration examples and puts the report's edits, with 16 random controls and the
rescaling, to 64 held-out ones, as the Evaluate page would ask it. It works in $SURGERY_HOME, as everything does:
cut off, it goes on where it was. Then it writes assets/demo/NAME/sensitivity.safetensors and runs/KEY beside the
adapter; the log of single answers stays behind.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from surgery import decompose, open_adapter
from surgery.cli import progress_reporter
from surgery.experiments import EDIT, Proof, prove, rules_of, with_controls
from surgery.files import demo_folder
from surgery.model import attach
from surgery.recipes import Recipe, demo_plans
from surgery.runs import LOG, Run
from surgery.sensitivity import SHIPPED as SENSITIVITIES
from surgery.sensitivity import calibrate, stored_sensitivity_file
from tests.benchmarks.demo_report import PLANS, STRONGEST

HELD_OUT = 64  # examples, as many as the Evaluate page proposes; the report's 512 take eight times as long


def measure(source: str, examples: int) -> None:
    """Calibrate and prove one demo, and put what came out beside its adapter."""
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    base, calibration, held_out = demo_plans(source)
    held_out = replace(held_out, limit=examples, encoding=calibration.encoding)
    others = {name: plan for name, plan in PLANS.items() if name != STRONGEST}
    control = progress_reporter(f"{source}, calibrating")
    with attach(adapter, spectra, base) as live:
        sensitivity = calibrate(live, calibration, base=base, control=control)
        edit = PLANS[STRONGEST].apply(spectra, sensitivity)
        controlled = with_controls(
            spectra,
            {EDIT: (edit, rules_of(PLANS[STRONGEST]))},
            random=held_out.random,
            scale=held_out.scale,
            measured={EDIT: sensitivity},
        )
        recipe = Recipe(
            adapter=source,
            adapter_digest=adapter.digest,
            base=base,
            calibration=calibration,
            edit=PLANS[STRONGEST],
            evaluation=held_out,
            calibration_digest=sensitivity.rows,
        )
        proof = Proof(
            held_out,
            {**controlled.edits, **{name: plan.apply(spectra, sensitivity) for name, plan in others.items()}},
            recipe.seen,
            plans={EDIT: PLANS[STRONGEST], **others},
            recipe=recipe,
            again=held_out.again,
            base=base,
            controls=controlled.controls,
        )
        control.begin(f"{source}, proving")
        run = prove(live, proof, control=control)
    _ship(stored_sensitivity_file(sensitivity.provenance.key, calibration.batch_size), run, demo_folder(source))


def _ship(sensitivities: Path, run: Run, folder: Path) -> None:
    shutil.copyfile(sensitivities, folder / SENSITIVITIES)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    shutil.copytree(run.folder, folder / "runs" / run.plan.key, ignore=shutil.ignore_patterns(LOG))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", nargs="+")
    parser.add_argument("--examples", type=int, default=HELD_OUT, help="held-out examples of the proof")
    options = parser.parse_args()
    for name in options.demos:
        measure(f"demo:{name}", options.examples)


if __name__ == "__main__":
    main()
