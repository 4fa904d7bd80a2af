"""KL divergence per token between variants of one model on the same text, and the text's cross-entropy, in nats.

At every label, KL(p ‖ q) = Σᵥ p(v)·(log p(v) − log q(v)) over the whole vocabulary, from logits as the model gives
them and summed in float64: between an adapter and a careful edit of it the terms cancel to far below what float32
resolves. It needs no right answers (PEFT's method comparison measures forgetting so since #2925).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from surgery.data import IGNORED
from surgery.model.loss import scored_logits
from surgery.model.queue import Slot

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.model.batches import Batch

_ENTRIES = 1 << 22  # logits that are float64 at once: 32 MiB a copy


@dataclass(frozen=True)
class Divergence:
    """What one variant says of one example, each a mean over its labels, in nats.

    cross_entropy: −log q of the labels.
    kl: KL(reference ‖ variant) for each reference, in the order in which they were named; never negative, and 0 of a
        variant from itself.
    """

    cross_entropy: float
    kl: tuple[float, ...]


class _Said(NamedTuple):
    """Logits (label, vocabulary) of one row and the labels (label) themselves."""

    logits: "Tensor"
    labels: "Tensor"


class Divergences:
    """Reads batches of rows of several variants, references before others; keeps what a reference said meanwhile.

    model: the live one.
    references: variants that the others are measured from, by number.
    variants: how many there are; after so many rows of a task nothing is kept of it.
    """

    def __init__(self, model: Any, references: Sequence[int], variants: int) -> None:
        self._model, self._references, self._variants = model, tuple(references), variants
        self._kept: dict[Slot, _Said] = {}
        self._told: Counter[int] = Counter()

    def __call__(self, batch: "Batch", slots: Sequence[Slot]) -> list[tuple[Slot, Divergence]]:
        """What a batch settles: of its rows, which `slots` names, and of references whose task now has all of them."""
        import torch

        with torch.inference_mode():
            logits, labels = scored_logits(self._model, batch)
            counted = labels != IGNORED
            said = {
                slot: _Said(row[mask], own[mask])
                for slot, row, own, mask in zip(slots, logits, labels, counted, strict=True)
            }
            self._kept |= {slot: each for slot, each in said.items() if slot.variant in self._references}
            found = [
                (slot, divergence(each.logits, each.labels, references))
                for slot, each in said.items()
                if (references := self._of(slot.task)) is not None and slot.variant not in self._references
            ]
            for task in dict.fromkeys(slot.task for slot in slots):
                if self._told[task] == 0 and (references := self._of(task)) is not None:
                    own = (Slot(task, variant) for variant in self._references)
                    found += [(slot, divergence(*self._kept[slot], references)) for slot in own]
        self._let_go(found)
        return found

    def _of(self, task: int) -> "list[Tensor] | None":
        """What all references said of a task; None while one has not been read."""
        slots = [Slot(task, variant) for variant in self._references]
        return [self._kept[slot].logits for slot in slots] if all(slot in self._kept for slot in slots) else None

    def _let_go(self, found: Sequence[tuple[Slot, Divergence]]) -> None:
        self._told.update(slot.task for slot, _ in found)
        done = {slot.task for slot, _ in found if self._told[slot.task] == self._variants}
        self._kept = {slot: each for slot, each in self._kept.items() if slot.task not in done}


def divergence(logits: "Tensor", labels: "Tensor", references: Sequence["Tensor"]) -> Divergence:
    """Cross-entropy of the labels and KL from each reference, of one example.

    logits, references: (label, vocabulary), in any precision; labels: (label).
    """
    at_once = max(1, _ENTRIES // logits.shape[-1])
    loss, kl = 0.0, [0.0] * len(references)
    for begin in range(0, len(labels), at_once):
        some = slice(begin, begin + at_once)
        own = logits[some].double().log_softmax(-1)
        loss -= float(own.gather(-1, labels[some, None]).sum())
        for place, reference in enumerate(references):
            log_p = reference[some].double().log_softmax(-1)
            p = log_p.exp()
            # a token that the reference rules out adds nothing, whatever the variant says of it
            terms = (p * (log_p - own)).masked_fill_(p == 0, 0.0)
            kl[place] += float(terms.sum())
    # it is at least 0; below is the rounding of the last digits
    return Divergence(loss / len(labels), tuple(max(0.0, each / len(labels)) for each in kl))
