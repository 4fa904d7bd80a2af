"""Running sums of what enters the modules: added whole or not at all, and kept over a break."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from surgery.model import Seen
from surgery.sensitivity import InputSums
from tests.helpers.models import random_examples


def seen(seed: int, rank: int = 3) -> Seen:
    values = torch.randn(2, 5, rank, generator=torch.Generator().manual_seed(seed))
    return Seen(values.mT @ values, (4, 1))


def test_calls_and_batches_add_up_in_float64():
    found = InputSums.of({"a": 3})
    calls = [seen(0), seen(1), seen(2)]
    found.add({"a": calls[:2]})
    found.add({"a": calls[2:]})
    expected = sum(call.sums.double().numpy() for call in calls)
    np.testing.assert_array_equal(found.sums["a"], expected)
    assert found.counts.tolist() == [[12, 3]]


def test_a_module_whose_tokens_were_once_not_told_apart_has_no_moments():
    found = InputSums.of({"a": 3, "b": 3, "never run": 2})
    found.add({"a": [seen(0)], "b": [seen(0)]})
    found.add({"a": [None], "b": [seen(1)]})
    found.add({"a": [seen(2)], "b": [seen(2)]})
    moments = found.moments(random_examples(2))
    assert set(moments.prompt) == set(moments.answer) == {"b"}
    assert moments.apart == {"b": {"prompt": 12, "answer": 3}}


def test_a_batch_that_cannot_be_fetched_adds_nothing():
    class Gone:
        tokens = (1, 1)

        @property
        def sums(self):
            raise torch.OutOfMemoryError("out of memory")

    found = InputSums.of({"a": 3, "b": 3})
    with pytest.raises(torch.OutOfMemoryError):
        found.add({"a": [seen(0)], "b": [Gone()]})
    assert not found.sums["a"].any()
    assert not found.counts.any()


def test_sums_read_back_are_the_same_and_those_of_other_ranks_are_refused(tmp_path):
    found = InputSums.of({"a": 3, "b": 2})
    found.add({"a": [seen(0)], "b": [None]})
    save_file(found.tensors(), tmp_path / "part")
    with safe_open(str(tmp_path / "part"), framework="np") as handle:
        again = InputSums.read(handle, {"a": 3, "b": 2})
        with pytest.raises(ValueError, match="not the sums"):
            InputSums.read(handle, {"a": 3, "b": 5})
    np.testing.assert_array_equal(again.sums["a"], found.sums["a"])
    np.testing.assert_array_equal(again.counts, found.counts)
