"""Which spectrum edits raise exact match: chosen on tuning rows, confirmed once on rows that nothing has seen.

    python -m tests.benchmarks.exact_match_study choose     # the grid by expectation, the best of it on tuning rows
    python -m tests.benchmarks.exact_match_study confirm    # what was chosen, on the 1,024 confirmation rows
    python -m tests.benchmarks.exact_match_study budgets    # what is expected of 32 to 256 calibration rows, as CSV

Every score is kept in `--scores`, variant by variant, so that a stopped run goes on where it was. A variant takes about
a quarter of a second of one core for a row of kinship, half of that for one of arithmetic.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from surgery import Sensitivity, decompose, make_policy, open_adapter
from surgery.adapter import in_scope
from surgery.data import Calibration, choose, read_rows
from surgery.edits import Edit, EditPlan, expected, expected_of_edit
from surgery.evaluation import answered, holm, mcnemar, paired_effect
from surgery.experiments import (
    by_hand,
    control_of,
    flat_of,
    input_energies,
    moved_to,
    scalar_e,
    shape_only,
)
from surgery.files import data_file, demo_slice, digest
from surgery.model import LiveModel, VariantEngine, load_base
from surgery.recipes import demo_plans
from surgery.sensitivity import calibrate, load_sensitivity, measure_sensitivity, save_sensitivity

DEMOS = ("kinship", "arithmetic")
MOST = 256  # rows of a calibration slice
BOTH = 2 * MOST  # with the tuning slice's: of settings that were chosen before
ETAS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
DAMPINGS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0)
CONTROLS = {"Scalar-E": scalar_e, "ShapeOnly": shape_only}
BUDGETS = (32, 64, 128, 256)
CONFIRMED = 1024
Scores = Mapping[str, Mapping[str, Float64[ndarray, " example"]]]


@dataclass(frozen=True)
class Setting:
    """An edit, or a control of it: its plan, and the calibration rows that it reads.

    second: the step that follows from where the first one ends, measured there again on the same rows.
    """

    plan: EditPlan = EditPlan(make_policy("identity"), energy="none")
    rows: int = MOST
    control: str = ""
    second: EditPlan | None = None

    @property
    def label(self) -> str:
        knobs = ", ".join(f"{name} {value:g}" for name, value in _told(self.plan).items())
        named = f"{self.plan.policy.name} {knobs}".strip()
        if self.second is not None:
            named += ", then " + ", ".join(f"{name} {value:g}" for name, value in _told(self.second).items())
        edit = f"{named} ({self.plan.scope}, {self.plan.energy}, {self.rows} rows)"
        return f"{self.control} of {edit}" if self.control else edit


def _told(plan: EditPlan) -> dict[str, float]:
    if plan.policy.name != "natural_gradient":
        return {}  # at its defaults
    return {"eta": plan.policy.eta, "damping": plan.policy.damping}


UNEDITED = Setting(rows=0)


def natural(eta: float, damping: float, scope: str = "residual", rows: int = MOST, control: str = "") -> Setting:
    policy = make_policy("natural_gradient", {"eta": eta, "damping": damping})
    return Setting(EditPlan(policy, scope, "none"), rows, control)


def twice(first: Setting, eta: float, damping: float) -> Setting:
    """A second natural step after the first one."""
    return replace(first, second=natural(eta, damping, first.plan.scope).plan)


def usual(policy: str, rows: int = MOST) -> Setting:
    energy = "none" if policy == "natural_gradient" else "l1"
    return Setting(EditPlan(make_policy(policy), energy=energy), rows)


# measured on tuning rows: of both scopes some of the best by expectation, and the larger steps that earlier, throwaway
# looks at test rows pointed to
CANDIDATES = {
    "kinship": [
        natural(0.2, 0.2),
        natural(0.2, 0.1),
        natural(0.3, 0.2),
        natural(0.3, 0.1),
        natural(0.3, 0.3, "all"),
        natural(0.4, 0.5, "all"),
        natural(0.3, 0.1, "all"),
        natural(0.3, 0.3, "all", rows=128),
        *(twice(natural(0.2, 0.1), eta, damping) for eta, damping in ((0.1, 0.2), (0.1, 0.1), (0.2, 0.2))),
    ],
    "arithmetic": [natural(0.2, 0.3, "all"), natural(0.15, 0.1, "all"), natural(0.3, 0.3, "all")],
}
# of the most right answers on tuning rows; of equals the smaller step
CHOSEN = {"kinship": (0.2, 0.1, "residual"), "arithmetic": (0.15, 0.1, "all")}


# with the rows of both slices, whose tuning rows no longer choose anything: the chosen step again, and the step over
# all modules of the best expectation among those that were measured
WITH_BOTH = {"kinship": [(0.2, 0.1, "residual"), (0.4, 0.5, "all")], "arithmetic": [(0.15, 0.1, "all")]}


def to_confirm(demo: str) -> list[Setting]:
    """What is shown of a demo, all of it corrected together; fixed before a confirmation row was asked but for the first."""
    chosen = natural(*CHOSEN[demo])
    return [
        chosen,
        *(replace(chosen, control=control) for control in CONTROLS),
        *(natural(*step, rows=BOTH) for step in WITH_BOTH[demo]),
        replace(chosen, rows=MOST // 2),
        usual("grad_direction"),
        *([twice(chosen, 0.1, 0.1)] if demo == "kinship" else []),
    ]


class Bench:
    """One demo: its sensitivities, and the scores of settings on slices of its rows, each computed once."""

    def __init__(self, demo: str, file: Path) -> None:
        self.demo, self._file = demo, file
        self.adapter = open_adapter(f"demo:{demo}")
        self.spectra = decompose(self.adapter)
        self.base, self._plan, self._evaluation = demo_plans(f"demo:{demo}")

    @cached_property
    def live(self) -> LiveModel:
        return LiveModel(load_base(self.base.location), self.adapter, self.spectra)

    def first(self, rows: int) -> Sensitivity:
        """The sensitivities of the first calibration rows, or of all of them and the tuning rows."""
        if rows <= MOST:
            return self.sensitivity().head(rows)
        own, more = self.sensitivity(), self.sensitivity("tuning")
        assert own.answer_tokens is not None
        assert more.answer_tokens is not None
        return replace(
            own,
            values={name: np.concatenate([g, more.values[name]]) for name, g in own.values.items()},
            losses=np.concatenate([own.losses, more.losses]),
            without=np.concatenate([own.without, more.without]),
            answer_tokens=np.concatenate([own.answer_tokens, more.answer_tokens]),
        )

    @cache  # noqa: B019 (two benches a run)
    def sensitivity(self, part: str = "calibration") -> Sensitivity:
        plan = replace(self._plan, data=demo_slice(f"demo:{self.demo}", part), examples=MOST)
        return calibrate(self.live, plan, base=self.base)

    def slice_(self, part: str, count: int) -> Calibration:
        rows = read_rows(data_file(demo_slice(f"demo:{self.demo}", part)))
        return self.live.encode(choose(rows, count, seed=None), self._evaluation.encoding)

    def edit(self, setting: Setting) -> Edit:
        few = self.first(setting.rows) if setting.rows else None
        edit = setting.plan.apply(self.spectra, few)
        if setting.second is not None:
            start = moved_to(self.spectra, edit)
            after = setting.second.apply(start, self.measured_at(setting)).sigma_after
            edit = by_hand(self.spectra, after, setting.plan.scope).apply(self.spectra, None)
        if not setting.control:
            return edit
        flat = flat_of(edit, self.spectra, input_energies(self.sensitivity()))
        return control_of(edit, CONTROLS[setting.control], flat)

    def measured_at(self, setting: Setting) -> Sensitivity:
        """The sensitivities of the calibration rows where the first step ends, kept beside the scores."""
        first = replace(setting, second=None, control="")
        file = self._file.with_name(f"{digest([self.demo, first.label])[:16]}.safetensors")
        if not file.is_file():
            rows, names = self.slice_("calibration", setting.rows), in_scope(self.spectra, setting.plan.scope)
            sigma = first.plan.apply(self.spectra, self.first(setting.rows)).sigma_after
            save_sensitivity(measure_sensitivity(self.live, rows, names, sigma=sigma), file)
        return load_sensitivity(file)

    def run(self, part: str, count: int, settings: Iterable[Setting]) -> None:
        """Score what has no scores yet, the unedited adapter too, one variant after the other."""
        for setting in (UNEDITED, *settings):
            known = self._known()
            if self._key(part, count, setting) in known:
                continue
            engine = VariantEngine(self.live, {"it": self.edit(setting).sigma_after})
            found = answered(self.slice_(part, count).examples, engine, self.live.base.tokenizer).scores["it"]
            known[self._key(part, count, setting)] = {"loss": found.loss.tolist(), "exact": found.exact.tolist()}
            self._file.write_text(json.dumps(known))
            print(f"{self._key(part, count, setting)}: done", file=sys.stderr, flush=True)

    def scores(self, part: str, count: int, settings: Iterable[Setting]) -> Scores:
        """Loss and exact match by label, of all settings that were scored; the unedited adapter first."""
        known = self._known()
        keys = {each.label: self._key(part, count, each) for each in (UNEDITED, *settings)}
        return {
            label: {of: np.array(known[key][of]) for of in ("loss", "exact")}
            for label, key in keys.items()
            if key in known
        }

    def _known(self) -> dict[str, Any]:
        return json.loads(self._file.read_text()) if self._file.is_file() else {}

    def _key(self, part: str, count: int, setting: Setting) -> str:
        return f"{self.demo}/{part} {count} | {setting.label}"


def grid(bench: Bench, count: int = 3) -> Iterator[str]:
    """The settings of best expectation, of each scope and number of calibration rows, as Markdown."""
    yield "| scope, rows | η / damping | expected Δ loss, cross-fitted | first order, same rows |"
    yield "|---|---|---|---|"
    for scope in ("residual", "all"):
        for rows in (128, MOST, BOTH):
            few = bench.first(rows)
            found = []
            for damping in DAMPINGS:
                for eta in ETAS:
                    each = expected(natural(eta, damping, scope, rows).plan, bench.spectra, few)
                    assert each is not None
                    found.append((each.mean, eta, damping, each))
            for _, eta, damping, each in sorted(found, key=lambda one: one[0])[:count]:
                band = f"{each.mean:+.4f} ({each.low:+.4f} … {each.high:+.4f})"
                yield f"| {scope}, {rows} | {eta:g} / {damping:g} | {band} | {each.first_order:+.4f} |"


def table(scores: Scores) -> Iterator[str]:
    """Changes against the unedited adapter, paired by row; McNemar's exact p, Holm over all that is shown."""
    unedited = scores[UNEDITED.label]
    shown = {label: score for label, score in scores.items() if label != UNEDITED.label}
    tests = {label: mcnemar(unedited["exact"], score["exact"]) for label, score in shown.items()}
    corrected = holm({label: test.p for label, test in tests.items()})
    yield "| variant | Δ loss | Δ exact match, points | gained, lost | p | p, Holm |"
    yield "|---|---|---|---|---|---|"
    for label, score in shown.items():
        loss, exact = (paired_effect(unedited[of], score[of]) for of in ("loss", "exact"))
        test = tests[label]
        yield (
            f"| {label} | {loss.mean:+.4f} ± {loss.standard_error:.4f} | {100 * exact.mean:+.1f} ± "
            f"{100 * exact.standard_error:.1f} | {test.gained}, {test.lost} | {test.p:.1e} | {corrected[label]:.1e} |"
        )


def heading(demo: str, part: str, scores: Scores) -> str:
    unedited = scores[UNEDITED.label]
    return (
        f"\n### `demo:{demo}`, {unedited['loss'].size:,} {part} rows\n\nUnedited: loss {unedited['loss'].mean():.4f}, "
        f"exact match {100 * unedited['exact'].mean():.1f} %.\n"
    )


def budgets(benches: Iterable[Bench]) -> Iterator[str]:
    """CSV: what is expected of calibrating on the first rows, cross-fitted, and foretold on tuning rows with curvature."""
    yield "demo,policy,rows,expected,low,high,foretold_tuning,foretold_low,foretold_high,first_order"
    for bench in benches:
        for policy in ("natural_gradient", "grad_direction"):
            for rows in BUDGETS:
                setting, few = usual(policy, rows), bench.sensitivity().head(rows)
                own = expected(setting.plan, bench.spectra, few)
                held = expected_of_edit(bench.edit(setting), bench.sensitivity("tuning"))
                assert own is not None
                assert held is not None
                numbers = (own.mean, own.low, own.high, held.mean, held.low, held.high, own.first_order)
                yield ",".join([bench.demo, policy, str(rows), *(f"{number:.6f}" for number in numbers)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("choose", "confirm", "budgets"))
    parser.add_argument("demos", nargs="*", default=DEMOS)
    parser.add_argument("--scores", type=Path, default=Path("exact_match_study.json"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="of what was scored already; runs no model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    benches = [Bench(demo, options.scores) for demo in options.demos]
    if options.stage == "budgets":
        print("\n".join(budgets(benches)))
        return
    part, count = ("tuning", MOST) if options.stage == "choose" else ("confirmation", CONFIRMED)
    for bench in benches:
        settings = CANDIDATES[bench.demo] if options.stage == "choose" else to_confirm(bench.demo)
        if not options.report:
            bench.run(part, count, settings)
        scores = bench.scores(part, count, settings)
        print(heading(bench.demo, part, scores))
        if options.stage == "choose" and not options.report:
            print("\n".join(grid(bench)), end="\n\n")
        print("\n".join(table(scores)))
    print(f"\n{options.threads} thread(s), {platform.machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
