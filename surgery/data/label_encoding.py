"""Rows with labels as token ids for a classifier: the text as its tokenizer writes it, and the labels by number.

Nothing but the text is read: no chat template, and the special tokens are the tokenizer's own. Of a word that is
several tokens the first carries the tag.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.adapter import SEQ_CLS, TOKEN_CLS
from surgery.data.encoding import APART, TEMPLATES, Encoding
from surgery.data.example import IGNORED, Example
from surgery.data.rows import NO_ANSWER, NO_PROMPT, UNREADABLE, Row, UnusableRow
from surgery.errors import DataError

_SHOWN = 12  # labels that a refusal names


@dataclass(frozen=True)
class Head:
    """What a classifier says: its labels by number, of a whole text or, with `words`, of every word."""

    labels: tuple[str, ...]
    words: bool = False


class LabelEncoder:
    """What turns rows into ids and numbers of labels, made once for all of them.

    tokenizer: of the model, or of the adapter.
    head: what the model was trained to say.
    encoding: only its length counts; what a language model's rows are given besides is refused.
    rows: all that are to be encoded, whose labels together tell whether they are names or numbers.

    Raises `DataError` for labels that the head does not know, and for a tokenizer that cannot tell words apart.
    """

    def __init__(self, tokenizer: Any, head: Head, encoding: Encoding, rows: Iterable[Row]) -> None:
        _refuse_conversation(encoding)
        self._head = head
        self._numbers = label_numbers([label for row in rows for label in _labels(row)], head)
        self._tokenizer = _for_words(tokenizer) if head.words else tokenizer

    def before(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(self._tokens([text])[0])

    def example(self, row: Row) -> Example:
        """The example of a row; raises `UnusableRow` for one that is no text with a label, or words with tags."""
        texts, labels = row.texts or (row.prompt,), [self._numbers[label] for label in _labels(row)]
        if not labels or not row.prompt:
            what, reason = ("label", NO_ANSWER) if not labels else ("text", NO_PROMPT)
            raise UnusableRow(reason, f"a row has no {what}", "give every row a text and a label")
        if row.messages:
            raise UnusableRow(UNREADABLE, "a row is a conversation, and a classifier reads a text", _ONE_LABEL)
        ids, types, words = self._tokens(texts)
        if self._head.words:
            if len(labels) != len(texts):
                raise UnusableRow(UNREADABLE, f"a row has {len(labels)} labels for {len(texts)} words", _TAGS)
            tags = _aligned(words, labels)
            if set(tags) == {IGNORED}:
                raise UnusableRow(NO_PROMPT, "no word of a row has a token in this tokenizer", "remove the row")
            return Example(row.key, ids, tags, row.answer, task=TOKEN_CLS, segments=types)
        if len(labels) != 1 or len(texts) > 2:
            raise UnusableRow(UNREADABLE, f"a row has {len(labels)} labels of {len(texts)} texts", _ONE_LABEL)
        return Example(row.key, ids, tuple(labels), row.answer, task=SEQ_CLS, segments=types)

    def _tokens(self, texts: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...], Sequence[int | None]]:
        """Ids, segments as far as the model is given them, and the word of every token."""
        if self._head.words:
            found = self._tokenizer(list(texts), is_split_into_words=True, verbose=False)
        else:
            found = self._tokenizer(*texts, verbose=False)
        types = tuple(found.get("token_type_ids") or ())
        # segments of zeros alone are what a model takes without any
        return tuple(found["input_ids"]), types if any(types) else (), found.word_ids() if self._head.words else ()


_ONE_LABEL = "give every row a text, or two, and one label"
_TAGS = "give every row a list of words and a tag for each"


def label_numbers(labels: Iterable[str], head: Head) -> dict[str, int]:
    """The number of every label that rows have, each a name of the head's or a number itself.

    Raises `DataError` for a label that is neither, and where all could be both and would not be the same.
    """
    wanted = sorted(set(labels))
    by_name = {name: number for number, name in enumerate(head.labels)}
    by_number = {str(number): number for number in range(len(head.labels))}
    named = all(label in by_name for label in wanted)
    numbered = all(label in by_number for label in wanted)
    if named and numbered and any(by_name[label] != by_number[label] for label in wanted):
        raise DataError(
            f"the labels {_listed(wanted)} are both names of the model's labels and numbers of others",
            "give the labels other names, in the model's id2label and in the rows",
        )
    if named or numbered:
        known = by_name if named else by_number
        return {label: known[label] for label in wanted}
    known_ones = f"the model says {_listed(head.labels)}"
    odd = next((label for label in wanted if label not in by_name and label not in by_number), None)
    if odd is None:
        raise DataError(f"some labels are names and others numbers; {known_ones}", "write all of them one way")
    raise DataError(
        f"the label {odd[:40]!r} is none of those known: {known_ones}",
        f"write labels so, or as numbers from 0 to {len(head.labels) - 1} in the order of training",
    )


def _labels(row: Row) -> tuple[str, ...]:
    """The labels of a row; of one of prompt and answer, the answer."""
    return row.labels or ((row.answer.strip(),) if row.answer.strip() and row.prompt else ())


def _aligned(words: Sequence[int | None], labels: Sequence[int]) -> tuple[int, ...]:
    """A label for every token that begins a word, `IGNORED` for all others."""
    before: list[int | None] = [None, *words][:-1]
    return tuple(
        IGNORED if word is None or word == last else labels[word] for word, last in zip(words, before, strict=True)
    )


def _for_words(tokenizer: Any) -> Any:
    """The tokenizer as it reads words that are split already.

    Those of GPT-2's and RoBERTa's kind are trained on words with the space before them, the first one too.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"{type(tokenizer).__name__} does not say which word a token belongs to",
            "save it as a fast tokenizer, with its tokenizer.json",
        )
    split = tokenizer.backend_tokenizer.pre_tokenizer
    if not isinstance(split, ByteLevel) or split.add_prefix_space:
        return tokenizer
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.pre_tokenizer = ByteLevel(
        add_prefix_space=True, use_regex=split.use_regex, trim_offsets=split.trim_offsets
    )
    return own


def _refuse_conversation(encoding: Encoding) -> None:
    """Raise `DataError` for settings of an encoding that say what a language model is given besides the text."""
    given: Mapping[str, bool] = {
        "a template file": encoding.template not in TEMPLATES,
        "template arguments": bool(encoding.template_args.strip()),
        "a system prompt": bool(encoding.system),
        "a space before the answer": encoding.separator,
        "prompt and answer apart": encoding.tokenised == APART,
    }
    asked = [name for name, is_set in given.items() if is_set]
    if asked:
        raise DataError(
            f"{asked[0]} was asked for, and a classifier reads the text alone", "leave that setting as it is"
        )


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(label[:40]) for label in labels[:_SHOWN])
    return f"{shown} and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else shown
