"""How small may an adapter become? Every picker at a ladder of sizes, measured on test rows. Both demos, as Markdown.

    python tests/benchmarks/rank_study.py kinship arithmetic --rows 512 > tests/benchmarks/RANK_REPORT.md

Each picker keeps about the same shares of the factors' numbers, so that pickers can be compared size by size. The loss
is paired with the unedited adapter's row by row; a cut is not inferior where the one-sided 95 % bound of its change
lies below the margin that stands in the command, by default 0.005 nats per answer token. The smallest is found by
halving the ladder, as if a larger cut of the same picker never did worse. A cut whose mean change on the first
`--screen` rows lies two standard errors above the margin is given up there, which can only make a picker's smallest
larger. Pickers that read something read the 128 calibration rows that ship with the demo; nothing was chosen on these
test rows. The row losses of every cut are kept in `--scores`, so that a stopped run goes on where it was.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from surgery import decompose, open_adapter
from surgery.adapter import Adapter
from surgery.data import Calibration
from surgery.edits import Edit, EditPlan, activation_cuts, kept_in_sum
from surgery.evaluation import BASELINE, NOT_INFERIOR, Marking, NonInferiority, evaluate, non_inferiority
from surgery.export import Layout, Smaller, edited_layout, from_truncations, layout_of
from surgery.model import LiveModel, Variant, attach
from surgery.policies import Rank
from surgery.recipes import demo_plans
from surgery.sensitivity import calibration_slice, load_sensitivity, shipped_measurements
from surgery.spectra import Spectrum

SIZES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95)  # of the factors' numbers
SOME = 6  # cuts measured together
HALVINGS = 24
ACTIVATION = "activation-aware, directions turned"
PICKERS = {
    "σ², one threshold (ε-PARA)": Rank(cut="para"),
    "σ², energy of each module": Rank(cut="energy"),
    "σ², fixed rank": Rank(),
    "σ², effective rank": Rank(cut="effective"),
    "σ², knee": Rank(cut="knee"),
    "σ²q, one threshold": Rank(cut="para", by="functional"),
    "σ²q, energy of each module": Rank(cut="energy", by="functional"),
    "σ²q, fixed rank": Rank(by="functional"),
    "|σ·ḡ|, one threshold": Rank(cut="para", by="gradient"),
    "|σ·ḡ|, fixed rank (GRASP)": Rank(by="gradient"),
    "mean |g|, one threshold": Rank(cut="para", by="sensitivity"),
    ACTIVATION: Rank(cut="para"),
}


@dataclass(frozen=True)
class Cut:
    """One cut: what it keeps of the adapter; `edit` is None where its directions are its own, in `parts`."""

    picker: str
    layout: Layout
    share: str
    edit: Edit | None
    parts: Mapping[str, Spectrum]
    kept: str

    @property
    def size(self) -> float:
        return self.layout.parameters / self.layout.before

    @property
    def name(self) -> str:
        return f"{self.picker} {self.share}"


class Study:
    """One demo adapter with the sensitivities that ship with it."""

    def __init__(self, demo: str, live: LiveModel) -> None:
        self.demo, self.live = demo, live
        (shipped,) = shipped_measurements(live.adapter.digest)
        self.sensitivity = load_sensitivity(shipped.file)
        self.plan = replace(demo_plans(f"demo:{demo}")[1], data=f"demo:{demo}/test")

    def cut(self, picker: str, policy: Rank) -> Cut:
        adapter, spectra = self.live.adapter, self.live.spectra
        told = f"{policy.keep}" if policy.cut == "fixed" else f"{policy.share:.7g}"
        share = told if policy.cut in ("fixed", "para", "energy") else ""
        if picker == ACTIVATION:
            parts, _ = activation_cuts(spectra, self.sensitivity.inputs, policy, spectra)
            layout = layout_of(adapter, {name: part.rank for name, part in parts.items()}, Smaller())
            return Cut(picker, layout, share, None, parts, "")
        edit = EditPlan(policy, "all").apply(spectra, self.sensitivity)
        found = kept_in_sum(edit, self.sensitivity)
        kept = f"{found.energy:.1%}, {found.functional:.1%}"
        return Cut(picker, edited_layout(adapter, edit, Smaller()), share, edit, {}, kept)

    def ladder(self, picker: str, policy: Rank) -> list[Cut]:
        """The picker at every size, by bisection of its share; a fixed rank at that share of the rank."""
        if policy.cut not in ("fixed", "para", "energy"):
            return [self.cut(picker, policy)]
        rank = max(spectrum.rank for spectrum in self.live.spectra.values())
        if policy.cut == "fixed":
            ranks = sorted({max(1, round(size * rank)) for size in SIZES})
            return [self.cut(picker, replace(policy, keep=keep)) for keep in ranks]
        found = {}
        for size in SIZES:
            low, high = 0.0, 1.0
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                small = self.cut(picker, replace(policy, share=middle)).size <= size
                low, high = (middle, high) if small else (low, middle)
            cut = self.cut(picker, replace(policy, share=low))
            found[cut.layout.parameters] = cut
        return sorted(found.values(), key=lambda cut: cut.size)

    def measure(self, cuts: list[Cut], rows: int, scores: "Scores") -> None:
        """Losses of the unedited adapter and of every cut on the first rows, where they are not kept."""
        held = self._held(self.live, rows)
        missing = [cut for cut in cuts if self.key(cut.name, rows) not in scores.kept]
        turned = [cut for cut in missing if cut.edit is None]
        missing = [cut for cut in missing if cut.edit is not None]
        for first in range(0, len(missing), SOME):
            self._told(f"{len(missing) - first} cuts to measure on {rows} rows")
            some = missing[first : first + SOME]
            sigmas = {cut.name: cut.edit.sigma_after for cut in some if cut.edit is not None}
            self._score(held, sigmas, rows, scores)
        if self.key(BASELINE, rows) not in scores.kept:
            self._score(held, {}, rows, scores)
        for cut in turned:
            self._measure_alone(cut, rows, scores)

    def _measure_alone(self, cut: Cut, rows: int, scores: "Scores") -> None:
        """Losses of a cut that is no variant of the adapter: it runs as an adapter of its own, on the same rows."""
        self._told(f"{cut.name}, an adapter of its own, on {rows} rows")
        made = from_truncations(self.live.adapter, self.live.spectra, Edit({}), cut.parts, Smaller(0)).adapter
        with attach(made, decompose(made), demo_plans(f"demo:{self.demo}")[0]) as live:
            found = evaluate(live, self._held(live, rows), {}, marking=Marking(generate=False)).scores
        scores.put({self.key(cut.name, rows): found[BASELINE].loss.tolist()})

    def _held(self, live: LiveModel, rows: int) -> Calibration:
        return calibration_slice(live, replace(self.plan, examples=rows))

    def _score(self, held: Calibration, variants: Mapping[str, Variant], rows: int, scores: "Scores") -> None:
        found = evaluate(self.live, held, variants, marking=Marking(generate=False)).scores
        scores.put({self.key(name, rows): each.loss.tolist() for name, each in found.items()})

    def change(self, cut: Cut, rows: int, margin: float, scores: "Scores") -> "Change":
        """What the cut does to the loss of the first rows."""
        before, after = (np.array(scores.kept[self.key(name, rows)]) for name in (BASELINE, cut.name))
        return change(before, after, margin)

    def key(self, name: str, rows: int) -> str:
        return f"{self.demo} {rows} {name}"

    def _told(self, text: str) -> None:
        print(f"{self.demo}: {text}, {time.strftime('%H:%M:%S')}", file=sys.stderr, flush=True)


@dataclass
class Ladder:
    """The cuts of one picker by size: those below `low` are known to be too small, that at `high` is known to do."""

    cuts: list[Cut]
    low: int
    high: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    def told(self, enough: bool) -> None:
        """Whether the middle one is not inferior."""
        self.low, self.high = (self.low, self.middle) if enough else (self.middle + 1, self.high)


def narrowed(
    study: Study, ladders: list[Ladder], options: argparse.Namespace, scores: "Scores"
) -> "dict[str, Change]":
    """The measured cuts of all pickers, round by round: the middle of what is open of each."""
    found: dict[str, Change] = {}
    while open_ := [ladder for ladder in ladders if ladder.low < ladder.high]:
        cuts = [ladder.cuts[ladder.middle] for ladder in open_]
        study.measure(cuts, options.screen, scores)
        early = {cut.name: study.change(cut, options.screen, options.margin, scores) for cut in cuts}
        lost = {name for name, seen in early.items() if seen.mean - 2 * seen.error > options.margin}
        study.measure([cut for cut in cuts if cut.name not in lost], options.rows, scores)
        for ladder, cut in zip(open_, cuts, strict=True):
            gone = cut.name in lost
            seen = early[cut.name] if gone else study.change(cut, options.rows, options.margin, scores)
            found[cut.name] = seen
            ladder.told(not gone and seen.found.verdict == NOT_INFERIOR)
    return found


class Scores:
    """Row losses by demo, rows and cut, kept in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.kept: dict[str, list[float]] = json.loads(file.read_text()) if file.is_file() else {}

    def put(self, losses: Mapping[str, list[float]]) -> None:
        self.kept |= losses
        self.file.write_text(json.dumps(self.kept))


@dataclass(frozen=True)
class Change:
    """Paired change of the loss with its standard error, and whether it is within the margin."""

    rows: int
    mean: float
    error: float
    found: NonInferiority

    @property
    def bounds(self) -> str:
        """The 90 % interval of the change, more loss to the right."""
        return f"{-self.found.high:+.4f} … {-self.found.low:+.4f}"


def change(before: np.ndarray, after: np.ndarray, margin: float) -> Change:
    apart = after - before
    found = non_inferiority(before, after, margin, binary=False, higher_is_better=False)
    return Change(apart.size, float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(apart.size)), found)


def report(study: Study, cuts: list[Cut], changes: Mapping[str, Change], loss: float) -> Iterator[str]:
    yield f"\n## `demo:{study.demo}`\n"
    yield f"Unedited: loss {loss:.4f}, {cuts[0].layout.before:,} numbers in the factors.\n"
    yield "### The smallest that is not inferior, by picker\n"
    yield "| picker | share or rank | of the numbers | MB | largest rank | left out | Δ loss | bound |"
    yield "|---|---|---|---|---|---|---|---|"
    for picker in dict.fromkeys(cut.picker for cut in cuts):
        own = sorted((cut for cut in cuts if cut.picker == picker), key=lambda cut: cut.size)
        good = [c for c in own if c.name in changes and changes[c.name].found.verdict == NOT_INFERIOR]
        if not good:
            yield f"| {_cell(picker)} | none of {len(own)} | | | | | | |"
            continue
        small, found, lies = good[0], changes[good[0].name], good[0].layout
        yield (
            f"| {_cell(picker)} | {small.share} | {small.size:.1%} | {lies.bytes / 1e6:.2f} | {lies.largest} | "
            f"{len(lies.left_out)} | {found.mean:+.4f} ± {found.error:.4f} | {-found.found.low:+.4f} |"
        )
    yield "\n### All that were measured\n"
    yield "| picker | share or rank | of the numbers | kept of Σσ², Σσ²q | rows | Δ loss | 90 % | verdict |"
    yield "|---|---|---|---|---|---|---|---|"
    for cut in sorted(cuts, key=lambda cut: (cut.picker, cut.size)):
        if cut.name in changes:
            found = changes[cut.name]
            yield (
                f"| {_cell(cut.picker)} | {cut.share} | {cut.size:.1%} | {cut.kept} | {found.rows} | "
                f"{found.mean:+.4f} ± {found.error:.4f} | {found.bounds} | {found.found.verdict} |"
            )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demos", nargs="*", default=["kinship", "arithmetic"])
    parser.add_argument("--rows", type=int, default=512, help="rows of the test slice")
    parser.add_argument("--screen", type=int, default=64, help="rows on which a cut may be given up")
    parser.add_argument("--margin", type=float, default=0.005, help="nats per answer token, named before the run")
    parser.add_argument("--pickers", nargs="*", help="words in the names of the pickers to measure (default all)")
    parser.add_argument("--scores", type=Path, default=Path("rank_study.json"))
    options = parser.parse_args()
    wanted = {
        name: policy
        for name, policy in PICKERS.items()
        if not options.pickers or any(word in name for word in options.pickers)
    }
    print("# How small an adapter may become\n")
    print(f"    python tests/benchmarks/rank_study.py {' '.join(options.demos)} --rows {options.rows}\n")
    print(
        f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, float32. {options.rows} test "
        f"rows, margin {options.margin:g} nats per answer token; ± one standard error. MB are of the factors, in the dtype "
        f"of the file. A cut is given up on {options.screen} rows where its mean lies two standard errors above the margin. "
        "The smallest whose bound lies below the margin is told; sizes are looked at in turn, so the chance that any "
        "picker's smallest is one too small is above 5 %."
    )
    scores = Scores(options.scores)
    for demo in options.demos:
        adapter: Adapter = open_adapter(f"demo:{demo}")
        with attach(adapter, decompose(adapter), demo_plans(f"demo:{demo}")[0]) as live:
            study = Study(demo, live)
            ladders = [
                Ladder(cuts, 0, len(cuts))
                for name, policy in wanted.items()
                if (cuts := study.ladder(name, policy))
            ]
            found = narrowed(study, ladders, options, scores)
        loss = float(np.mean(scores.kept[study.key(BASELINE, options.rows)]))
        cuts = [cut for ladder in ladders for cut in ladder.cuts]
        print("\n".join(report(study, cuts, found, loss)), flush=True)


if __name__ == "__main__":
    main()
