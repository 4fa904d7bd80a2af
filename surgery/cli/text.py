"""Records of results as text for a terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from surgery.cli.ledger_text import ledger_lines
from surgery.cli.smaller_text import cut_line
from surgery.data import Slice, left_out_text
from surgery.edits import (
    Edit,
    LargestValues,
    ModuleEdit,
    Preview,
    largest_text,
    largest_values,
    preview,
    summary,
)
from surgery.evaluation import EvaluationSummary, Metric, VariantMetrics, margin_verdicts, scale_or_shape
from surgery.experiments import EDIT, is_reserved
from surgery.export import PeftLoading, Verification
from surgery.files import without_nan
from surgery.sensitivity import Sensitivity, doubts

if TYPE_CHECKING:
    from surgery.runs import Run


def inspection_text(record: Mapping[str, Any]) -> str:
    """The `inspection` record as a table of modules under a summary."""
    families = ", ".join(f"{name} {count}" for name, count in record["families"].items())
    scopes = ", ".join(f"{name} {count:,}" for name, count in record["edited_scalars"].items())
    lines = [
        f"{record['kind']}: {record['modules']} modules in {record['layers']} layers: {families}",
        f"base {record['base']}, task {record['task']}, ranks {record['ranks']}, scalings {record['scalings']}, {record['dtypes']}",
        f"{record['parameters']:,} parameters, norm {record['norm']:.3f}",
        f"edited scalars by scope: {scopes}",
        *(cut_line(cut) for cut in record["cuts"]),
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


def sensitivity_record(
    sensitivity: Sensitivity, out: str, slice_: Slice, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """What was measured of a slice, and what is odd: `notes`, then what the losses say."""
    n = sensitivity.examples
    return {
        "out": out,
        "format": slice_.format,
        "examples": n,
        "dropped": sum(sensitivity.left_out.values()),
        "dropped_by_reason": dict(sensitivity.left_out),
        "first_unusable": slice_.problem,
        "modules": len(sensitivity.values),
        "components": sum(g.shape[1] for g in sensitivity.values.values()),
        "loss": float(sensitivity.losses.mean()),
        "loss_error": float(sensitivity.losses.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        "loss_without": float(sensitivity.without.mean()) if sensitivity.without.size else math.nan,
        "notes": [*notes, *doubts(sensitivity)],
    }


def sensitivity_text(record: Mapping[str, Any]) -> str:
    return (
        f"{record['components']:,} components of {record['modules']} modules measured on {record['examples']} "
        f"examples, calibration loss {record['loss']:.4f} ± {record['loss_error']:.4f}"
        + f"\nrows read as: {record['format']}"
        + (f"\n{left_out_text(record['dropped_by_reason'])}" if record["dropped"] else "")
        + (f" ({record['first_unusable']})" if record["first_unusable"] else "")
        + "".join(f"\nnote: {note}" for note in record["notes"])
        + f"\nwrote {record['out']}"
    )


def export_record(
    edit: Edit,
    energy: str,
    sensitivity: Sensitivity | None,
    verification: Verification,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What was written; `energy` is the rule under which the edit was made."""
    largest = largest_values(edit)
    return {
        "out": str(verification.folder),
        "modules": len(edit.modules),
        "edited_scalars": edit.scalars,
        **_preview_record(preview(edit, sensitivity) or summary(edit)),
        "energy": energy,
        "largest": None if largest is None else asdict(largest),
        "skipped": edit.skipped,
        "edited_tensors": verification.edited,
        "untouched_tensors": verification.untouched,
        "rounding": verification.rounding,
        "peft": peft_record(verification.loading),
        "notes": list(notes),
    }


def peft_record(loading: PeftLoading) -> dict[str, Any]:
    """How many modules PEFT applies, with the sentence that says so."""
    return {
        "applied": loading.applied,
        "modules": loading.modules,
        "base": loading.base,
        "ignored": list(loading.ignored),
        "text": str(loading),
    }


def _preview_record(numbers: Preview) -> dict[str, Any]:
    """The preview under the keys that the command line has always printed."""
    names = {
        "zeroed": "silenced",
        "nuclear_norm_ratio": "energy_kept",
        "nuclear_norm_moved": "energy_moved",
        "functional_energy_ratio": "functional_energy_kept",
    }
    return {names.get(name, name): value for name, value in asdict(numbers).items()}


def export_text(record: Mapping[str, Any]) -> str:
    lines = [
        f"{record['modules']} modules, {record['edited_scalars']:,} scalars: {record['raised']} raised, "
        f"{record['lowered']} lowered, {record['silenced']} zeroed; {record['energy_moved']:.1%} of the nuclear norm moved"
    ]
    if record["largest"] is not None:
        lines.append(largest_text(LargestValues(**record["largest"]), record["energy"]))
    if math.isfinite(record["functional_energy_kept"]):
        lines.append(
            f"kept: {record['energy_kept']:.1%} of the nuclear norm, "
            f"{record['functional_energy_kept']:.1%} of the functional energy E‖ΔWx‖²"
        )
    if math.isfinite(record["predicted"]):
        lines.append(
            f"predicted change of the calibration loss {record['predicted']:+.5f} ± {record['standard_error']:.5f}"
        )
    lines += [f"left alone: {name}: {reason}" for name, reason in record["skipped"].items()]
    lines += [f"note: {note}" for note in record["notes"]]
    lines.append(
        f"wrote {record['out']}: {record['edited_tensors']} tensors edited, {record['untouched_tensors']} "
        f"byte-equal, rounding {record['rounding']:.1e}"
    )
    lines.append(record["peft"]["text"])
    return "\n".join(lines)


def evaluation_text(summary: EvaluationSummary, of: str = "") -> str:
    """A summary as lines, one for each variant and metric."""
    lines = [
        f"{of}{summary.examples} examples; changes paired with the unedited adapter, 95 % intervals in brackets, "
        "p of McNemar's exact test corrected for all variants"
    ]
    for metric in summary.metrics:
        better = "higher" if metric.higher_is_better else "lower"
        lines.append(f"{metric.title}, {better} is better:")
        lines += [_variant_line(name, found, metric) for name, found in summary.variants.items()]
    margins = (f"Non-inferiority, {said}" for said in margin_verdicts(summary))
    lines += [*_task_lines(summary), *ledger_lines(summary), *scale_or_shape(summary), *margins, *summary.notes]
    return "\n".join(lines)


def _task_lines(summary: EvaluationSummary) -> list[str]:
    """A group's tasks and groups with what each variant scored on them, of the headline metric."""
    metric = summary.metrics[0]
    totals = {name: found.aggregates or {} for name, found in summary.variants.items()}
    tasks = [key for key in next(iter(totals.values()), {}) if key.endswith(f"/{metric.name}")]
    if not tasks:
        return []
    lines = [f"{metric.title} by task, {', '.join(totals)}:"]
    for key in tasks:
        scores = "  ".join(f"{own[key]:.4f}" for own in totals.values())
        lines.append(f"  {key.removesuffix(f'/{metric.name}'):<28} {scores}")
    return lines


def _variant_line(name: str, found: VariantMetrics, metric: Metric) -> str:
    key, digits = metric.name, metric.digits
    line = f"  {name:<28} {found.means[key]:.{digits}f}"
    if effect := found.changes.get(key):
        low, high = effect.low, effect.high
        line += f"  {effect.mean:+.{digits}f} ± {effect.standard_error:.{digits}f}"
        line += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
        line += "  within noise" if low <= 0 <= high else ""
    if test := found.tests.get(key):
        line += f"  gained {test.gained}, lost {test.lost}"
        line += f", p {test.holm:.3f}" if test.holm is not None else ""
    if rank := found.ranks.get(key):
        line += f"  beats {rank.beaten} of {rank.controls} random controls"
    if found.control_of:
        line += f"  control of {', '.join(found.control_of)}"
    return line


def run_record(run: "Run") -> dict[str, Any]:
    """A run of the history in one line of values; changes are those of its edits and of other adapters."""
    plan = run.plan
    record: dict[str, Any] = {
        "run": plan.key,
        "started": run.started.isoformat(timespec="seconds"),
        "adapter": plan.adapter,
        "base": plan.base.get("location"),
        "slice": plan.slice_name,
        "examples": plan.examples,
        "variants": list(plan.variants),
        "finished": run.finished,
        "shipped": run.shipped,
        "policies": {name: edit.get("policy") for name, edit in plan.edits.items()},
        "controls": {name: asdict(group) for name, group in plan.controls.items()},
        "unlike_controls": list(plan.unlike_controls),
    }
    if run.metrics is not None:
        record["changes"] = {
            name: {key: without_nan(asdict(effect)) for key, effect in found.changes.items()}
            for name, found in run.metrics.summary.variants.items()
            if name == EDIT or not is_reserved(name)
        }
    return record


def runs_text(runs: Sequence["Run"]) -> str:
    """The history as a table, newest first."""
    if not runs:
        return "no run has been kept yet"
    lines = [f"{'run':<24} {'started':<16} {'examples':>8} {'variants':>8}  slice, edits and their changes"]
    for run in runs:
        record = run_record(run)
        line = f"{record['run']:<24} {record['started'][:16]:<16} {record['examples']:>8} {len(record['variants']):>8}"
        line += f"  {record['slice']}" + ("; shipped with the demo" if run.shipped else "")
        for name, changes in record.get("changes", {}).items():
            told = ", ".join(f"{key} {_change(effect)}" for key, effect in changes.items())
            policy = record["policies"].get(name)
            line += f"; {name}{f' ({policy})' if policy else ''}: {told}"
        if unlike := record["unlike_controls"]:
            line += f"; random controls of another scope or energy rule than {', '.join(unlike)}"
        lines.append(line if run.finished else f"{line}; unfinished")
    return "\n".join(lines)


def _change(effect: Mapping[str, float | None]) -> str:
    """A change and its standard error, of which a single example has none."""
    mean, error = effect["mean"], effect["standard_error"]
    if mean is None:
        return "unknown"
    return f"{mean:+.4f}" + (f" ± {error:.4f}" if error is not None else "")


def printable(text: str) -> str:
    """Text without control characters: names from a file must not drive the terminal."""
    return "\n".join(
        line if line.isprintable() else "".join(filter(str.isprintable, line)) for line in text.split("\n")
    )
