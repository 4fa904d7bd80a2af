"""Padded batches worked out by hand, and what becomes of one that does not fit."""

import pytest
import torch

from surgery.data import IGNORED, Example
from surgery.errors import DataError
from surgery.model import collate, run_batches
from tests.helpers.models import EOS, PAD, random_examples
from tests.helpers.refusals import refusal

SHORT = Example("short", (11,), (21, 2), "a")
LONG = Example("long", (12, 13, 14), (22,), "b")


def batches(examples, batch_size, pad, layout="left") -> list:
    """Every batch that a step is given."""
    given = []
    run_batches(examples, batch_size, pad, given.append, layout=layout)
    return given


def test_padding_on_the_left_aligns_the_ends():
    batch = collate([SHORT, LONG], PAD)
    assert batch.input_ids.tolist() == [[PAD, 11, 21, 2], [12, 13, 14, 22]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 21, 2], [IGNORED, IGNORED, IGNORED, 22]]
    assert batch.keep == 3  # the first answer token sits two places before the end, its logits one before it
    assert batch.indices == (0, 1)


def test_padding_on_the_right_aligns_the_starts():
    batch = collate([SHORT, LONG], PAD, indices=[5, 3], layout="right")
    assert batch.input_ids.tolist() == [[11, 21, 2, PAD], [12, 13, 14, 22]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert [row[:3] for row in batch.position_ids.tolist()] == [[0, 1, 2], [0, 1, 2]]
    assert batch.labels.tolist() == [[IGNORED, 21, 2, IGNORED], [IGNORED, IGNORED, IGNORED, 22]]
    assert batch.keep == 4
    assert batch.indices == (5, 3)


def test_padding_with_a_token_that_also_occurs_in_text_masks_only_the_padding():
    batch = collate([SHORT, LONG], pad_id=11)
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


def test_an_answer_that_ends_like_padding_keeps_its_labels():
    batch = collate([SHORT, LONG], pad_id=EOS)
    assert batch.labels.tolist()[0] == [IGNORED, IGNORED, 21, 2]


@pytest.mark.parametrize("layout", ["left", "right", "equal", "single"])
def test_every_answer_token_lies_in_the_kept_positions(layout):
    for batch in batches(random_examples(17, seed=2), 5, PAD, layout=layout):
        scored = batch.labels != IGNORED
        assert scored.any(dim=1).all()
        assert not scored[:, : -(batch.keep - 1)].any()
        # one position fewer would lose an answer token
        assert scored[:, -(batch.keep - 1)].any()


@pytest.mark.parametrize("batch_size", [1, 3, 17, 40])
def test_batches_cover_every_example_once_longest_first(batch_size):
    examples = random_examples(17, seed=3)
    seen, widths = [], []
    for batch in batches(examples, batch_size, PAD):
        assert len(batch.indices) <= batch_size
        widths.append(batch.input_ids.shape[1])
        for row, index in enumerate(batch.indices):
            real = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
            assert real == [*examples[index].prompt_ids, *examples[index].answer_ids]
            scored = batch.labels[row][batch.labels[row] != IGNORED].tolist()
            assert scored == list(examples[index].answer_ids)
        seen += batch.indices
    assert sorted(seen) == list(range(17))
    assert len(widths) == -(-17 // batch_size)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(batch_size):
    # a recipe can hold 0, and -1 would measure nothing without a word
    refusal(DataError, lambda: batches(random_examples(3), batch_size, PAD))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("can't allocate memory"),
        MemoryError("bad_alloc"),
    ],
)
def test_a_batch_that_runs_out_of_memory_is_halved_until_it_fits_and_nothing_is_lost(error):
    done, asked = [], []

    def step(batch):
        asked.append(len(batch.indices))
        if len(batch.indices) > 3:
            raise error
        done.extend(batch.indices)

    run_batches(random_examples(17, seed=3), 16, PAD, step)
    assert sorted(done) == list(range(17))
    assert asked == [16, 8, 4, *[2] * 8, 1]


def test_one_example_that_does_not_fit_is_refused_with_its_length():
    def step(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    message = refusal(DataError, run_batches, [LONG], 4, PAD, step)
    assert f"{LONG.length} tokens" in message


def test_another_error_of_a_step_is_not_taken_for_a_lack_of_memory():
    def step(batch):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_batches([LONG], 4, PAD, step)
