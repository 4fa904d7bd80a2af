"""Results as JSON-ready records and as text, for the command line."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.calibration import left_out_text
from surgery.edit import Edit, ModuleEdit, preview, summary
from surgery.evaluate import BASELINE, Evaluation
from surgery.export import Verification
from surgery.sensitivity import Sensitivity

if TYPE_CHECKING:
    from surgery.benchmark import Benchmark


def inspection_text(record: Mapping[str, Any]) -> str:
    """The `inspection` record as a table of modules under a summary."""
    families = ", ".join(f"{name} {count}" for name, count in record["families"].items())
    scopes = ", ".join(f"{name} {count:,}" for name, count in record["edited_scalars"].items())
    lines = [
        f"{record['modules']} modules in {record['layers']} layers: {families}",
        f"base {record['base']}, ranks {record['ranks']}, scalings {record['scalings']}, {record['dtypes']}",
        f"{record['parameters']:,} parameters, norm {record['norm']:.3f}",
        f"edited scalars by scope: {scopes}",
        *(f"note: {note}" for note in record["notes"]),
        f"{'module':<44} {'rank':>4} {'scaling':>8} {'norm':>8} {'sigma 1':>8} {'eff. rank':>9}",
    ]
    lines += [
        f"{f['name']:<44} {f['rank']:>4} {f['scaling']:>8.3g} {f['norm']:>8.3f} {f['top']:>8.3f} "
        f"{f['effective_rank']:>9.2f}"
        for f in record["details"]
    ]
    return "\n".join(lines)


def gains_record(edited: ModuleEdit) -> dict[str, Any]:
    record: dict[str, Any] = {"gains": edited.gains.tolist(), "sigma": edited.sigma_after.tolist()}
    return record | ({"skipped": edited.skipped} if edited.skipped else {})


def gains_text(edited: ModuleEdit) -> str:
    lines = [f"{'k':>3} {'sigma':>12} {'gain':>12} {'new sigma':>12}"]
    rows = zip(edited.sigma, edited.gains, edited.sigma_after, strict=True)
    lines += [f"{k:>3} {a:>12.6g} {gain:>12.6g} {b:>12.6g}" for k, (a, gain, b) in enumerate(rows)]
    return "\n".join(lines + ([f"left alone: {edited.skipped}"] if edited.skipped else []))


def sensitivity_record(sensitivity: Sensitivity, out: str) -> dict[str, Any]:
    """What was measured, and how many rows were dropped by reason."""
    n = sensitivity.examples
    return {
        "out": out,
        "examples": n,
        "dropped": sum(sensitivity.left_out.values()),
        "dropped_by_reason": dict(sensitivity.left_out),
        "modules": len(sensitivity.values),
        "components": sum(g.shape[1] for g in sensitivity.values.values()),
        "loss": float(sensitivity.losses.mean()),
        "loss_error": float(sensitivity.losses.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
    }


def sensitivity_text(record: Mapping[str, Any]) -> str:
    return (
        f"{record['components']:,} components of {record['modules']} modules measured on {record['examples']} "
        f"examples, calibration loss {record['loss']:.4f} ± {record['loss_error']:.4f}"
        + (f"\n{left_out_text(record['dropped_by_reason'])}" if record["dropped"] else "")
        + f"\nwrote {record['out']}"
    )


def export_record(edit: Edit, sensitivity: Sensitivity | None, verification: Verification) -> dict[str, Any]:
    return {
        "out": str(verification.folder),
        "modules": len(edit.modules),
        "edited_scalars": edit.scalars,
        **asdict(preview(edit, sensitivity) or summary(edit)),
        "skipped": edit.skipped,
        "edited_tensors": verification.edited,
        "untouched_tensors": verification.untouched,
        "rounding": verification.rounding,
    }


def export_text(record: Mapping[str, Any]) -> str:
    lines = [
        f"{record['modules']} modules, {record['edited_scalars']:,} scalars: {record['raised']} raised, "
        f"{record['lowered']} lowered, {record['silenced']} silenced; {record['energy_moved']:.1%} of the energy moved"
    ]
    if math.isfinite(record["predicted"]):
        lines.append(
            f"predicted change of the calibration loss {record['predicted']:+.5f} ± {record['standard_error']:.5f}"
        )
    lines += [f"left alone: {name}: {reason}" for name, reason in record["skipped"].items()]
    lines.append(
        f"wrote {record['out']}: {record['edited_tensors']} tensors edited, {record['untouched_tensors']} "
        f"byte-equal, rounding {record['rounding']:.1e}"
    )
    return "\n".join(lines)


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    variants: dict[str, Any] = {}
    for name, scores in evaluation.scores.items():
        variants[name] = {"loss": float(scores.loss.mean()), "exact_match": float(scores.exact.mean())}
        if name != BASELINE:
            variants[name]["loss_change"] = asdict(evaluation.effect(name, "loss"))
            variants[name]["exact_match_change"] = asdict(evaluation.effect(name, "exact"))
    return {"examples": len(evaluation.examples), "baseline": BASELINE, "variants": variants}


def evaluation_text(record: Mapping[str, Any]) -> str:
    lines = [
        f"{record['examples']} examples; changes paired with the unedited adapter, 95 % intervals in brackets"
    ]
    for name, scores in record["variants"].items():
        line = f"{name:<18} loss {scores['loss']:.4f}  exact match {scores['exact_match']:.3f}"
        for label, digits in (("loss_change", 4), ("exact_match_change", 3)):
            effect = scores.get(label)
            if effect:
                line += (
                    f"  {label.replace('_', ' ')} {effect['mean']:+.{digits}f} ± {effect['standard_error']:.{digits}f}"
                    f" [{effect['low']:+.{digits}f}, {effect['high']:+.{digits}f}]"
                )
        lines.append(line)
    return "\n".join(lines)


def benchmark_text(found: "Benchmark") -> str:
    scores = found.scores
    better = "higher" if scores.higher_is_better else "lower"
    lines = [
        f"{scores.plan.name}, {len(scores.samples)} examples: {scores.metric}, {better} is better; changes paired with "
        "the unedited adapter, 95 % intervals in brackets, p corrected for all variants"
    ]
    for name in scores.values:
        line = f"{name:<18} {scores.numbers(name).mean():.4f}"
        if name in found.effects:
            effect = found.effects[name]
            line += f"  change {effect.mean:+.4f} ± {effect.standard_error:.4f} [{effect.low:+.4f}, {effect.high:+.4f}]"
            line += "" if effect.certain else "  within noise"
        if name in found.tests:
            test = found.tests[name]
            line += f"  gained {test.gained}, lost {test.lost}, p {found.adjusted[name]:.3f}"
        lines.append(line)
    return "\n".join([*lines, *scores.notes])


def progress_reporter() -> Callable[[str, int, int], None]:
    """Progress on standard error: one line a step, rewritten in place on a terminal."""
    terminal = sys.stderr.isatty()
    shown: tuple[str, int] | None = None

    def report(step: str, done: int, total: int) -> None:
        nonlocal shown
        mark = (step, 10 * done // max(total, 1))
        if terminal:
            end = "\n" if done == total else ""
            print(f"\r{step}: {done}/{total}\033[K", end=end, file=sys.stderr, flush=True)
        elif mark != shown:
            print(f"{step}: {done}/{total}", file=sys.stderr, flush=True)
        shown = mark

    return report


def printable(text: str) -> str:
    """Text without control characters: names from a file must not drive the terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


def without_nan(value: Any) -> Any:
    """NaN and numpy scalars as JSON can hold them: NaN becomes null."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
