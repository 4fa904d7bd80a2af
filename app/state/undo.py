"""Undo, redo and a list to jump in: every plan an edit has been, and which of them is in force."""

from dataclasses import dataclass

from surgery.edits import EditPlan

_KEPT = 200


@dataclass(frozen=True)
class Step:
    """One plan and what a person did to come to it."""

    label: str
    plan: EditPlan


@dataclass(frozen=True)
class History:
    """Plans in the order they were made; never empty."""

    steps: tuple[Step, ...] = (Step("start", EditPlan()),)
    at: int = 0

    @property
    def present(self) -> EditPlan:
        return self.steps[self.at].plan

    @property
    def can_undo(self) -> bool:
        return self.at > 0

    @property
    def can_redo(self) -> bool:
        return self.at < len(self.steps) - 1

    def record(self, label: str, plan: EditPlan) -> "History":
        """A new plan after the present one; what was undone before is gone. The same plan changes nothing."""
        if plan == self.present:
            return self
        steps = (*self.steps[: self.at + 1], Step(label, plan))[-_KEPT:]
        return History(steps, len(steps) - 1)

    def jump(self, at: int) -> "History":
        """Another plan of the list in force; an index outside it stays at its end."""
        return History(self.steps, min(max(at, 0), len(self.steps) - 1))
