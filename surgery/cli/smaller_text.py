"""What the command line says of smaller files: what a cut would save, and what one kept, wrote and left out."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from surgery.export import Saving, Verification


def saving_record(saving: Saving) -> dict[str, Any]:
    ragged, padded = saving.ragged, saving.padded
    return {
        "share": saving.share,
        "parameters": ragged.parameters,
        "bytes": ragged.bytes,
        "saved": ragged.saved,
        "left_out": len(ragged.left_out),
        "largest_rank": ragged.largest,
        "padded_bytes": padded.bytes,
        "padded_saved": padded.saved,
    }


def cut_line(cut: Mapping[str, Any]) -> str:
    left = f", {cut['left_out']:,} modules left out" if cut["left_out"] else ""
    return (
        f"a cut at {cut['share']:.0%} of all σ² saves {cut['saved']:.1%}: {cut['bytes'] / 1e6:.2f} MB of factors at "
        f"ranks up to {cut['largest_rank']}{left}; padded to {cut['largest_rank']} {cut['padded_saved']:.1%}"
    )


def smaller_record(verification: Verification) -> dict[str, Any]:
    """How a smaller export lies in its file, and who serves it."""
    found = verification.layout
    if found is None:
        return {}
    return {
        "ranks": dict(found.ranks),
        "largest_rank": found.largest,
        "padded": found.padded,
        "left_out": list(found.left_out),
        "zeros": list(found.zeros),
        "parameters": found.parameters,
        "parameters_before": found.before,
        "bytes": found.bytes,
        "bytes_before": found.bytes_before,
        "served": list(verification.served),
    }


def smaller_text(record: Mapping[str, Any]) -> str:
    """What a `resize` kept, wrote and left out."""
    saved = 1 - record["bytes"] / record["bytes_before"]
    lines = [
        f"{record['parameters_before']:,} → {record['parameters']:,} parameters, "
        f"{record['bytes_before'] / 1e6:.2f} → {record['bytes'] / 1e6:.2f} MB of factors ({saved:.1%} saved), ranks "
        f"{_ranks_text(record['ranks'].values())}",
    ]
    if (kept := record["kept"].get("in_sum")) is not None:
        lines.append(f"kept {kept['kept']:,} of {kept['rank']:,} components: {_shares_text(kept)}")
    for name, told in (
        ("left_out", "left out"),
        ("zeros", "kept at rank 1 with a zero update, as PEFT makes it anyway"),
    ):
        if record[name]:
            rest = f" and {len(record[name]) - 3:,} more" if len(record[name]) > 3 else ""
            lines.append(f"{told}: {', '.join(record[name][:3])}{rest}")
    lines += [f"left alone: {name}: {reason}" for name, reason in record["skipped"].items()]
    lines += [f"note: {note}" for note in record["notes"]]
    lines.append(f"wrote {record['out']}: rounding {record['rounding']:.1e}")
    return "\n".join([*lines, record["peft"]["text"], *record["served"]])


def _ranks_text(ranks: Iterable[int]) -> str:
    low, *_, high = sorted((own := list(ranks)) + own)
    return f"{low}" if low == high else f"{low} to {high}"


def _shares_text(kept: Mapping[str, float]) -> str:
    functional = kept["functional"]
    return f"{kept['energy']:.2%} of Σσ²" + (
        f", {functional:.2%} of the functional energy E‖ΔWx‖²" if math.isfinite(functional) else ""
    )
