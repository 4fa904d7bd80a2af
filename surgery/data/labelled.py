"""Records that a classifier is trained on: a text or two with a label, and words with a tag for each.

Labels are taken as texts here, a number as its digits: what they mean is known once the model is.
"""

from collections.abc import Mapping
from typing import Any

from surgery.data.fields import text_of, whole
from surgery.data.rows import NO_ANSWER, NO_FIELD, NO_PROMPT, UNREADABLE, Row, UnusableRow

# GLUE and its kin; the first pair that a record has is taken
_TEXT_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("text", "text_pair"),
    ("text_a", "text_b"),
    ("text1", "text2"),
)
_TEXTS = ("text", "sentence", "content", "review", "tweet")
_LABELS = ("label", "labels")
# a text beside one of these is not all that a model was trained on
_BESIDE = ("context", "passage", "history", "instruction", "question", "input")
_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "labels", "label", "ner", "pos_tags", "upos", "chunk_tags")
LABELLED_COLUMNS = tuple(dict.fromkeys((*(name for pair in _TEXT_PAIRS for name in pair), *_TEXTS, *_LABELS)))
TAGGED_COLUMNS = tuple(dict.fromkeys((*_WORDS, *_TAGS)))
_NO_LABEL = -1  # what test splits have where the label is kept back


def has_label(record: Mapping[str, Any]) -> bool:
    """Whether a record is a text, or two, with a label beside it."""
    names = _text_names(record)
    beside = any(record.get(name) is not None for name in _BESIDE if name not in names)
    return bool(names) and not beside and _first(record, _LABELS, (str, int)) is not None


def labelled_row(record: Mapping[str, Any]) -> Row:
    """The row of a record as `has_label` knows it; raises `UnusableRow`."""
    names = _text_names(record)
    if not names:
        raise UnusableRow(NO_FIELD, "has no text with a label", "give every row a text and a label")
    texts = tuple(text_of(name, record, NO_PROMPT) for name in names)
    name = next((name for name in _LABELS if record.get(name) is not None), None)
    if name is None:
        raise UnusableRow(NO_ANSWER, "has no label", "give every row a text and a label")
    return Row.labelled(texts, (label_text(record[name], name),))


def has_tags(record: Mapping[str, Any]) -> bool:
    """Whether a record is a list of words with a list of tags beside it."""
    return _first(record, _WORDS, (list,)) is not None and _first(record, _TAGS, (list,)) is not None


def tagged_row(record: Mapping[str, Any], words: str = "", tags: str = "") -> Row:
    """The row of a record as `has_tags` knows it, or of the fields that are named; raises `UnusableRow`."""
    words, tags = words or _first(record, _WORDS, (list,)) or "", tags or _first(record, _TAGS, (list,)) or ""
    if not words or not tags:
        raise UnusableRow(NO_FIELD, "has no words with tags", "give every row a list of words and one of tags")
    texts, given = record[words], record[tags]
    if not texts or not all(isinstance(word, str) and word.strip() for word in texts):
        raise UnusableRow(NO_PROMPT, f"has no words in {words!r}", "give every row a list of words, none empty")
    if len(texts) != len(given):
        raise UnusableRow(
            UNREADABLE, f"has {len(given)} tags for {len(texts)} words", "give every word a tag of its own"
        )
    return Row.labelled(tuple(whole(word, words) for word in texts), tuple(label_text(tag, tags) for tag in given))


def label_text(value: object, name: str) -> str:
    """A label as text: a name, or the digits of a number; raises `UnusableRow` for what is no label."""
    if isinstance(value, bool):
        value = int(value)
    if value is None or value == _NO_LABEL or (isinstance(value, str) and not value.strip()):
        raise UnusableRow(NO_ANSWER, f"has no label in {name!r}", "give every row a label")
    if not isinstance(value, str | int):
        raise UnusableRow(UNREADABLE, f"has no label in {name!r}", "give every row one label, a name or a number")
    return whole(str(value), name).strip()


def _text_names(record: Mapping[str, Any]) -> tuple[str, ...]:
    for pair in _TEXT_PAIRS:
        if all(isinstance(record.get(name), str) for name in pair):
            return pair
    return tuple(name for name in _TEXTS if isinstance(record.get(name), str))[:1]


def _first(record: Mapping[str, Any], names: tuple[str, ...], kinds: tuple[type, ...]) -> str | None:
    return next((name for name in names if isinstance(record.get(name), kinds)), None)
