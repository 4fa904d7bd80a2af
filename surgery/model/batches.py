"""Padded batches of examples for teacher-forced passes, halved when memory runs out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS
from surgery.data import IGNORED, Example
from surgery.errors import DataError, RowsMixedError
from surgery.model.memory import is_out_of_memory, release
from surgery.model.ways import Layout

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """Padded tensors of shape (example, token) and the positions of the examples in the slice.

    `keep` is how many trailing positions are needed to score every answer token of a causal language model; for one
    from sequence to sequence the labels are a sequence of their own, and for a classifier one number, or one for
    each token. Without padding the model is given the ids alone, as it is for one row. `segments` are given to models
    that tell two texts apart; `pad_id` is the token of the padding.
    """

    indices: tuple[int, ...]
    input_ids: "torch.Tensor"
    attention_mask: "torch.Tensor"
    position_ids: "torch.Tensor"
    labels: "torch.Tensor"
    keep: int
    layout: Layout = "left"
    task: str = CAUSAL_LM
    segments: "torch.Tensor | None" = None
    pad_id: int = 0

    @property
    def inputs(self) -> "dict[str, torch.Tensor]":
        """What the model is given; an encoder counts its positions itself."""
        given = {"input_ids": self.input_ids}
        if self.layout not in ("equal", "single"):
            given["attention_mask"] = self.attention_mask
            if self.task == CAUSAL_LM:
                given["position_ids"] = self.position_ids
        if self.segments is not None:
            given["token_type_ids"] = self.segments
        return given


def run_batches(
    examples: Sequence[Example],
    batch_size: int,
    pad_id: int | None,
    step: Callable[[Batch], None],
    *,
    layout: Layout = "left",
    start: int = 0,
) -> None:
    """Work over examples in batches of similar length, longest first: memory peaks at once, padding is small.

    examples: encoded rows.
    batch_size: examples of a batch at most.
    pad_id: token of the padding; None for a model that names none, see `LoadedBase.padding`.
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
            indices = [i for i in indices if examples[i].lengths == examples[indices[0]].lengths]
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
    return sorted(range(len(examples)), key=lambda i: (-examples[i].length, examples[i].lengths, i))


def _fits(step: Callable[[Batch], None], batch: Batch) -> bool:
    """Whether the step went through; what it held is free again when this returns."""
    try:
        step(batch)
    except RowsMixedError:
        if len(batch.indices) == 1:
            raise
        return False
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    release()
    return False


def collate(
    examples: Sequence[Example],
    pad_id: int | None,
    *,
    indices: Sequence[int] | None = None,
    layout: Layout = "left",
) -> Batch:
    """A batch of examples of one task, padded to one length; positions count real tokens only.

    examples: encoded rows.
    pad_id: token of the padding; None for a model that names none, see `LoadedBase.padding`.
    indices: of the examples in the slice; counted from 0 where not given.
    layout: how they stand. Padding on the left aligns the ends, so the answers sit in the last few positions and
        the logits of everything before them need not be computed. Examples of one length need none.
    """
    chosen = tuple(indices) if indices is not None else tuple(range(len(examples)))
    return _COLLATED[examples[0].task](examples, pad_id, chosen, layout)


def _texts(examples: Sequence[Example], pad_id: int | None, indices: tuple[int, ...], layout: Layout) -> Batch:
    """Prompts and their answers as one sequence each."""
    ids, mask = _filled([example.prompt_ids + example.answer_ids for example in examples], pad_id or 0, layout)
    scored = [(IGNORED,) * len(example.prompt_ids) + example.answer_ids for example in examples]
    labels, _ = _filled(scored, IGNORED, layout)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    first_answer = int((labels != IGNORED).int().argmax(1).min())
    return Batch(indices, ids, mask, positions, labels, ids.shape[1] - first_answer + 1, layout)


def _pairs(examples: Sequence[Example], pad_id: int | None, indices: tuple[int, ...], layout: Layout) -> Batch:
    """What the encoder reads and the labels of the decoder, whose padding always follows."""
    import torch

    ids, mask = _filled([example.prompt_ids for example in examples], pad_id or 0, layout)
    labels, _ = _filled([example.answer_ids for example in examples], IGNORED, "right")
    return Batch(indices, ids, mask, torch.zeros_like(ids), labels, labels.shape[1], layout, SEQ_2_SEQ_LM)


def _labelled(examples: Sequence[Example], pad_id: int | None, indices: tuple[int, ...], layout: Layout) -> Batch:
    """Texts with the number of their label, or of a tag for each token.

    A model that does not name its padding reads one text alone up to its last token, whatever that is; in a batch it
    has to be told which token is the padding, and none may end in it.
    """
    import torch

    if pad_id is None:
        ends = {example.prompt_ids[-1] for example in examples}
        pad_id = next(token for token in range(len(ends) + 1) if token not in ends)
    ids, mask = _filled([example.prompt_ids for example in examples], pad_id, layout)
    tags = examples[0].task == TOKEN_CLS
    labels, _ = _filled([example.answer_ids for example in examples], IGNORED, layout if tags else "right")
    told = any(example.segments for example in examples)
    segments = [example.segments or (0,) * example.length for example in examples]
    given = _filled(segments, 0, layout)[0] if told else None
    positions = torch.zeros_like(ids)
    return Batch(indices, ids, mask, positions, labels, ids.shape[1], layout, examples[0].task, given, pad_id)


def _filled(rows: Sequence[Sequence[int]], blank: int, layout: Layout) -> "tuple[torch.Tensor, torch.Tensor]":
    """Rows as one tensor, filled up to the longest, and 1 where a token is real."""
    import torch

    width = max(map(len, rows))
    ids = torch.full((len(rows), width), blank, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        begin = width - len(row) if layout == "left" else 0
        ids[i, begin : begin + len(row)] = torch.tensor(row)
        mask[i, begin : begin + len(row)] = 1
    return ids, mask


# how the examples of each task become a batch
_COLLATED: Mapping[str, Callable[[Sequence[Example], int | None, tuple[int, ...], Layout], Batch]] = {
    CAUSAL_LM: _texts,
    SEQ_2_SEQ_LM: _pairs,
    SEQ_CLS: _labelled,
    TOKEN_CLS: _labelled,
}
