"""What an edit does to the largest singular value of each module: where a rule holds a norm, that value may pay for it.

A truncation to one component under the rule `l1` puts the sum of all σ into that one.
"""

from dataclasses import dataclass

from surgery.edits.edit import Edit


@dataclass(frozen=True)
class LargestValues:
    """σ′₁/σ₁ over the modules of an edit, from `least` to `most`; `module` is that of `most`, with σ₁ and σ′₁."""

    least: float
    most: float
    module: str
    before: float
    after: float


def largest_values(edit: Edit) -> LargestValues | None:
    """How the largest singular values of an edit's modules change; None where every update is zero."""
    tops = {name: (float(m.sigma.max()), float(m.sigma_after.max())) for name, m in edit.modules.items()}
    ratios = {name: after / before for name, (before, after) in tops.items() if before > 0}
    if not ratios:
        return None
    module = max(ratios, key=lambda name: ratios[name])
    return LargestValues(min(ratios.values()), ratios[module], module, *tops[module])


def largest_text(found: LargestValues, energy: str) -> str:
    """The change as one line; `energy` is the rule that stood."""
    under = "without an energy rule" if energy == "none" else f"under energy rule {energy}"
    span = f"×{found.least:.3g}" + (f" to ×{found.most:.3g}" if found.most > found.least else "")
    where = f", most in {found.module} ({found.before:.4g} to {found.after:.4g})" if found.most > 1 else ""
    return f"largest singular value of a module {span} {under}{where}"
