"""Padded batches of examples for teacher-forced passes, halved when memory runs out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.data import IGNORED, Example
from surgery.errors import DataError, RowsMixedError
from surgery.model.memory import is_out_of_memory, release
from surgery.model.ways import Layout

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """Padded tensors of shape (example, token) and the positions of the examples in the slice.

    `keep` is how many trailing positions are needed to score every answer token. Without padding the model is given
    the ids alone, as it is for one row.
    """

    indices: tuple[int, ...]
    input_ids: "torch.Tensor"
    attention_mask: "torch.Tensor"
    position_ids: "torch.Tensor"
    labels: "torch.Tensor"
    keep: int
    layout: Layout = "left"

    @property
    def inputs(self) -> "dict[str, torch.Tensor]":
        """What the model is given."""
        if self.layout in ("equal", "single"):
            return {"input_ids": self.input_ids}
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }


def run_batches(
    examples: Sequence[Example],
    batch_size: int,
    pad_id: int,
    step: Callable[[Batch], None],
    *,
    layout: Layout = "left",
    start: int = 0,
) -> None:
    """Work over examples in batches of similar length, longest first: memory peaks at once, padding is small.

    examples: encoded rows.
    batch_size: examples of a batch at most.
    pad_id: token of the padding.
    step: called with every batch; it must leave nothing behind when it fails.
    layout: how the examples of a batch stand.
    start: examples of `batch_order` passed over, because they were done before.

    When a step runs out of memory, or a layer cannot tell the rows apart, its batch is halved and the work
    goes on at the smaller size; a single example that does not fit raises `DataError`.
    """
    if batch_size < 1:
        raise DataError(f"a batch of {batch_size} was asked for", "use a batch of 1 or more")
    order = batch_order(examples)
    done, size = start, batch_size
    while done < len(order):
        indices = order[done : done + (1 if layout == "single" else size)]
        if layout == "equal":
            indices = [i for i in indices if examples[i].length == examples[indices[0]].length]
        batch = collate([examples[i] for i in indices], pad_id, indices=indices, layout=layout)
        if _fits(step, batch):
            done += len(indices)
        elif len(indices) > 1:
            size = len(indices) // 2
        else:
            raise DataError(
                f"one example of {examples[indices[0]].length} tokens does not fit into memory",
                "lower the length limit, switch gradient checkpointing on or use a smaller dtype",
            )


def batch_order(examples: Sequence[Example]) -> list[int]:
    """Positions of the examples in the order in which `run_batches` takes them."""
    return sorted(range(len(examples)), key=lambda i: (-examples[i].length, i))


def _fits(step: Callable[[Batch], None], batch: Batch) -> bool:
    """Whether the step went through; what it held is free again when this returns."""
    try:
        step(batch)
    except RowsMixedError:
        if len(batch.indices) == 1:
            raise
        return False
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    release()
    return False


def collate(
    examples: Sequence[Example],
    pad_id: int,
    *,
    indices: Sequence[int] | None = None,
    layout: Layout = "left",
) -> Batch:
    """A batch of prompts and answers, padded to one length; positions count real tokens only.

    examples: encoded rows.
    pad_id: token of the padding.
    indices: of the examples in the slice; counted from 0 where not given.
    layout: how they stand. Padding on the left aligns the ends, so the answers sit in the last few positions and
        the logits of everything before them need not be computed. Examples of one length need none.
    """
    import torch

    width = max(example.length for example in examples)
    ids = torch.full((len(examples), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for i, example in enumerate(examples):
        begin = width - example.length if layout != "right" else 0
        end = begin + example.length
        ids[i, begin:end] = torch.tensor(example.prompt_ids + example.answer_ids)
        mask[i, begin:end] = 1
        labels[i, end - len(example.answer_ids) : end] = torch.tensor(example.answer_ids)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    first_answer = int((labels != IGNORED).int().argmax(1).min())
    chosen = tuple(indices) if indices is not None else tuple(range(len(examples)))
    return Batch(chosen, ids, mask, positions, labels, width - first_answer + 1, layout)
