"""Records of words in columns, as CoNLL writes them: a line for each word, and a blank line after each sentence."""

from collections.abc import Iterator
from typing import Any, TextIO

from surgery.data.rows import UNREADABLE, UnusableRow
from surgery.files import text_lines

_MOST_WORDS = 1 << 16  # of one sentence
_DOCUMENT = "-DOCSTART-"


def column_records(text: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    """Every sentence as its words, from the first column, and their tags, from the last; `name` is for messages only.

    An `UnusableRow` stands for one with a word that has no tag. Lines that open a document hold no word.
    """
    words: list[str] = []
    tags: list[str] = []
    lacking, first = "", 1
    for number, line in enumerate(text_lines(text, name), start=1):
        cells = line.split()
        if cells and cells[0] != _DOCUMENT:
            if not words:
                first = number
            words.append(cells[0])
            tags.append(cells[-1])
            lacking = lacking or (cells[0] if len(cells) < 2 else "")
        if (not cells or len(words) >= _MOST_WORDS) and words:
            yield _sentence(first, words, tags, lacking)
            words, tags, lacking = [], [], ""
    if words:
        yield _sentence(first, words, tags, lacking)


def _sentence(first: int, words: list[str], tags: list[str], lacking: str) -> tuple[str, Any]:
    where = f"line {first}"
    if lacking:
        problem = f"has no tag for {lacking[:40]!r}"
        return where, UnusableRow(UNREADABLE, problem, "give every word its tag in the last column")
    return where, {"tokens": words, "tags": tags}
