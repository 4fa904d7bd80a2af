"""Parts of `gpu.py` on a demo end to end: its sensitivities against the CPU's, and a proof on held-out rows."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from surgery import decompose, open_adapter
from surgery.adapter import Adapter
from surgery.data import CalibrationPlan, EvaluationPlan
from surgery.edits import EditPlan
from surgery.experiments import EDIT, Proof, prove, random_controls
from surgery.model import BaseChoice, attach
from surgery.recipes import demo_plans
from surgery.sensitivity import (
    Sensitivity,
    calibrate,
    calibration_slice,
    load_sensitivity,
    measure_sensitivity,
    shipped_measurements,
)
from tests.benchmarks.device_limits import seconds
from tests.benchmarks.gpu_bench import TINY, Bench, Measured, apart
from tests.helpers.rounding import sensitivities_apart
from tests.helpers.workplace import workplace, write_workplace

DEMO = "demo:kinship"


@dataclass(frozen=True)
class Case:
    """What is measured end to end: an adapter on its base, rows to measure and rows to prove on.

    reference: what a CPU measured of the same rows; measured there in batches of one where nothing ships.
    """

    adapter: Adapter
    base: BaseChoice
    calibration: CalibrationPlan
    held_out: EvaluationPlan
    reference: Sensitivity | None


def case(bench: Bench) -> Case:
    """The demo with what ships of it, in float32 on the device; a made-up workplace where the work is to be tiny."""
    os.environ["SURGERY_HOME"] = str(bench.folder / "home")
    if bench.scale is TINY:
        files = bench.folder / "files"
        if not files.exists():
            write_workplace(files)
        place = workplace(files, bench.folder / "home")
        limited = replace(place.evaluation, limit=bench.scale.held_out)
        return Case(open_adapter(place.adapter), place.base, place.calibration, limited, None)
    adapter, (base, calibration, rows) = open_adapter(DEMO), demo_plans(DEMO)
    (shipped,) = shipped_measurements(adapter.digest)
    return Case(
        adapter,
        replace(base, device=str(bench.device)),
        calibration,
        replace(rows, limit=bench.scale.held_out),
        load_sensitivity(shipped.file),
    )


def demo_calibration_part(bench: Bench) -> Iterator[Measured]:
    """Sensitivities of the demo on the device against the CPU's."""
    chosen = case(bench)
    spectra = decompose(chosen.adapter)
    began = perf_counter()
    with attach(chosen.adapter, spectra, chosen.base) as live:
        yield Measured("demo: load the base and attach", perf_counter() - began, "s")
        resumed: list[int] = []
        control = replace(bench.control, resumed=lambda done, _: resumed.append(done))
        found: list[Sensitivity] = []
        took = seconds(
            lambda: found.append(calibrate(live, chosen.calibration, base=chosen.base, control=control)),
            bench.device,
        )
        (measured,) = found
        before = f", {resumed[0]} of them before a break" if resumed else ""
        yield Measured("demo: calibration", took, "s", f"{measured.examples} rows, float32{before}")
        reference = chosen.reference or measure_sensitivity(
            live, calibration_slice(live, chosen.calibration), list(live.spectra), batch_size=1
        )
        off, allowed = apart(reference, measured), sensitivities_apart(live.model)
        yield Measured(
            "demo: sensitivities against the CPU's", off, "", f"‖Δg‖ / ‖g‖; rounding allows {allowed:.1e}"
        )
        nats = float(np.abs(measured.losses - reference.losses).max())
        yield Measured("demo: losses against the CPU's", nats, "nats", "largest difference of a row")


def demo_proof_part(bench: Bench) -> Iterator[Measured]:
    """The default edit of the demo and its controls on held-out rows; what was answered before a break is kept."""
    chosen = case(bench)
    spectra = decompose(chosen.adapter)
    with attach(chosen.adapter, spectra, chosen.base) as live:
        measured = calibrate(live, chosen.calibration, base=chosen.base, control=bench.control)
        edits = {EDIT: EditPlan().apply(spectra, measured)} | random_controls(spectra, bench.scale.controls)
        proof = Proof(chosen.held_out, edits, [chosen.calibration], base=chosen.base)
        resumed: list[int] = []
        control = replace(bench.control, resumed=lambda done, _: resumed.append(done))
        found: list[Any] = []
        took = seconds(lambda: found.append(prove(live, proof, control=control)), bench.device)
        evaluation = found[0].evaluation
        of = f"{len(evaluation.samples)} rows × {len(evaluation.variants)} variants"
        yield Measured("demo: proof", took, "s", of + (f", {resumed[0]} before a break" if resumed else ""))
        for measure, unit, factor in (("loss", "nats", 1), ("exact", "points", 100)):
            effect = evaluation.effect(EDIT, measure)
            yield Measured(
                f"demo: Δ {measure} of the edit",
                factor * effect.mean,
                unit,
                f"± {factor * effect.standard_error:.2g}",
            )
