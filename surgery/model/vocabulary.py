"""The embeddings of a running model made to hold another vocabulary, as `resize_token_embeddings` would.

An adapter that was trained with added tokens holds the whole tables; the base model is shared by other
adapters, so each step here has a way back.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor, nn

from surgery.errors import BaseModelError

Undo = Callable[[], None]


def tables(model: Any) -> list[Any]:
    """The input and the output embedding of a model, as far as it says which they are."""
    found = []
    for name in ("get_input_embeddings", "get_output_embeddings"):
        with suppress(AttributeError, NotImplementedError):
            found.append(getattr(model, name)())
    return [table for table in found if isinstance(getattr(table, "weight", None), Tensor)]


def lengths(model: Any) -> list[int]:
    """How many tokens the input and the output embedding hold."""
    return [int(table.weight.shape[0]) for table in tables(model)]


def is_tied(model: Any) -> bool:
    """Whether input and output embedding are one tensor."""
    found = tables(model)
    return len(found) == 2 and found[0].weight is found[1].weight


def make_room(model: Any, owner: Any, leaf: str, rows: int) -> Iterator[Undo]:
    """Give the tensor `leaf` of an embedding `rows` empty rows where it has another number; other modules stay."""
    old = getattr(owner, leaf)
    if not any(owner is table for table in tables(model)) or len(old) == rows or old.device.type == "meta":
        return
    sizes = [(owner, name) for name in ("num_embeddings", "out_features") if hasattr(owner, name)]
    for holder, name in [*sizes, (model.config.get_text_config(decoder=True), "vocab_size")]:
        before = getattr(holder, name)
        setattr(holder, name, rows)
        yield partial(setattr, holder, name, before)
    setattr(owner, leaf, nn.Parameter(old.new_empty((rows, *old.shape[1:])), requires_grad=False))
    yield partial(setattr, owner, leaf, old)


def even_out(model: Any, before: list[int], *, shared: bool) -> Iterator[Undo]:
    """Bring the embedding that an adapter holds no table of to the length of the one that it has resized.

    before: lengths of both before the adapter was attached.
    shared: whether the output embedding is the input's table.

    A shorter table is the old one cut; of a longer one the new rows are known to nobody. Raises `BaseModelError` then.
    """
    after = lengths(model)
    if len(after) < 2 or after == before or after[0] == after[1]:
        return
    rows, (table, output) = min(after), tables(model)
    longer = table if after[0] > rows else output
    if shared:
        longer, rows = output, after[0]
    elif rows >= min(before):
        raise BaseModelError(
            f"the adapter resizes one embedding only: {after[0]:,} tokens go in and {after[1]:,} come out",
            "name the base model as it was resized for training: the file lacks the new rows of the other",
        )
    old = {leaf: tensor for leaf, tensor in longer.named_parameters(recurse=False) if len(tensor) != rows}
    for leaf, tensor in old.items():
        yield from make_room(model, longer, leaf, rows)
        setattr(longer, leaf, table.weight if shared and leaf == "weight" else nn.Parameter(tensor[:rows], False))
