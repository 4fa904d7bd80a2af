"""Rows that an edit was made on in a plain text: what was seen proves nothing there either.

A row is in a text where its prompt, its answer or both together are: 70 % of their words lie in sequences of eight
words that the text has too, and 70 % of them by their weight, as in `near_duplicates`; or all of them, one after the
other, where they are fewer than eight. What many rows of a slice say tells nothing, nor do a few short words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from surgery.data.near_duplicates import (
    SHARE,
    WEIGHT,
    WORDS,
    covered_words,
    many_rows,
    text_words,
    word_sequences,
    word_weights,
)
from surgery.data.rows import Row
from surgery.errors import DataError

_LONG = 20  # characters from which fewer than eight words tell a row from others
_EXCERPT = 80


def rows_in_text(text: str, rows: Sequence[Row]) -> list[int]:
    """The places of those rows that a text holds.

    text: all of it.
    rows: those of one slice, in its order.

    Takes time in proportion to the words of both.
    """
    words = text_words(text)
    parts = [[text_words(part) for part in (row.prompt, row.answer, f"{row.prompt} {row.answer}")] for row in rows]
    sequences = [[word_sequences(part) for part in each] for each in parts]
    counts = Counter(found for each in sequences for found in {one for part in each for one in part})
    common = {sequence for sequence, count in counts.items() if count > many_rows(len(rows))}
    asked = counts.keys() - common
    said = asked.intersection(word_sequences(words))
    whole = f" {' '.join(words)} "
    weights = word_weights([part for each in parts for part in each])

    def held(part: tuple[str, ...], own: Sequence[int]) -> bool:
        telling = covered_words([one not in common for one in own])
        places = [one in said for one in own]
        close = telling > 0 and covered_words(places) > SHARE * telling
        return close and _weight(_covered(part, places), weights) >= WEIGHT * _weight(part, weights)

    return [
        place
        for place, (each, own) in enumerate(zip(parts, sequences, strict=True))
        if any(map(held, each, own)) or _short_held(each[-1], whole)
    ]


def _covered(words: tuple[str, ...], places: Sequence[bool]) -> set[str]:
    return {word for place, found in enumerate(places) if found for word in words[place : place + WORDS]}


def _weight(words: Iterable[str], weights: Mapping[str, float]) -> float:
    return sum(weights[word] for word in set(words))


def _short_held(words: tuple[str, ...], whole: str) -> bool:
    phrase = " ".join(words)
    return len(words) < WORDS and len(phrase) >= _LONG and f" {phrase} " in whole


def refuse_rows_in_text(text: str, name: str, slices: Mapping[str, Sequence[Row]]) -> None:
    """Raise `DataError` where a text holds rows that an edit was made or chosen on.

    text, name: what the text says, and what it is called.
    slices: the rows by the names of their slices.
    """
    for slice_name, rows in slices.items():
        if held := rows_in_text(text, rows):
            row = rows[held[0]]
            shown = " ".join(f"{row.prompt} {row.answer}".split())
            shown = shown if len(shown) <= _EXCERPT else f"{shown[: _EXCERPT - 1]}…"
            raise DataError(
                f"the text {name!r} holds {len(held)} of {len(rows)} rows of {slice_name!r}, which the edit was made on: "
                f"row {held[0]} ({shown!r})",
                "take these passages out of the text, or name another text",
            )
