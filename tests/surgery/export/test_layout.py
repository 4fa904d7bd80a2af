"""What a smaller file would be, without writing one: ranks, numbers, bytes, and who serves it."""

import pytest

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.errors import ExportError
from surgery.export import VLLM_RANKS, Smaller, edited_layout, layout_of, savings, servers
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.adalora import save_adalora
from tests.helpers.models import tiny_llama

SHAPES = {"layers.0.o_proj": (9, 4, 7), "layers.1.o_proj": (9, 4, 7), "layers.1.q_proj": (5, 4, 7)}


@pytest.fixture
def opened(lora_tensors, write_adapter):
    return open_adapter(write_adapter(lora_tensors(SHAPES, "float16"), r=4))


def test_numbers_and_bytes_are_those_of_the_factors_at_their_ranks(opened):
    kept = {"layers.0.o_proj": 2, "layers.1.o_proj": 0, "layers.1.q_proj": 3}
    found = layout_of(opened, kept, Smaller())
    assert found.parameters == 2 * (9 + 7) + 3 * (5 + 7)
    assert found.before == 4 * (16 + 16 + 12)
    assert (found.bytes, found.bytes_before) == (2 * found.parameters, 2 * found.before)
    assert (found.left_out, found.largest) == (("layers.1.o_proj",), 3)
    assert layout_of(opened, kept, Smaller(0)).parameters == 3 * (16 + 12)
    assert layout_of(opened, kept, Smaller(8)).saved == pytest.approx(1 - 8 * 28 / (4 * 44))


def test_what_a_cut_would_save_is_what_the_cut_saves(opened):
    spectra = decompose(opened)
    for saving in savings(opened, spectra):
        edit = make_edit(spectra, Rank(cut="para", share=saving.share), scope="all")
        assert saving.ragged == edited_layout(opened, edit, Smaller())
        assert saving.padded == edited_layout(opened, edit, Smaller(0))
    assert [saving.share for saving in savings(opened, spectra)] == [0.9, 0.95, 0.99]


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (8, 8), (9, 16), (257, 320), (512, 512)])
def test_the_least_rank_to_start_vllm_with_is_the_next_that_it_knows(rank, allowed, opened):
    assert allowed in VLLM_RANKS
    found = layout_of(opened, {}, Smaller(max(rank, 4)))
    if rank >= 4:
        assert f"--max-lora-rank {allowed} up" in servers(found, [2.0])[1]


def test_a_rank_above_all_that_vllm_knows_is_told(opened):
    assert "a module has rank 600" in servers(layout_of(opened, {}, Smaller(600)), [1.0])[1]


def test_several_scalings_are_no_form_for_readers_of_one_alpha(opened):
    padded = layout_of(opened, {}, Smaller(0))
    assert "one scaling" in servers(padded, [2.0, 2.0])[0]
    assert "padded form" in servers(padded, [2.0, 1.0])[0]


def test_adalora_has_no_padded_form(tmp_path):
    adapter = open_adapter(save_adalora(tiny_llama(), tmp_path / "ada", ["q_proj"]))
    with pytest.raises(ExportError, match="no padded form"):
        layout_of(adapter, {}, Smaller(0))
    whole = layout_of(adapter, {}, Smaller())
    assert whole.saved == 0
    assert whole.bytes == sum(t.nbytes for t in adapter.tensors.values())
    assert savings(adapter, decompose(adapter)) == []
