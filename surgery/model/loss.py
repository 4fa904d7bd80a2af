"""Mean cross-entropy over the answer tokens of each example."""

from typing import TYPE_CHECKING, Any

from surgery.data import IGNORED
from surgery.model.batches import Batch
from surgery.model.device_map import execution_device

if TYPE_CHECKING:
    from torch import Tensor


def answer_losses(model: Any, batch: Batch) -> "Tensor":
    """Mean cross-entropy over the answer tokens of each example, shape (example), in float32 or better.

    Logits are computed only for the trailing positions that hold answers.
    """

    device = execution_device(model)
    output = model(
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
        position_ids=batch.position_ids.to(device),
        use_cache=False,
        logits_to_keep=batch.keep,
    )
    labels = batch.labels[:, -(batch.keep - 1) :].to(device)
    return mean_answer_loss(output.logits[:, -batch.keep : -1], labels)


def mean_answer_loss(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Mean cross-entropy of (example, token, vocabulary) logits over the labels that count.

    Shape (example), in float32 or better. The vocabulary stays the last axis: along another one
    the sum over tens of thousands of entries drifts.
    """
    import torch

    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(labels).sum(dim=1) / (labels != IGNORED).sum(dim=1)


def padding_id(tokenizer: Any) -> int:
    """Any valid id will do, because padding is masked; prefer the tokenizer's own."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
