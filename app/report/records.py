"""What was asked and how, what it ran on, and the digests by which all of it is found again."""

from collections.abc import Mapping
from typing import Any

from app.report.markup import element, facts, join, paragraphs, table
from app.report.material import Material, Part
from surgery.data import NearDuplicate
from surgery.evaluation import BASELINE


def question(material: Material) -> Part:
    """The slice or the task with its settings, the base, and near-duplicates that were allowed."""
    plan = material.run.plan
    asked = dict(plan.question)
    near = [NearDuplicate(**pair) for pair in asked.pop("near_duplicates", ())]
    inner = asked.pop("rows", None) or asked.pop("task", None) or {}
    parts = [
        facts(_flat(inner) | _flat(asked)),
        element("h3", "Base model"),
        facts(_flat(plan.base) | _flat(plan.settings)),
    ]
    if near:
        rows = (
            {
                "held-out": pair.held,
                "text": pair.held_text,
                "is like": pair.seen,
                "its text": pair.seen_text,
                "words in common": f"{pair.overlap:.0%}",
            }
            for pair in sorted(near, key=lambda pair: -pair.overlap)
        )
        parts += [element("h3", f"{len(near)} near-duplicates, allowed for this run"), table(rows, class_="texts")]
    return Part(join(parts))


def plans(material: Material) -> Part | None:
    """The plan of every edit that one made, and how the controls of each were drawn."""
    edits = material.run.plan.edits
    if not edits:
        return None
    rows = [
        {
            "variant": name,
            **{key: record.get(key) for key in ("policy", "scope", "energy")},
            "strength": f"{record.get('strength', 1.0):g}",
            "knobs": _line(record.get("knobs", {})),
            "set by hand": sum(map(len, record.get("manual", {}).values())),
        }
        for name, record in edits.items()
    ]
    return Part(table(rows, class_="numbers"))


def recipe(material: Material) -> Part | None:
    """The recipe as the run keeps it, and the command that redoes it."""
    text = material.run.recipe
    if text is None:
        return None
    told = paragraphs(
        ["Saved as recipe.yaml, this redoes the edit, and its proof where it names rows: surgery run recipe.yaml"],
        "small",
    )
    return Part(join([told, element("pre", element("code", text))]))


def environment(material: Material) -> Part:
    """Versions and machine."""
    found = material.run.environment
    return Part(facts(_flat(found)) if found else paragraphs(["The run does not say what it ran with."]))


def digests(material: Material) -> Part:
    """What identifies the adapter, the base, the examples, the answers and every variant's σ′."""
    plan, metrics = material.run.plan, material.run.metrics
    named = {
        "run": plan.key,
        "adapter": plan.adapter_digest,
        "base": plan.fingerprint,
        "examples as the model reads them": plan.asked,
        "edit": plan.edit or None,
        "samples.parquet": metrics.samples if metrics else None,
    }
    rows = [
        {"variant": name, "σ′": digest or "its own"} for name, digest in plan.variants.items() if name != BASELINE
    ]
    return Part(
        join(
            [facts(named), element("details", element("summary", "Every variant"), table(rows, class_="digests"))]
        )
    )


def _flat(record: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """A record of records as one list of names and values."""
    found: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name} ")
        else:
            found[f"{before}{name}".replace("_", " ")] = _line(value)
    return found


def _line(value: Any) -> str:
    """A value of a record on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_line(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_line, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None or value == "" else str(value)
