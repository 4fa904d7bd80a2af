"""Does the sensitivity rank what ablation confirms? Both demos, as Markdown.

    python -m tests.benchmarks.ablation_study --rows 64 --slopes 512 > tests/benchmarks/ABLATION_REPORT.md

The twenty components of the residual writers with the largest |ḡₖσₖ|, and twenty random ones of the others, are zeroed
one by one. Expected from the 128 calibration rows that ship with a demo, measured, loss only, on the first rows of its
test slice. Beside it what the measured rows' own sensitivities say: that asks whether a slope tells of a whole σ, and
leaves out whether one slice speaks for another. Where the slope does tell, `--slopes` rows ask that for the price of a
calibration. Losses and sensitivities are kept in `--scores` batch by batch, so that a study that `--seconds` cut off
goes on where it was; with `--seconds 0` it tells what is there. Nothing was chosen on these rows.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from surgery import decompose, open_adapter
from surgery.data import Calibration, planned_rows
from surgery.evaluation import Agreement, Effect, Estimate, paired_effect
from surgery.experiments import Ablation, ablated_losses, ablation_agreement, ablations, retold
from surgery.model import LiveModel, attach
from surgery.recipes import demo_plans
from surgery.sensitivity import calibration_slice, load_sensitivity, measure_sensitivity, shipped_measurements
from tests.benchmarks.expectation_study import with_tokens

DEMOS = ("kinship", "arithmetic")
AT_ONCE = 4  # rows between two writes of the scores
SLOPES_AT_ONCE = 32
FEWEST = 4  # rows, below which a table says nothing


@dataclass(frozen=True)
class Measured:
    """The components of a demo and the change of the loss of every row by zeroing each, in nats per answer token.

    `own` are the components as the measured rows themselves tell them.
    """

    chosen: tuple[Ablation, ...]
    own: tuple[Ablation, ...]
    changes: np.ndarray

    def of(self, kinds: Sequence[bool]) -> "Measured":
        at = [place for place, each in enumerate(self.chosen) if each.strongest in kinds]
        chosen, own = (tuple(each[place] for place in at) for each in (self.chosen, self.own))
        return Measured(chosen, own, self.changes[at])

    def effects(self) -> list[Effect]:
        return [paired_effect(np.zeros_like(row), row) for row in self.changes]


def components_of(demo: str, live: LiveModel, options: argparse.Namespace) -> tuple[Ablation, ...]:
    (shipped,) = shipped_measurements(live.adapter.digest)
    plan = demo_plans(f"demo:{demo}")[1]
    rows = live.encode(planned_rows(plan).rows, plan.encoding)
    sensitivity = with_tokens(load_sensitivity(shipped.file), rows)
    return ablations(live.spectra, sensitivity, options.scope, count=options.count, seed=options.seed)


Kept = dict[
    str, list[float]
]  # by variant its losses, by component its slopes and its curvature, rows in their order


def own_names(each: Ablation) -> tuple[str, str]:
    return f"{each.name}: slope", f"{each.name}: curvature"


def loss_names(chosen: Sequence[Ablation]) -> list[str]:
    return ["unedited", *(each.name for each in chosen)]


def slope_names(chosen: Sequence[Ablation]) -> list[str]:
    return [name for each in chosen for name in own_names(each)]


def rows_in(kept: Kept, names: Sequence[str]) -> int:
    return min(len(kept.get(name, ())) for name in names)


def measure(
    live: LiveModel, demo: str, chosen: Sequence[Ablation], kept: Kept, options: argparse.Namespace
) -> Iterator[None]:
    """Adds to what is kept, batch after batch of rows, until so many are there or the time is over."""
    plan = replace(
        demo_plans(f"demo:{demo}")[1], data=f"demo:{demo}/test", examples=max(options.rows, options.slopes)
    )
    slice_, until = calibration_slice(live, plan), time.monotonic() + options.seconds
    tasks = (
        ("slopes", slopes_of, slope_names(chosen), max(options.rows, options.slopes), SLOPES_AT_ONCE),
        ("losses", losses_of, loss_names(chosen), options.rows, AT_ONCE),
    )
    for title, of, names, wanted, size in tasks:
        while (done := rows_in(kept, names)) < wanted and time.monotonic() < until:
            began = time.monotonic()
            batch = replace(slice_, examples=slice_.examples[done : min(done + size, wanted)])
            for name, numbers in zip(names, of(live, batch, chosen), strict=True):
                kept[name] = [*kept.get(name, [])[:done], *numbers.tolist()]
            seconds = time.monotonic() - began
            told = f"{demo}: {title} of {rows_in(kept, names)} of {wanted} rows, the last in {seconds:.0f} s"
            print(told, file=sys.stderr, flush=True)
            yield


def losses_of(live: LiveModel, rows: Calibration, chosen: Sequence[Ablation]) -> list[np.ndarray]:
    return list(ablated_losses(live, rows, chosen, batch_size=AT_ONCE))


def slopes_of(live: LiveModel, rows: Calibration, chosen: Sequence[Ablation]) -> list[np.ndarray]:
    """What the rows' own sensitivities say of the components."""
    modules = list(dict.fromkeys(each.module for each in chosen))
    own = retold(chosen, live.spectra, measure_sensitivity(live, rows, modules))
    return [number for each in own for number in (each.linear, each.curvature)]


def measured(chosen: tuple[Ablation, ...], kept: Kept, rows: int) -> Measured:
    """By ablation, on the first rows."""
    count = min(rows, rows_in(kept, loss_names(chosen)), rows_in(kept, slope_names(chosen)))
    losses = {name: np.array(kept.get(name, [])[:count], dtype=np.float64) for name in loss_names(chosen)}
    changes = np.stack([losses[each.name] - losses["unedited"] for each in chosen])
    return Measured(chosen, own_of(chosen, kept, count), changes)


def by_slopes(chosen: tuple[Ablation, ...], kept: Kept) -> Measured:
    """By what the slopes of all rows say of zeroing, with the curvature."""
    own = own_of(chosen, kept, rows_in(kept, slope_names(chosen)))
    return Measured(chosen, own, np.stack([each.expected for each in own]))


def own_of(chosen: Sequence[Ablation], kept: Kept, rows: int) -> tuple[Ablation, ...]:
    found = []
    for each in chosen:
        linear, curvature = (np.array(kept.get(name, [])[:rows], dtype=np.float64) for name in own_names(each))
        found.append(replace(each, linear=linear, curvature=curvature))
    return tuple(found)


COLUMNS = (
    "| components | expected from | Spearman | ceiling | Pearson | slope | sign right | measured apart from 0 | "
    "halves: expected, measured |\n|---|---|---|---|---|---|---|---|---|"
)


def report(demo: str, found: Measured, slopes: Measured) -> Iterator[str]:
    rows = found.changes.shape[1]
    yield f"\n## `demo:{demo}`: {len(found.chosen)} components zeroed, {rows} test rows\n"
    if rows < FEWEST:
        yield "Too few rows were measured to tell."
    else:
        yield COLUMNS
        for label, group in groups(found):
            for name, paired in (("calibration rows", False), ("the same rows", True)):
                yield agreement_row(f"{label} | {name}, first order", group, curved=False, paired=paired)
                yield agreement_row(f"{label} | {name}, with curvature", group, curved=True, paired=paired)
        yield from harm(found.of((True,)))
    if slopes.changes.shape[1] >= FEWEST:
        yield f"\n### The same components by the slopes of {slopes.changes.shape[1]} test rows, in place of ablation\n"
        yield COLUMNS
        for label, group in groups(slopes):
            yield agreement_row(f"{label} | calibration rows, with curvature", group, curved=True, paired=False)
        yield from harm(slopes.of((True,)))
    if rows >= FEWEST:
        yield from components(found)


def groups(found: Measured) -> Iterator[tuple[str, Measured]]:
    for title, kinds in (("strongest", (True,)), ("random", (False,)), ("all", (True, False))):
        group = found.of(kinds)
        yield f"{title}, {len(group.chosen)}", group


def agreement_row(label: str, group: Measured, *, curved: bool, paired: bool) -> str:
    foretold = group.own if paired else group.chosen
    each: Agreement = ablation_agreement(foretold, group.changes, curved=curved, paired=paired)
    return (
        f"| {label} | {told(each.spearman)} | {each.ceiling:.2f} | {told(each.pearson)} | {told(each.slope)} | "
        f"{each.signs:.0%} | {each.clear} | {each.expected_reliability:.2f}, {each.measured_reliability:.2f} |"
    )


def told(each: Estimate) -> str:
    return f"{each.value:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"


def harm(strongest: Measured) -> Iterator[str]:
    """What became of the components that a person sees in red: zeroing them is expected to help."""
    red = [place for place, each in enumerate(strongest.chosen) if each.linear.mean() < 0]
    effects = [strongest.effects()[place] for place in red]
    helped, hurt = sum(each.high < 0 for each in effects), sum(each.low > 0 for each in effects)
    yield (
        f"\nOf the {len(red)} strongest that look harmful to first order, zeroing lowers the loss of {helped} and raises "
        f"that of {hurt} beyond noise (95 % over rows, not corrected for looking at all)."
    )


def components(found: Measured) -> Iterator[str]:
    yield (
        "\n| component | kind | first order | expected | from the same rows | measured | 95 % |\n"
        "|---|---|---|---|---|---|---|"
    )
    for each, own, effect in zip(found.chosen, found.own, found.effects(), strict=True):
        kind = "strongest" if each.strongest else "random"
        yield (
            f"| {each.name} | {kind} | {each.linear.mean():+.5f} | {each.expected.mean():+.5f} | "
            f"{own.expected.mean():+.5f} | {effect.mean:+.5f} ± "
            f"{effect.standard_error:.5f} | {effect.low:+.5f} … {effect.high:+.5f} |"
        )


def heading(options: argparse.Namespace) -> str:
    return (
        "# Expected and measured change of the loss of single components zeroed\n\n"
        f"    python -m tests.benchmarks.ablation_study {' '.join(options.demos)} --rows {options.rows} --slopes {options.slopes}\n\n"
        f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, float32, scope "
        f"{options.scope}. Nats per answer token, ± one standard error over rows. Intervals are 95 % percentile "
        "bootstraps over components and, on both sides, over rows: they cover the correlation at this much noise. "
        "Ceiling: the Spearman that a faultless expectation would reach, √(reliability of expected · of measured), from "
        "halves of the rows stepped up by Spearman–Brown; the same rows share their noise, so theirs is 1. Slope: of "
        "measured on expected, through the origin. In all, the strongest and the random ones are resampled apart. "
        "Nothing was chosen on these rows."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demos", nargs="*", default=list(DEMOS))
    parser.add_argument("--rows", type=int, default=64, help="of the test slice, on which components are zeroed")
    parser.add_argument("--slopes", type=int, default=512, help="rows whose slopes alone are measured")
    parser.add_argument("--count", type=int, default=20, help="components of each kind")
    parser.add_argument("--scope", default="residual")
    parser.add_argument("--seed", type=int, default=0, help="of the random components")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="for each demo at most, and the batch under way"
    )
    parser.add_argument("--scores", type=Path, default=Path("ablation_study.json"))
    options = parser.parse_args()
    known: dict[str, Any] = json.loads(options.scores.read_text()) if options.scores.is_file() else {}
    print(heading(options), flush=True)
    for demo in options.demos:
        adapter = open_adapter(f"demo:{demo}")
        kept: Kept = known.setdefault(demo, {})
        with attach(adapter, decompose(adapter), demo_plans(f"demo:{demo}")[0]) as live:
            chosen = components_of(demo, live, options)
            for _ in measure(live, demo, chosen, kept, options):
                options.scores.write_text(json.dumps(known))
        print("\n".join(report(demo, measured(chosen, kept, options.rows), by_slopes(chosen, kept))), flush=True)


if __name__ == "__main__":
    main()
