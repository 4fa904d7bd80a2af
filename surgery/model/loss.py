"""Mean cross-entropy over the answer tokens of each example, or of its label or tags."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.adapter import SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS
from surgery.data import IGNORED
from surgery.model.batches import Batch
from surgery.model.device_map import execution_device

if TYPE_CHECKING:
    from torch import Tensor


def answer_losses(model: Any, batch: Batch) -> "Tensor":
    """Mean cross-entropy over the answer tokens of each example, shape (example), in float32 or better."""
    return mean_answer_loss(*scored_logits(model, batch))


def measured_losses(model: Any, batch: Batch) -> list[float]:
    """`answer_losses` as numbers, without a graph for gradients."""
    import torch

    with torch.inference_mode():
        losses: list[float] = answer_losses(model, batch).double().tolist()
    return losses


def scored_logits(model: Any, batch: Batch) -> "tuple[Tensor, Tensor]":
    """Logits (example, token, vocabulary) before each label, and the labels (example, token) themselves.

    Of a causal language model they are computed only for the trailing positions that hold answers. The vocabulary of a
    classifier is its labels, of one for the whole text or one for each token.
    """
    device = execution_device(model)
    given = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
    if batch.task == SEQ_2_SEQ_LM:
        output = model(**given, **decoder_inputs(model, batch.labels.to(device)), use_cache=False)
        return output.logits, batch.labels.to(output.logits.device)
    if batch.task in (SEQ_CLS, TOKEN_CLS):
        with _named_padding(model, batch.pad_id):
            found: Tensor = model(**given).logits
        return found[:, None] if batch.task == SEQ_CLS else found, batch.labels.to(found.device)
    output = model(**given, use_cache=False, logits_to_keep=batch.keep)
    logits: Tensor = output.logits[:, -batch.keep : -1]
    return logits, batch.labels[:, -(batch.keep - 1) :].to(logits.device)


@contextmanager
def _named_padding(model: Any, pad_id: int) -> Iterator[None]:
    """Tell a model that names no padding which token it is: decoders look for the last token that is none."""
    config = model.config.get_text_config()
    named = config.pad_token_id
    config.pad_token_id = pad_id if named is None else named
    try:
        yield
    finally:
        config.pad_token_id = named


def decoder_inputs(model: Any, labels: "Tensor") -> "dict[str, Tensor]":
    """What the decoder of a sequence-to-sequence model is given for labels (example, token): shifted as it shifts them.

    Training gives them so where the model shows its shift; others shift the labels that they are given, and score them.
    """
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    return {"labels": labels} if shift is None else {"decoder_input_ids": shift(labels)}


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
