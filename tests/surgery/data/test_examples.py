"""Token ids and padded batches, each worked out by hand."""

import pytest
import torch

from surgery.data import IGNORED, Calibration, Encoding, Example, Row, encode
from surgery.errors import DataError
from surgery.model import collate, run_batches
from tests.helpers.models import ASSISTANT, BOS, EOS, PAD, USER, characters, random_examples, tiny_tokenizer

ROWS = [Row(f"{i}+{i}=", str(2 * i)) for i in range(20)]
PLAIN = Encoding(template="plain")
SHORT = Example("short", (11,), (21, 2), "a")
LONG = Example("long", (12, 13, 14), (22,), "b")


def refusal(function, *arguments, **options) -> str:
    """The one-line message with which a call is refused."""
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def batches(examples, batch_size, pad, side="left") -> list:
    """Every batch that a step is given."""
    given = []
    run_batches(examples, batch_size, pad, given.append, side=side)
    return given


def only(row: Row, encoding: Encoding, tokenizer=None) -> Example:
    calibration = encode([row], tokenizer or tiny_tokenizer(), encoding)
    assert len(calibration.examples) == 1
    return calibration.examples[0]


def test_a_chat_prompt_is_one_user_turn_of_the_template():
    example = only(Row("1+1=", "2"), Encoding())
    # the template holds no <s>, and none is added to it
    assert list(example.prompt_ids) == [USER, *characters("1+1="), ASSISTANT]
    assert list(example.answer_ids) == [*characters(" 2"), EOS]
    assert example.answer == "2"


def test_a_plain_prompt_is_taken_as_it_stands_with_the_tokenizers_own_start():
    assert list(only(Row("1+1=", "2"), PLAIN).prompt_ids) == [BOS, *characters("1+1=")]


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt():
    example = only(Row("1+1=", "2"), PLAIN, tiny_tokenizer(append_eos=True))
    assert list(example.prompt_ids) == [BOS, *characters("1+1=")]
    assert list(example.answer_ids) == [*characters(" 2"), EOS]


@pytest.mark.parametrize(
    ("separator", "eos", "expected"),
    [
        (True, True, [*characters(" 42"), EOS]),
        (True, False, characters(" 42")),
        (False, True, [*characters("42"), EOS]),
        (False, False, characters("42")),
    ],
)
def test_separator_and_end_of_sequence_are_options(separator, eos, expected):
    encoding = Encoding(separator=separator, eos=eos)
    assert list(only(Row("q", "42"), encoding).answer_ids) == expected


def test_a_tokenizer_without_end_of_sequence_adds_none():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    assert list(only(Row("q", "42"), PLAIN, tokenizer).answer_ids) == characters(" 42")


def test_rows_longer_than_the_limit_are_dropped_and_counted():
    rows = [Row("a" * n, "b") for n in (1, 5, 9)]
    # <s>, n letters, a space, b, </s>
    kept = encode(rows, tiny_tokenizer(), Encoding("plain", max_length=9))
    assert [example.length for example in kept.examples] == [5, 9]
    assert kept.dropped == 1
    assert [example.key for example in kept.examples] == [rows[0].key, rows[1].key]


def test_rows_that_are_all_too_long_are_refused():
    assert "all 20 rows are longer than 4 tokens" in refusal(
        encode, ROWS, tiny_tokenizer(), Encoding("plain", max_length=4)
    )


def test_a_tokenizer_without_chat_template_is_refused_for_chat_only():
    assert "no chat template" in refusal(encode, ROWS, tiny_tokenizer(chat=False), Encoding())
    assert encode(ROWS, tiny_tokenizer(chat=False), PLAIN).examples


def test_a_chat_template_that_refuses_the_prompt_is_refused_by_us():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('a system turn is needed') }}"
    assert "a system turn is needed" in refusal(encode, ROWS, tokenizer, Encoding())


def test_an_unknown_template_is_refused():
    assert "'alpaca'" in refusal(encode, ROWS, tiny_tokenizer(), Encoding("alpaca"))


def test_a_row_without_prompt_tokens_is_refused():
    # nothing would predict the first answer token
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.backend_tokenizer.post_processor = None
    refusal(encode, [Row("1+1=", "2"), Row("", "2")], tokenizer, PLAIN)


def test_a_row_without_answer_tokens_is_refused():
    # its loss would be a mean over nothing
    refusal(encode, [Row("1+1=", "2"), Row("1+1=", "")], tiny_tokenizer(), Encoding(separator=False, eos=False))


def test_the_digest_is_that_of_what_the_model_sees():
    digest = encode(ROWS, tiny_tokenizer(), Encoding()).digest
    assert encode(list(ROWS), tiny_tokenizer(), Encoding()).digest == digest
    changed = [
        encode(ROWS[::-1], tiny_tokenizer(), Encoding()),
        encode(ROWS[:-1], tiny_tokenizer(), Encoding()),
        encode(ROWS, tiny_tokenizer(), PLAIN),
        encode(ROWS, tiny_tokenizer(), Encoding(separator=False)),
        encode(ROWS, tiny_tokenizer(), Encoding(eos=False)),
    ]
    assert len({digest, *(calibration.digest for calibration in changed)}) == 6
    # a limit that drops nothing changes nothing that the model sees
    assert encode(ROWS, tiny_tokenizer(), Encoding(max_length=50)).digest == digest


def test_the_digest_tells_apart_where_the_prompt_ends():
    one = Example("k", (7, 8), (9,), "a")
    other = Example("k", (7,), (8, 9), "a")
    assert Calibration((one,), PLAIN).digest != Calibration((other,), PLAIN).digest


def test_padding_on_the_left_aligns_the_ends():
    batch = collate([SHORT, LONG], PAD)
    assert batch.input_ids.tolist() == [[PAD, 11, 21, 2], [12, 13, 14, 22]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 21, 2], [IGNORED, IGNORED, IGNORED, 22]]
    assert batch.keep == 3  # the first answer token sits two places before the end, its logits one before it
    assert batch.indices == (0, 1)


def test_padding_on_the_right_aligns_the_starts():
    batch = collate([SHORT, LONG], PAD, indices=[5, 3], side="right")
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


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_answer_token_lies_in_the_kept_positions(side):
    for batch in batches(random_examples(17, seed=2), 5, PAD, side=side):
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
    refusal(lambda: batches(random_examples(3), batch_size, PAD))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")]
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

    message = refusal(run_batches, [LONG], 4, PAD, step)
    assert f"{LONG.length} tokens" in message


def test_another_error_of_a_step_is_not_taken_for_a_lack_of_memory():
    def step(batch):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_batches([LONG], 4, PAD, step)
