"""The model card of an exported adapter: what was changed, from what, and how to redo it."""

from surgery.adapter import Adapter
from surgery.data import SAMPLED
from surgery.edits import Edit, groups_text, summary
from surgery.export.layout import Layout
from surgery.export.peft_loading import PeftLoading
from surgery.policies import knob_values
from surgery.recipes import Recipe


def model_card(
    adapter: Adapter, recipe: Recipe, edit: Edit, loading: PeftLoading, layout: Layout | None = None
) -> str:
    """Markdown for the README.md of an exported folder; the same edit gives the same text.

    adapter: the original.
    recipe: what made the edit.
    edit: σ′ of the modules edited.
    loading: what PEFT applies of it.
    layout: of a smaller form; None for that of the original.
    """
    numbers = summary(edit)
    knobs = ", ".join(f"`{name}` {value}" for name, value in knob_values(recipe.edit.policy).items()) or "none"
    manual = sum(len(gains) for gains in recipe.edit.manual.values())
    skipped = "".join(f"- `{_plain(name)}`: {reason}\n" for name, reason in edit.skipped.items())
    # an edit at its whole strength has the card it always had
    strength = "" if recipe.edit.strength == 1 else f"| strength | {recipe.edit.strength:g} |\n"
    groups = _plain(groups_text(recipe.edit.groups), 600)
    base = _plain(adapter.base_name or recipe.base.location)
    changes = "".join(f"- {_plain(change, 600)}\n" for change in adapter.changes)
    return f"""---
library_name: peft
tags:
- lora
- spectral-surgery
---

# Edited LoRA adapter

The singular values of a trained LoRA adapter were reweighted; its directions are unchanged. {_form(layout)}{", except for:" if changes else "."}
{f"{chr(10)}{changes}" if changes else ""}
| | |
|---|---|
| base model | `{base}` |
| kind | {adapter.kind} |
| original adapter | `{_plain(recipe.adapter)}` (digest `{adapter.digest[:16]}`) |
| policy | `{recipe.edit.policy.name}` |
| knobs | {knobs} |
| scope | `{_plain(recipe.edit.scope)}`: {len(edit.modules)} modules, {edit.scalars} singular values |
| energy rule | `{recipe.edit.energy}`, Σσ′/Σσ = {numbers.nuclear_norm_ratio:.6f} |
{strength}{f"| gains of layer groups | {groups} |{chr(10)}" if groups else ""}| raised / lowered / zeroed | {numbers.raised} / {numbers.lowered} / {numbers.zeroed} |
| gains set by hand | {manual} |{_protected(recipe)}
{f"| they came about by | {_plain(recipe.origin, 600)} |{chr(10)}" if recipe.origin else ""}| loaded by PEFT | {_plain(str(loading), 600)} |

Redo it with `python -m surgery run recipe.yaml`.
{f"{chr(10)}Modules left alone:{chr(10)}{chr(10)}{skipped}" if skipped else ""}"""


def _form(layout: Layout | None) -> str:
    if layout is None:
        return "It\nloads like the original, with the same config, tensor names, shapes and dtypes"
    left = [f"{name} is left out" for name in layout.left_out[:3]]
    if len(layout.left_out) > 3:
        left = [f"{len(layout.left_out)} modules of which nothing is left are left out"]
    ranks = (
        f"one rank, {layout.largest}"
        if layout.padded
        else f"a rank of its own in each module, {layout.largest} at most"
    )
    return (
        f"Its\nfactors are smaller by {layout.saved:.1%} ({layout.parameters:,} of {layout.before:,} numbers), with "
        f"{ranks}{'; ' + _plain('; '.join(left), 400) if left else ''}. Dtypes and all other tensors are the original's"
    )


def _protected(recipe: Recipe) -> str:
    """A row of the card on the slices that the edit was not to hurt; empty where it looked at none."""
    if not recipe.edit.needs_protected:
        return ""
    how = "what hurts them taken out of the step" if recipe.edit.protect else "weighed by the policy"
    slices = ", ".join(
        f"`{_plain(plan.data)}` ({plan.examples} rows{', without answers' if plan.labels == SAMPLED else ''})"
        for plan in recipe.protected
    )
    return f"\n| protected slices | {slices}: {how} |"


def _plain(text: str, longest: int = 200) -> str:
    """File-derived text inside a code span or a line: no backticks, pipes or line breaks."""
    return "".join(c for c in text if c.isprintable() and c not in "`|<>")[:longest]
