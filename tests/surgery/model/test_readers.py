"""The readers of a probe: one row alone and several together give the same logits for both kinds of models."""

import pytest
import torch

from surgery.adapter import open_adapter
from surgery.model import BaseChoice, Way, attach, readers
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.rounding import logits_apart
from tests.helpers.seq2seq import KINDS

PROMPTS, ANSWERS = [(7, 8, 9, 10, 11), (7, 8, 12)], [(20, 21, 21), (22, 23, 23)]


@pytest.mark.parametrize("kind", ["llama", "t5", "m2m", "mbart"])
@pytest.mark.parametrize("cached", [True, False])
def test_rows_read_together_have_the_logits_of_each_alone(kind, cached, tmp_path):
    if kind == "llama":
        folders = save_model(tiny_llama(), tmp_path / "base"), save_adapter(tiny_llama(), tmp_path / "adapter")
        way = Way(cached=cached, shared=False)
    else:
        folders, way = KINDS[kind].save(tmp_path), Way("right", "right", cached, shared=False)
    adapter = open_adapter(folders[1])
    with attach(adapter, decompose(adapter), BaseChoice(str(folders[0]))) as live:
        read = readers.Readers(live, PROMPTS, ANSWERS, lambda rows: None, (7, 8))
        expected = torch.stack([read.alone(row) for row in range(2)])
        assert expected.shape[1] == len(ANSWERS[0])
        together = read.together(way, [0, 1])
        for step in range(3):
            found = together.following
            assert (found - expected[:, step]).norm() <= logits_apart(live.model) * expected[:, step].norm()
            together.advance([answer[step] for answer in ANSWERS])
