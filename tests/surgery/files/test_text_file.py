"""Text files in several encodings, packed or not, and their bounds."""

import gzip
import os

import pytest

from surgery.errors import DataError
from surgery.files import open_text, text_file, text_lines
from tests.helpers.refusals import refusal

TEXT = "{é😀}\r\nsecond\n\nlast"


def read(file) -> str:
    with open_text(file) as text:
        return "".join(text_lines(text, file.name))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_text_is_read_as_it_was_written_in_whatever_encoding(encoding, tmp_path):
    (tmp_path / "plain").write_bytes(TEXT.encode(encoding))
    (tmp_path / "packed").write_bytes(gzip.compress(TEXT.encode(encoding)))
    assert read(tmp_path / "plain") == read(tmp_path / "packed") == TEXT


def test_a_packed_text_of_several_parts_is_read_whole(tmp_path):
    (tmp_path / "packed").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert read(tmp_path / "packed") == "one\ntwo\n"


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_text_shorter_than_what_tells_its_encoding_is_read(length, tmp_path):
    (tmp_path / "short").write_bytes(b"abc"[:length])
    assert read(tmp_path / "short") == "abc"[:length]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"caf\xe9 in another encoding", "as text"),
        (gzip.compress(b"x" * 9, mtime=0)[:-4], "unpacked"),
        (b"\x1f\x8b\x08\0" + b"\xff" * 30, "unpacked"),
        (None, "no file"),
    ],
)
def test_what_cannot_be_read_is_refused(content, word, tmp_path):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert word in refusal(DataError, read, tmp_path / "file")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "as text" in refusal(DataError, read, tmp_path / "pipe")


def test_a_text_beyond_the_bounds_is_refused(tmp_path, monkeypatch):
    (tmp_path / "packed").write_bytes(gzip.compress(b"line\n" * 1000))
    assert len(read(tmp_path / "packed")) == 5000
    monkeypatch.setattr(text_file, "LONGEST_LINE", 3)
    assert "more than 3 characters" in refusal(DataError, read, tmp_path / "packed")
    monkeypatch.setattr(text_file, "LONGEST_LINE", 99)
    monkeypatch.setattr(text_file, "_MOST_UNPACKED", 4999)
    assert "unpacks to more" in refusal(DataError, read, tmp_path / "packed")


def test_a_packed_text_may_be_a_hundred_times_as_large_and_a_small_one_any_times(tmp_path):
    for size, fits in ((1 << 20, True), (1 << 23, False)):
        (tmp_path / "packed").write_bytes(gzip.compress(b"x" * size))
        if fits:
            assert len(read(tmp_path / "packed")) == size
        else:
            assert "unpacks to more than 1 MiB" in refusal(DataError, read, tmp_path / "packed")
    text = "".join(f"{number * number % 9_999_991}\n" for number in range(400_000))
    (tmp_path / "packed").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "packed") == text
