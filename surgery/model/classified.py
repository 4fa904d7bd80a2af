"""What a classifier says of the examples of a batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.data import IGNORED
from surgery.model.loss import mean_answer_loss, scored_logits

if TYPE_CHECKING:
    from surgery.model.batches import Batch


@dataclass(frozen=True)
class Classified:
    """What a classifier says of one example.

    loss: cross-entropy of its label, or the mean over its tags, in nats.
    labels: the number of the likeliest label of the text, or of the tag of each word.
    """

    loss: float
    labels: tuple[int, ...]


def classified(model: Any, batch: "Batch") -> list[Classified]:
    """What a classifier says of every example of a batch; of equal logits the first label counts."""
    import torch

    with torch.inference_mode():
        logits, labels = scored_logits(model, batch)
        losses = mean_answer_loss(logits, labels).double().tolist()
        chosen, asked = logits.argmax(-1), labels != IGNORED
        said = [tuple(map(int, row[mask].tolist())) for row, mask in zip(chosen, asked, strict=True)]
    return [Classified(loss, own) for loss, own in zip(losses, said, strict=True)]
