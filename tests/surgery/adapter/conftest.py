"""Adapters opened or refused in one line, and one of a single module."""

from typing import Any

import pytest

from surgery.adapter import Adapter, open_adapter
from surgery.errors import AdapterError

O0 = "model.layers.0.self_attn.o_proj"
KEY_A, KEY_B = f"base_model.model.{O0}.lora_A.weight", f"base_model.model.{O0}.lora_B.weight"


def message_of(error: AdapterError) -> str:
    """The one line that an error says, with both of its halves."""
    assert len(str(error).splitlines()) == 1
    assert error.problem
    assert error.remedy
    return str(error)


def refusal(source: Any) -> str:
    """The message with which `source` is refused."""
    with pytest.raises(AdapterError) as caught:
        open_adapter(source)
    return message_of(caught.value)


def opened_or_refused(source: Any) -> Adapter | None:
    """The adapter, or None where it was refused; no other exception may come out."""
    try:
        return open_adapter(source)
    except AdapterError as error:
        message_of(error)
        return None


@pytest.fixture
def one(lora_tensors):
    """The two factors of a single module of shape 6×5 and rank 4."""
    return lora_tensors({O0: (6, 4, 5)})
