"""Invariants of rows, slices, encoding and padding over many inputs, with a tokenizer made of code points."""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import Encoding, Example, Row, choose, encode, read_rows, shared_keys
from surgery.errors import DataError
from surgery.model import collate

EOS = 3
# letters, and what looks like a line end without being one in JSON lines
words = st.text('ab é\u2028\u2029\x85\x0b\x0c\x1c😀\t"\\{}', min_size=1, max_size=12).filter(str.strip)
rows = st.builds(Row, words, words)


class CodePoints:
    """One token per character; the chat template puts 1 and 2 around the prompt, and 3 after an answer."""

    chat_template = "yes"
    eos_token_id: int | None = EOS
    all_special_tokens = (chr(EOS),)

    def get_chat_template(self):
        return self.chat_template

    def convert_tokens_to_ids(self, token):
        return ord(token)

    def __call__(self, text, add_special_tokens=True):
        ids = [ord(c) for c in text]
        return SimpleNamespace(input_ids=[0, *ids] if add_special_tokens else ids)

    def apply_chat_template(self, turns, *, chat_template, add_generation_prompt, tokenize):
        assert chat_template == self.chat_template
        assert not tokenize
        assert [message["role"] for message in turns] == ["user", "assistant"][: len(turns)]
        texts = [f"\x01{turns[0]['content']}", *(f"\x02{turn['content']}{chr(EOS)}" for turn in turns[1:])]
        return "".join(texts) + "\x02" * add_generation_prompt


def message_of(error: DataError) -> str:
    """The one line that an error says."""
    assert len(str(error).splitlines()) == 1
    return str(error)


def rows_of(text: str) -> list[Row]:
    """The rows of a file with this text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text(text, encoding="utf-8", newline="")
        return read_rows(file)


# ---- rows ----


@given(st.lists(rows, min_size=1, max_size=6), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_rows_written_as_json_lines_are_read_back_whatever_text_they_hold(written, ascii_only, end):
    lines = [json.dumps({"prompt": r.prompt, "answer": r.answer}, ensure_ascii=ascii_only) for r in written]
    assert rows_of(end.join(lines) + end) == written


@given(st.text(max_size=40) | st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["prompt", "answer", "x"]), inner, max_size=3),
    max_leaves=5,
).map(json.dumps))  # fmt: skip
def test_any_text_gives_rows_or_a_refusal_on_one_line(text):
    try:
        found = rows_of(text)
    except DataError as error:
        message_of(error).index("rows.jsonl")
    else:
        assert found
        assert all(row.prompt.strip() and row.answer.strip() and len(row.key) == 32 for row in found)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('{"prompt": "a"}', "'answer'"),
        ('{"prompt": "a", "answer": ""}', "'answer'"),
        ('{"prompt": "a", "answer": " \\n"}', "'answer'"),
        ('{"prompt": "a", "answer": 4}', "'answer'"),
        ('{"prompt": null, "answer": "b"}', "'prompt'"),
        ('{"question": "a", "answer": "b"}', "'prompt'"),
        ('["a", "b"]', "object"),
        ('"a"', "object"),
        ("prompt,answer", "JSON"),
        ('{"prompt": "a"', "JSON"),
    ],
)
def test_a_line_that_is_no_row_is_refused_with_its_number(line, word):
    good = '{"prompt": "a", "answer": "b"}'
    with pytest.raises(DataError) as caught:
        rows_of(f"{good}\n\n{line}\n{good}\n")
    message = message_of(caught.value)
    assert "line 3 " in message
    assert word in message


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "\\ud800", "answer": "b"}',
        '{"prompt": "a", "answer": "b", "id": ' + "1" * 5000 + "}",
        "[" * 100_000,
    ],
    ids=["half-a-character", "endless-number", "endless-nesting"],
)
def test_a_line_that_json_allows_and_text_does_not_is_read_or_refused(line):
    try:
        for row in rows_of(line):
            assert row.key
    except DataError as error:
        message_of(error)


@pytest.mark.parametrize("path", ["nowhere.jsonl", ".", "", "x" * 5000, "a\0b", "~no-such-user-here/rows.jsonl"])
def test_a_file_that_cannot_be_read_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    message_of(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe{}"])
def test_a_file_without_rows_or_without_text_is_refused(content, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        read_rows(tmp_path / "rows.jsonl")


@given(rows, rows)
def test_two_rows_share_a_key_exactly_when_their_stripped_texts_agree(first, second):
    same = [first.prompt.strip(), first.answer.strip()] == [second.prompt.strip(), second.answer.strip()]
    assert (first.key == second.key) == same
    assert bool(shared_keys([first], [second])) == same
    assert Row(f" {first.prompt}\n", f"{first.answer} ").key == first.key


def test_moving_text_between_prompt_and_answer_gives_another_key():
    assert Row("ab", "c").key != Row("a", "bc").key


# ---- slices ----


@given(st.integers(1, 40), st.integers(0, 2**32), st.data())
def test_slices_of_one_shuffle_are_disjoint_and_together_are_everything(size, seed, data):
    pool = [Row(str(i), "x") for i in range(size)]
    cut = data.draw(st.integers(0, size))
    parts = [
        choose(pool, count, seed=seed, start=start) for start, count in ((0, cut), (cut, size - cut)) if count
    ]
    assert [row for part in parts for row in part] == choose(pool, None, seed=seed)
    assert sorted(int(row.prompt) for part in parts for row in part) == list(range(size))
    if cut < size:
        assert choose(pool, None, seed=seed, start=cut) == parts[-1]
    assert choose(pool, None, seed=None) == pool


def test_another_seed_gives_another_order():
    pool = [Row(str(i), "x") for i in range(30)]
    assert len({tuple(row.prompt for row in choose(pool, 5, seed=seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("count", "start"), [(0, 0), (4, 0), (3, 1), (1, 3), (None, 3), (None, 9), (-1, 0), (2, -1)]
)
def test_a_range_outside_the_rows_is_refused(count, start):
    with pytest.raises(DataError):
        choose([Row(str(i), "x") for i in range(3)], count, start=start)


# ---- encoding ----


@given(st.lists(rows, min_size=1, max_size=5), st.booleans(), st.booleans(), st.sampled_from(["chat", "plain"]))
def test_prompt_and_answer_are_cut_where_the_prompt_ends_with_the_options_asked_for(
    pool, separator, eos, template
):
    calibration = encode(pool, CodePoints(), Encoding(template, separator, eos))
    assert calibration.dropped == 0
    for row, found in zip(pool, calibration.examples, strict=True):
        prompt = [ord(c) for c in row.prompt]
        assert list(found.prompt_ids) == ([1, *prompt, 2] if template == "chat" else [0, *prompt])
        answer = [ord(c) for c in (" " * separator) + row.answer]
        assert list(found.answer_ids) == answer + [EOS] * eos
        assert (found.answer, found.key) == (row.answer, row.key)
        assert found.length == len(found.prompt_ids) + len(found.answer_ids)


@given(st.lists(rows, min_size=1, max_size=8), st.integers(1, 30))
def test_rows_above_the_length_limit_are_dropped_and_counted(pool, limit):
    # template 2, end of turn 1
    fitting = [row for row in pool if len(row.prompt) + len(row.answer) + 3 <= limit]
    encoding = Encoding(max_length=limit)
    if not fitting:
        with pytest.raises(DataError, match="the limit is"):
            encode(pool, CodePoints(), encoding)
        return
    calibration = encode(pool, CodePoints(), encoding)
    assert [example.key for example in calibration.examples] == [row.key for row in fitting]
    assert calibration.dropped == len(pool) - len(fitting)


def test_the_digest_is_that_of_tokens_and_their_order():
    pool = [Row("a", "b"), Row("c", "d")]
    plain = encode(pool, CodePoints(), Encoding())
    assert encode(pool, CodePoints(), Encoding(max_length=99)).digest == plain.digest
    others = [
        encode(pool[::-1], CodePoints(), Encoding()),
        encode(pool[:1], CodePoints(), Encoding()),
        encode(pool, CodePoints(), Encoding(separator=True)),
        encode(pool, CodePoints(), Encoding(template="plain")),
        encode([Row("a", "b"), Row("c", "e")], CodePoints(), Encoding()),
    ]
    assert len({plain.digest, *(other.digest for other in others)}) == 6


# ---- padding ----

token_lists = st.lists(st.integers(4, 99), min_size=1, max_size=7).map(tuple)


@given(
    st.lists(st.builds(Example, st.just("k"), token_lists, token_lists, st.just("x")), min_size=1, max_size=5),
    st.sampled_from(["left", "right"]),
    st.integers(0, 99),
)
def test_padding_keeps_every_token_its_position_and_its_label(examples, layout, pad):
    pytest.importorskip("torch")
    batch = collate(examples, pad, layout=layout)
    width = max(example.length for example in examples)
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.labels.shape == (len(examples), width)
    assert batch.indices == tuple(range(len(examples)))
    for i, example in enumerate(examples):
        real = batch.attention_mask[i].bool()
        tokens = [*example.prompt_ids, *example.answer_ids]
        assert batch.input_ids[i][real].tolist() == tokens
        assert batch.position_ids[i][real].tolist() == list(range(len(tokens)))
        labels = batch.labels[i]
        assert labels[real].tolist() == [-100] * len(example.prompt_ids) + list(example.answer_ids)
        assert (labels[~real] == -100).all()
        assert (batch.input_ids[i][~real] == pad).all()
        # the real tokens are one block at the end asked for
        block = [0] * (width - len(tokens)) + [1] * len(tokens)
        assert batch.attention_mask[i].tolist() == (block if layout == "left" else block[::-1])
        # the logit that predicts the first answer token is kept, with every later one
        first = labels.tolist().index(example.answer_ids[0])
        assert width - batch.keep <= first - 1
    firsts = [next(t for t in range(width) if row[t] != -100) for row in batch.labels.tolist()]
    assert batch.keep == width - min(firsts) + 1
