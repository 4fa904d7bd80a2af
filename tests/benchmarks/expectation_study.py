"""Does the expectation of an edit come true on held-out rows? Both demos, as Markdown.

    python -m tests.benchmarks.expectation_study predict                       # no model but the tokenizer
    python -m tests.benchmarks.expectation_study compare                       # with what DEMO_REPORT.md measured
    python -m tests.benchmarks.expectation_study measure kinship arithmetic    # > tests/benchmarks/EXPECTATION_REPORT.md
    python -m tests.benchmarks.expectation_study slices kinship arithmetic     # after `measure`, with its --scores

41 edits an adapter: policies, step sizes, strengths, scopes, energy rules, gains by hand, controls. Each is expected
from the 128 calibration rows that ship with the demo and measured, loss only, on rows of its test slice. Every
measured change is kept in `--scores`, so that a stopped run goes on where it was. Nothing was chosen on these rows.

One calibration slice is one draw that all edits share. `slices` therefore expects the same measured edits from other
draws: eight slices of 128 confirmation rows each, none of which has shaped an edit.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from surgery import decompose, open_adapter
from surgery.adapter import Adapter, in_scope
from surgery.data import Calibration, planned_rows
from surgery.edits import Edit, EditPlan, Expectation, expected, expected_of_edit
from surgery.experiments import measure_edits, random_controls, shape_controls, shuffled_gains
from surgery.model import LiveModel, attach
from surgery.policies import Identity, make_policy
from surgery.recipes import demo_plans
from surgery.sensitivity import Sensitivity, calibrate, calibration_slice, load_sensitivity, shipped_measurements
from surgery.spectra import Spectra

SOME = 6  # edits measured together
NINETY_FIVE = 1.96
SLICES, A_SLICE = 8, 128
TABLE = {
    "grad_direction 2/0.2": EditPlan(make_policy("grad_direction")),
    "grad_direction 0.2/0.2": EditPlan(make_policy("grad_direction", {"eta_suppress": 0.2, "eta_enhance": 0.2})),
    **{
        f"natural_gradient {eta}/{damping}": EditPlan(
            make_policy("natural_gradient", {"eta": eta, "damping": damping}), energy="none"
        )
        for eta, damping in ((0.1, 0.3), (0.3, 0.1), (0.3, 0.3), (0.1, 0.1))
    },
}


def plans(spectra: Spectra) -> dict[str, EditPlan]:
    """The edits that a plan makes, by what the report calls them."""
    found = dict(TABLE)
    direction, natural = found["grad_direction 2/0.2"], found["natural_gradient 0.1/0.3"]
    for suppress, enhance in ((1.0, 0.2), (0.5, 0.5), (4.0, 0.4)):
        policy = make_policy("grad_direction", {"eta_suppress": suppress, "eta_enhance": enhance})
        found[f"grad_direction {suppress:g}/{enhance:g}"] = replace(direction, policy=policy)
    for eta, damping in ((0.05, 0.3), (0.2, 0.3), (0.1, 1.0)):
        policy = make_policy("natural_gradient", {"eta": eta, "damping": damping})
        found[f"natural_gradient {eta}/{damping:g}"] = replace(natural, policy=policy)
    for strength in (0.5, 1.5):
        found[f"grad_direction 2/0.2, strength {strength}"] = replace(direction, strength=strength)
        found[f"natural_gradient 0.1/0.3, strength {strength}"] = replace(natural, strength=strength)
    found["grad_direction 0.2/0.2, no rule"] = replace(found["grad_direction 0.2/0.2"], energy="none")
    found["natural_gradient 0.1/0.3, l1"] = replace(natural, energy="l1")
    for scope in ("all", "attention-inputs"):
        found[f"grad_direction 0.2/0.2, {scope}"] = replace(found["grad_direction 0.2/0.2"], scope=scope)
        found[f"natural_gradient 0.1/0.3, {scope}"] = replace(natural, scope=scope)
    for name in ("abs_select", "smooth_abs", "double_smooth", "z_score", "robust_z"):
        found[name] = EditPlan(make_policy(name))
    found["abs_select, gates 2/0.5"] = EditPlan(make_policy("abs_select", {"amp": 2.0, "sup": 0.5}))
    found["rank 8"] = EditPlan(make_policy("rank"))
    found["rank 8 by sensitivity"] = EditPlan(make_policy("rank", {"by": "sensitivity"}))
    for gamma in (0.7, 0.9, 1.1):
        found[f"scale {gamma}"] = EditPlan(make_policy("scale", {"gamma": gamma}))
    return found | by_hand(spectra)


def by_hand(spectra: Spectra) -> dict[str, EditPlan]:
    """Gains that no policy gives: in every module of the scope, or in its last third."""
    names = in_scope(spectra, "residual")
    late = names[-len(names) // 3 :]
    hands = {
        "by hand: first component zeroed, late modules": {name: {0: 0.0} for name in late},
        "by hand: first component × 1.5": {name: {0: 1.5} for name in names},
        "by hand: last four zeroed": {
            n: dict.fromkeys(range(spectra[n].rank - 4, spectra[n].rank), 0.0) for n in names
        },
    }
    return {name: EditPlan(Identity(), energy="none", manual=gains) for name, gains in hands.items()}


@dataclass(frozen=True)
class Row:
    """One edit: what is expected of it, and what was measured, as mean and standard error."""

    name: str
    expected: Expectation
    measured: tuple[float, float]

    @property
    def straight(self) -> bool:
        """Whether the step is small enough for the expectation not to doubt its curvature."""
        return not any("bends" in doubt for doubt in self.expected.doubts)


class Study:
    """One demo adapter with the sensitivities that ship with it."""

    def __init__(self, demo: str, live: LiveModel) -> None:
        self.demo, self.live, self.spectra = demo, live, live.spectra
        (shipped,) = shipped_measurements(live.adapter.digest)
        self.sensitivity = with_tokens(load_sensitivity(shipped.file), calibration_of(demo, live))
        self.plans = plans(self.spectra)

    def edits(self) -> dict[str, Edit]:
        made = {name: plan.apply(self.spectra, self.sensitivity) for name, plan in self.plans.items()}
        return made | controls(made, self.spectra)

    def expected(self, edits: Mapping[str, Edit]) -> dict[str, Expectation]:
        found = {}
        for name, edit in edits.items():
            plan = self.plans.get(name)
            each = (
                expected(plan, self.spectra, self.sensitivity)
                if plan
                else expected_of_edit(edit, self.sensitivity)
            )
            assert each is not None
            found[name] = each
        return found

    def measured(self, edits: Mapping[str, Edit], rows: int, scores: "Scores") -> list[Row]:
        plan = replace(demo_plans(f"demo:{self.demo}")[1], data=f"demo:{self.demo}/test", examples=rows)
        slice_ = calibration_slice(self.live, plan)
        missing = [name for name in edits if scores.get(self.demo, rows, name) is None]
        for first in range(0, len(missing), SOME):
            began, some = time.monotonic(), missing[first : first + SOME]
            effects = measure_edits(self.live, {"test": slice_}, {name: edits[name] for name in some})["test"]
            for name, effect in effects.items():
                scores.put(self.demo, rows, name, (effect.mean, effect.standard_error))
            left = len(missing) - first - len(some)
            told = f"{self.demo}: {len(some)} edits in {time.monotonic() - began:.0f} s, {left} left"
            print(told, file=sys.stderr, flush=True)
        beside = self.expected(edits)
        return [Row(name, beside[name], scores.get(self.demo, rows, name) or (0.0, 0.0)) for name in edits]

    def slices(self, rows: int, scores: "Scores") -> Iterator[list[Row]]:
        """The measured edits as each slice of other rows expects them."""
        plan = replace(
            demo_plans(f"demo:{self.demo}")[1], data=f"demo:{self.demo}/confirmation", examples=SLICES * A_SLICE
        )
        whole = calibrate(self.live, plan)
        edits = {name: edit for name, edit in self.edits().items() if scores.get(self.demo, rows, name)}
        for first in range(0, SLICES * A_SLICE, A_SLICE):
            part = whole.of_rows(slice(first, first + A_SLICE))
            found = []
            for name, edit in edits.items():
                each, effect = expected_of_edit(edit, part), scores.get(self.demo, rows, name)
                assert each is not None
                assert effect is not None
                found.append(Row(name, each, effect))
            yield found


MEASURED = Path(__file__).with_name("DEMO_REPORT.md")


def published(study: Study) -> list[Row]:
    """The edits of DEMO_REPORT.md, with what was measured there on 512 test rows."""
    named = {
        "grad_direction": TABLE["grad_direction 2/0.2"],
        "grad_direction 0.2/0.2": TABLE["grad_direction 0.2/0.2"],
        "natural_gradient": TABLE["natural_gradient 0.1/0.3"],
        **{name: EditPlan(make_policy(name)) for name in ("smooth_abs", "abs_select", "double_smooth", "z_score")},
        "robust_z": EditPlan(make_policy("robust_z")),
        "rank": EditPlan(make_policy("rank"), energy="l1"),
    }
    _, _, section = MEASURED.read_text(encoding="utf-8").partition(f"## `demo:{study.demo}`")
    found = []
    for name, plan in named.items():
        line = next(line for line in section.splitlines() if line.startswith(f"| {name} |"))
        mean, error = (float(part) for part in line.split("|")[2].split("±"))
        each = expected(plan, study.spectra, study.sensitivity)
        assert each is not None
        found.append(Row(name, each, (mean, error)))
    return found


class Scores:
    """Measured changes by demo, rows and edit, kept in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def get(self, demo: str, rows: int, name: str) -> tuple[float, float] | None:
        found = self.kept.get(f"{demo} {rows} {name}")
        return None if found is None else (found[0], found[1])

    def put(self, demo: str, rows: int, name: str, effect: tuple[float, float]) -> None:
        self.kept[f"{demo} {rows} {name}"] = list(effect)
        self.file.write_text(json.dumps(self.kept, indent=1))


def controls(edits: Mapping[str, Edit], spectra: Spectra) -> dict[str, Edit]:
    direction, natural = edits["grad_direction 2/0.2"], edits["natural_gradient 0.1/0.3"]
    dealt = {
        f"shuffled gains of natural_gradient, {seed}": shuffled_gains(
            natural, energy="none", sigma_min=0.0, seed=seed
        )
        for seed in (0, 1)
    }
    # without the second moments of inputs: the scale to the same Frobenius norm
    scaled = shape_controls(direction, spectra, None, shape=False)
    return {
        **{f"{name}, of grad_direction": edit for name, edit in scaled.items()},
        **dealt,
        **random_controls(spectra, 2),
    }


def calibration_of(demo: str, live: LiveModel) -> Calibration:
    plan = demo_plans(f"demo:{demo}")[1]
    return live.encode(planned_rows(plan).rows, plan.encoding)


def with_tokens(sensitivity: Sensitivity, rows: Calibration) -> Sensitivity:
    """With the counts of answer tokens, which files of earlier versions lack."""
    if sensitivity.answer_tokens is not None:
        return sensitivity
    counts = np.array([len(example.answer_ids) for example in rows.examples[: sensitivity.examples]])
    return replace(sensitivity, answer_tokens=counts)


def predicted_table(study: Study) -> Iterator[str]:
    yield f"\n## `demo:{study.demo}`\n"
    yield "| edit | first order, same rows | linear | curvature | expected | 95 % |\n|---|---|---|---|---|---|"
    for name in TABLE:
        each = expected(study.plans[name], study.spectra, study.sensitivity)
        assert each is not None
        yield (
            f"| {name} | {each.first_order:+.4f} | {each.linear:+.4f} | {each.curvature:+.4f} | {each.mean:+.4f} | "
            f"{each.low:+.4f} … {each.high:+.4f} |"
        )


def report(demo: str, rows: list[Row]) -> Iterator[str]:
    yield f"\n## `demo:{demo}`: {len(rows)} edits\n"
    yield from agreement(rows)
    yield "\n| edit | first order | expected | 95 % | measured | within | doubts |\n|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: row.measured[0]):
        each, (mean, error) = row.expected, row.measured
        yield (
            f"| {row.name} | {each.first_order:+.4f} | {each.mean:+.4f} | {each.low:+.4f} … {each.high:+.4f} | "
            f"{mean:+.4f} ± {error:.4f} | {'yes' if inside(row) else 'no'} | {'; '.join(each.doubts)} |"
        )


def agreement(rows: list[Row]) -> Iterator[str]:
    """Slope through the origin, rank correlation and typical distance of both numbers; coverage of the band."""
    measured = np.array([row.measured[0] for row in rows])
    steps = np.array([row.straight for row in rows])
    yield "| number | edits | slope of measured on it | Spearman | median distance | sign right |\n|---|---|---|---|---|---|"
    for title, chosen in (("all", np.ones_like(steps)), ("curvature not doubted", steps)):
        for name, field in (("first order", "first_order"), ("expected", "mean")):
            told, seen = np.array([getattr(row.expected, field) for row in rows])[chosen], measured[chosen]
            yield (
                f"| {name} | {title}, {chosen.sum()} | {(told @ seen) / (told @ told):.2f} | "
                f"{spearmanr(told, seen).statistic:.2f} | {np.median(np.abs(told - seen)):.4f} | "
                f"{(np.sign(told) == np.sign(seen)).mean():.0%} |"
            )
    for title, chosen in (("all", np.ones_like(steps)), ("curvature not doubted", steps)):
        some = [row for row, keep in zip(rows, chosen, strict=True) if keep]
        alone = np.mean([row.expected.low <= row.measured[0] <= row.expected.high for row in some])
        yield (
            f"\nCoverage of the 95 % band, {title}: {np.mean([inside(row) for row in some]):.0%} with the error of what "
            f"was measured, {alone:.0%} alone."
        )


def coverage_of_slices(demo: str, slices: list[list[Row]]) -> Iterator[str]:
    """How often the band holds, slice by slice, and the slope of what was measured on what was expected."""
    yield f"\n## `demo:{demo}`: {len(slices[0])} edits, {SLICES} slices of {A_SLICE} rows that shaped none of them\n"
    yield "| slice | band holds | where the loss does not bend | slope | Spearman |\n|---|---|---|---|---|"
    every = [row for rows in slices for row in rows]
    for title, rows in [*((str(number), rows) for number, rows in enumerate(slices, 1)), ("all", every)]:
        told = np.array([row.expected.mean for row in rows])
        seen = np.array([row.measured[0] for row in rows])
        straight = [row for row in rows if row.straight]
        yield (
            f"| {title} | {np.mean([inside(row) for row in rows]):.0%} | {np.mean([inside(row) for row in straight]):.0%} "
            f"of {len(straight)} | {(told @ seen) / (told @ told):.2f} | {spearmanr(told, seen).statistic:.2f} |"
        )


def inside(row: Row) -> bool:
    """Whether measured and expected lie within 95 % of each other, given the errors of both."""
    apart = abs(row.measured[0] - row.expected.mean)
    return bool(apart <= NINETY_FIVE * np.hypot(row.measured[1], row.expected.standard_error))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("predict", "compare", "measure", "slices"))
    parser.add_argument("demos", nargs="*", default=["kinship", "arithmetic"])
    parser.add_argument("--rows", type=int, default=512, help="rows of the test slice")
    parser.add_argument("--scores", type=Path, default=Path("expectation_study.json"))
    options = parser.parse_args()
    if options.what == "measure":
        print("# Expected and measured\n")
        print(
            f"    python -m tests.benchmarks.expectation_study measure {' '.join(options.demos)} --rows {options.rows}\n"
        )
        print(
            f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, float32. Expected from 128 "
            f"calibration rows, measured on {options.rows} test rows; nats per answer token, ± one standard error. Within: "
            "closer than 1.96 errors of both."
        )
    for demo in options.demos:
        adapter: Adapter = open_adapter(f"demo:{demo}")
        with attach(adapter, decompose(adapter), demo_plans(f"demo:{demo}")[0]) as live:
            study = Study(demo, live)
            if options.what == "predict":
                print("\n".join(predicted_table(study)), flush=True)
                continue
            if options.what == "compare":
                print("\n".join(report(demo, published(study))), flush=True)
                continue
            if options.what == "slices":
                parts = list(study.slices(options.rows, Scores(options.scores)))
                print("\n".join(coverage_of_slices(demo, parts)), flush=True)
                continue
            rows = study.measured(study.edits(), options.rows, Scores(options.scores))
            print("\n".join(report(demo, rows)), flush=True)


if __name__ == "__main__":
    main()
