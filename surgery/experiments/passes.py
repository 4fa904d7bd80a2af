"""One question put to several groups of variants, one after the other, under one progress."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from surgery.evaluation import Evaluation, known_references
from surgery.experiments.question import PreparedQuestion
from surgery.model import Variant
from surgery.progress import Control
from surgery.runs import AnswerLog, LoggedEngine

if TYPE_CHECKING:
    from surgery.model import LiveModel


@dataclass
class Passes:
    """A question put to one group of variants after the other; `control` hears of all of them, `count` in number."""

    asked: PreparedQuestion
    log: AnswerLog
    control: Control
    count: int
    done: int = 0

    def put(
        self,
        live: "LiveModel",
        variants: Mapping[str, Variant | None],
        batch_size: int | None,
        *,
        beside: Mapping[str, Variant | None] = MappingProxyType({}),
    ) -> Evaluation:
        """What the variants answer; those of `beside` that KL is measured from run with them where it is asked for."""
        references = {name: beside[name] for name in known_references(tuple(beside))}
        engine = LoggedEngine(live, variants, self.log, batch_size=batch_size, beside=references)
        found = self.asked.put(engine, _share(self.control, self.done, len(variants), self.count))
        self.done += len(variants)
        return found


def _share(control: Control, before: int, own: int, variants: int) -> Control:
    """The control of a pass over `own` of the `variants`, which follows the pass over `before` others."""

    def among(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
        return lambda done, total: tell(total // own * before + done, total // own * variants)

    return replace(control, progress=among(control.progress), tokens=among(control.tokens))
