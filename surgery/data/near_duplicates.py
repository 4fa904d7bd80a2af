"""Held-out examples that are nearly the same as one that an edit was made on: the same words, or most of them.

Two texts are the same when nothing but case, white space, the punctuation around words and a label such as
`Question:` sets them apart. Beyond that words are counted that lie in a sequence of eight found in both, as for
PaLM (Chowdhery et al. 2022, section 8), whose bound of 70 % is taken, and pair by pair, as for Tülu 3 (Lambert et
al. 2024). What many rows of a slice say, such as an instruction before each of them, tells nothing: sequences
that more than a few rows have are left out, and of the distinct words, each by its inverse document frequency,
70 % have to be common too. So rows made from one template with other names or numbers in it are not the same.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from surgery.data.contamination import TaskDocument
from surgery.data.rows import Row
from surgery.errors import DataError

WORDS, SHARE = 8, 0.7
WEIGHT = 0.7  # of the words by their inverse document frequency
# rows of a slice above which a sequence is a phrase of the slice: a tenth of them, and no more than that
_TENTH, _MOST = 10, 10
_EDGES = ".,;:?¿¡…\"'“”‘’«»`。、"
_WORD_EDGES = f"{_EDGES}!"
# scripts that put no spaces between words: each sign is taken for one
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff])")
_LABEL = re.compile(
    r"\W*(?:q|question|problem|prompt|input|instruction|query|task|exercise|user|human)\s*\d*\s*[:.)]\s*", re.I
)
_CUE = re.compile(r"\s*(?:a|answer|response|output|solution|assistant)\s*:\s*$", re.I)
_LONGEST_CUE = 24
_EXCERPT = 160


@dataclass(frozen=True)
class NearDuplicate:
    """A held-out example and the one that it is nearly the same as.

    held, seen: where each is, such as `row 3`, numbered from 0 in its slice.
    held_text, seen_text: how each begins.
    overlap: share of the held-out text's words that lie in sequences found in the other; 1 for the same words.
    """

    held: str
    seen: str
    held_text: str
    seen_text: str
    overlap: float


class NearDuplicatesError(DataError):
    """Held-out examples that are nearly the same as `pairs` says, which nobody has allowed."""

    def __init__(self, pairs: Sequence[NearDuplicate], of: int) -> None:
        self.pairs = tuple(pairs)
        first = pairs[0]
        super().__init__(
            f"{near_duplicates_text(len({pair.held for pair in pairs}), of)}: {first.held} ({first.held_text!r}) is like {first.seen} "
            f"({first.seen_text!r})",
            "choose rows apart, or allow these (--allow-near-duplicates; near_duplicates: allow in a recipe; a tick "
            "on the page), which the run records",
        )


Examples = Sequence[TaskDocument] | Sequence[Row]
_Words = tuple[str, ...]


def near_duplicates(held: Examples, seen: Examples, slice_name: str = "calibration") -> list[NearDuplicate]:
    """Each held-out example that is nearly one of the seen, with the one that is closest to it.

    held: rows or documents that are to prove an edit.
    seen: those that it was made or chosen on, called `slice_name`.

    Takes time in proportion to the words of both. Examples that are the same to the letter are found too.
    """
    asked, known = _texts(held), _texts(seen)
    same: dict[_Words, int] = {}
    for number, text in enumerate(known):
        for key in filter(None, (text.words, text.whole, text.asked)):
            same.setdefault(key, number)
    close = _closest([text.words for text in asked], [text.words for text in known])
    found = []
    for number, text in enumerate(asked):
        other = same.get(text.words, same.get(text.whole))
        nearest = (other, 1.0) if other is not None else close.get(number)
        if nearest is not None:
            seen_place = f"{slice_name} {known[nearest[0]].place}"
            shown = (_excerpt(text.shown), _excerpt(known[nearest[0]].shown))
            found.append(NearDuplicate(text.place, seen_place, *shown, nearest[1]))
    return found


def near_duplicates_text(found: int, of: int) -> str:
    """How many of the held-out examples are near-duplicates, in words."""
    return f"{found:,} of {of:,} held-out examples {'is' if found == 1 else 'are'} nearly the same as one that the edit was made on"


class _Text(NamedTuple):
    """What an example says: `words` have its sequences, and `whole` and `asked` are other ways to be the same.

    All rows of a slice may ask the same, so what is asked is looked for among the seen, not asked for by them.
    """

    place: str
    shown: str
    words: _Words
    whole: _Words
    asked: _Words


def _texts(examples: Examples) -> list[_Text]:
    if any(isinstance(each, TaskDocument) for each in examples):
        return [_of_document(each) for each in examples if isinstance(each, TaskDocument)]
    rows = [each for each in examples if isinstance(each, Row)]
    prompts = [text_words(row.prompt) for row in rows]
    counts, many = Counter(prompts), many_rows(len(rows))
    return [
        _of_row(number, row, words if words and counts[words] <= many else None)
        for number, (row, words) in enumerate(zip(rows, prompts, strict=True))
    ]


def _of_document(document: TaskDocument) -> _Text:
    asked = text_words(document.asked or document.question)
    return _Text(
        f"{document.task} {document.index}", document.question, asked, text_words(document.question), asked
    )


def _of_row(number: int, row: Row, words: _Words | None) -> _Text:
    """A row says what its prompt does, in `words`; where that is nothing or what many rows say, its answer too."""
    shown = row.prompt if words else f"{row.prompt}\n{row.answer}".strip()
    words = words or text_words(shown)
    return _Text(f"row {number}", shown, words, words, text_words(row.prompt))


def text_words(text: str) -> _Words:
    """The words of a text in small letters, without a label, a cue for the answer, and the punctuation around words.

    What means something in a formula stays: signs, brackets, the point inside a number, a factorial.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    label, cue = _LABEL.match(plain), _CUE.search(plain, max(0, len(plain) - _LONGEST_CUE))
    bare = plain[label.end() if label else 0 : cue.start() if cue else None]
    bare = bare if bare.isascii() else _UNSPACED.sub(r" \1 ", bare)
    stripped = [
        word.strip(_EDGES) if word[0].isdigit() else word.strip(_WORD_EDGES) for word in bare.casefold().split()
    ]
    return tuple([word for word in stripped if word])


def _closest(held: Sequence[_Words], seen: Sequence[_Words]) -> dict[int, tuple[int, float]]:
    """Of each held-out text that is nearly a seen one: which is closest, and the share of its words found there."""
    sequences = [word_sequences(words) for words in held]
    holders = _holders(seen, {sequence for each in sequences for sequence in each})
    plain = _frequent(held, sequences) | _frequent_holders(holders, seen)
    weights = word_weights([*held, *seen])
    found = {}
    for number, each in enumerate(sequences):
        telling = [sequence not in plain for sequence in each]
        shared: dict[int, list[bool]] = {}
        for place, sequence in enumerate(each):
            for other in holders.get(sequence, ()) if telling[place] else ():
                shared.setdefault(other, [False] * len(each))[place] = True
        counted = covered_words(telling)
        close = [
            (common / counted, -other)
            for other, places in shared.items()
            if (common := covered_words(places)) > SHARE * counted
            and _is_near(held[number], seen[other], weights, common, counted)
        ]
        if close:
            share, other = max(close)
            found[number] = (-other, share)
    return found


def _is_near(held: _Words, seen: _Words, weights: Mapping[str, float], common: int, counted: int) -> bool:
    """Whether enough of what sets a text apart is found in the other: in short texts all of it, and little else."""
    if _part(held, seen, weights) < WEIGHT:
        return False
    return common >= 2 * WORDS - 1 or (common == counted and _part(seen, held, weights) >= WEIGHT)


def covered_words(places: Sequence[bool]) -> int:
    """How many words lie in a sequence that begins at one of these places."""
    covered, end = 0, 0
    for place in (place for place, marked in enumerate(places) if marked):
        covered += place + WORDS - max(place, end)
        end = place + WORDS
    return covered


def _part(words: _Words, other: _Words, weights: Mapping[str, float]) -> float:
    """The part of a text's distinct words that the other has too, each by its weight."""
    said = set(words)
    total = sum(map(weights.__getitem__, said))
    return sum(map(weights.__getitem__, said & set(other))) / (total or 1.0)


def word_weights(texts: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """Inverse document frequency of each word: what all rows have, such as an instruction, says nothing."""
    distinct = set(texts)
    counts = Counter(word for words in distinct for word in set(words))
    return {word: math.log((1 + len(distinct)) / count) for word, count in counts.items()}


def _holders(seen: Sequence[_Words], asked: set[int]) -> dict[int, list[int]]:
    """The seen texts that have each of the sequences asked about."""
    holders: dict[int, list[int]] = defaultdict(list)
    for number, words in enumerate(seen):
        for sequence in asked.intersection(word_sequences(words)):
            holders[sequence].append(number)
    return holders


def word_sequences(words: tuple[str, ...]) -> list[int]:
    """A number for each sequence of a text, in order."""
    return [hash(words[first : first + WORDS]) for first in range(len(words) - WORDS + 1)]


def _frequent(texts: Sequence[_Words], sequences: Iterable[Sequence[int]]) -> set[int]:
    """Sequences that more rows of a slice have than tell one from another; repeated rows count once."""
    first = {words: number for number, words in reversed(list(enumerate(texts)))}.values()
    distinct = set(first)
    counts = Counter(s for number, each in enumerate(sequences) if number in distinct for s in set(each))
    return {sequence for sequence, count in counts.items() if count > many_rows(len(distinct))}


def _frequent_holders(holders: dict[int, list[int]], texts: Sequence[_Words]) -> set[int]:
    most = many_rows(len(set(texts)))
    return {
        sequence
        for sequence, rows in holders.items()
        if len(rows) > most and len({texts[number] for number in rows}) > most
    }


def many_rows(rows: int) -> int:
    """Rows of a slice above which what they share is a phrase of the slice: a tenth of them, and no more than ten."""
    return max(1, min(_MOST, rows // _TENTH))


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"
