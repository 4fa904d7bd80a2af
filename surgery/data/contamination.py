"""Train/test contamination: examples that two slices share, by content hash."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from surgery.data.rows import Row
from surgery.errors import DataError
from surgery.files import digest

# fields that name an example and say nothing of it
_NAMES = re.compile(r"(?:id|idx|index|ind|key|uid|uuid|qid)$|.*_(?:id|idx)$", re.IGNORECASE)
_LABEL = re.compile(r"\w+ ?[:.)]\s*")
# characters from which a text by itself tells an example from others
_LONG = 20


@dataclass(frozen=True)
class TaskDocument:
    """One document of a task: its place there, all that the model reads (`prompt`), and what is right.

    `question` is the prompt without examples. `hash` is of the content alone: fields may have other names, and
    another task may hold the same. By `keys` other slices recognise it: `hash`, the hash of what the model is
    asked, and that of the question; `asked` is the longest text of the document in it, for rows to compare with,
    and `question_key` its hash. Both are empty where that is too short to tell the document from others.
    """

    task: str
    index: int
    hash: str
    prompt: str
    target: str
    question: str
    keys: frozenset[str] = field(repr=False)
    question_key: str = field(default="", repr=False)
    asked: str = field(default="", repr=False)


@dataclass(frozen=True)
class Shared:
    """An example that two slices share: where it is in each, and how it begins."""

    first: str
    second: str
    text: str


Examples = Sequence[TaskDocument] | Sequence[Row]


def shared_examples(first: Examples, second: Examples) -> list[Shared]:
    """Examples of the first slice that the second holds too, by what they say and not by where they come from.

    Two documents are the same when everything they say is, or all that the model is asked. A calibration row
    is the same as a document when its prompt, or a line of it, is what the document asks.
    """
    examples: list[TaskDocument | Row] = [*first, *second]
    with_rows = any(isinstance(example, Row) for example in examples)
    places: dict[str, _Known] = {}
    for number, example in enumerate(examples[len(first) :]):
        known = _known(example, number, with_rows)
        for key in known.keys:
            places.setdefault(key, known)
    found = []
    for number, example in enumerate(examples[: len(first)]):
        known = _known(example, number, with_rows)
        other = next((places[key] for key in sorted(known.keys) if key in places), None)
        if other is not None:
            found.append(Shared(known.place, other.place, known.text))
    return found


def refuse_shared(slices: Mapping[str, Examples]) -> None:
    """Raise `DataError` when two of the named slices share an example, and say which."""
    named = list(slices.items())
    for position, (first, one) in enumerate(named):
        for second, other in named[position + 1 :]:
            if shared := shared_examples(one, other):
                example = shared[0]
                count = f"{len(shared)} examples" if len(shared) > 1 else "an example"
                raise DataError(
                    f"{first} and {second} share {count}: {example.first} is {example.second} ({example.text!r})",
                    "choose slices apart: another offset, split or dataset",
                )


def seen_keys(row: Row) -> tuple[str, ...]:
    """Digests by which a row that was seen is known again without its text, among rows and among documents."""
    return row.key, content_key([row.prompt]), content_key([row.prompt, row.answer])


def refuse_seen_keys(examples: Examples, keys: Collection[str], whose: str) -> None:
    """Raise `DataError` where examples are among those that an edit was made on, told by their `seen_keys` alone.

    A row is the same where prompt and answer are, a document where it asks the same question.
    """
    seen = [e for e in examples if (e.keys & set(keys) if isinstance(e, TaskDocument) else e.key in keys)]
    if seen:
        raise DataError(
            f"{len(seen)} of {len(examples)} evaluation {'row' if len(examples) == 1 else 'rows'} were used for "
            f"calibration or tuning of {whose!r}, as it says itself",
            "evaluate on rows that the edit has not seen",
        )


class _Known(NamedTuple):
    place: str
    text: str
    keys: frozenset[str]


def _known(example: TaskDocument | Row, number: int, with_rows: bool) -> _Known:
    if isinstance(example, TaskDocument):
        question = {example.question_key} if with_rows and example.question_key else set()
        return _Known(f"{example.task} {example.index}", _excerpt(example.question), example.keys | question)
    asked = example.prompt or example.answer  # a text alone has no prompt, and may hold a question all the same
    lines = [asked, *asked.split("\n")]
    lines += [_LABEL.sub("", line, count=1) for line in lines if _LABEL.match(line)]
    keys = {content_key([line]) for line in lines if len(line.strip()) >= _LONG}
    keys |= {content_key([asked]), content_key([example.prompt, example.answer])}
    return _Known(f"row {number}", _excerpt(asked), frozenset(keys))


def content_key(texts: Sequence[str]) -> str:
    """Hash of a set of texts, whatever their order and white space."""
    return digest(sorted({" ".join(text.split()) for text in texts}))[:32]


def _excerpt(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else f"{words[:77]}…"


def _said(document: Any) -> list[str]:
    """The texts in a document, without those that only name it."""
    if isinstance(document, str):
        return [document] if len(document.strip()) > 1 else []
    if isinstance(document, Mapping):
        parts: Sequence[Any] = [value for name, value in document.items() if not _NAMES.match(str(name))]
    else:
        parts = document if isinstance(document, list | tuple) else []
    return [text for part in parts for text in _said(part)]


def task_document(
    document: Any, *, task: str, index: int, prompt: str, target: str, question: str
) -> TaskDocument:
    """A document of a task, with the hashes by which other slices recognise it.

    document: the task's own record, any nesting of texts and numbers.
    task: the task's name.
    index: the document's number in the task.
    prompt: all that the model reads.
    target: what is right.
    question: what the task asks, the prompt without examples.
    """
    # a document of numbers alone is what it says as a whole
    said = _said(document) or [repr(document)]
    words = " ".join(question.split())
    shown = {part for text in said if (part := " ".join(text.split())) in words}
    asked = [text for text in shown if not any(text != other and text in other for other in shown)]
    if 2 * sum(map(len, asked)) < len(words):
        # the task rewrites its documents; what is left of them, such as a topic, does not tell them apart
        asked = []
    keys = {content_key(said)} | ({content_key(asked)} if asked else set())
    if len(words) >= _LONG:
        keys.add(content_key([words]))
    longest = max(asked, key=lambda text: (len(text), text), default="")
    longest = longest if len(longest) >= _LONG else ""
    own = content_key([longest]) if longest else ""
    return TaskDocument(task, index, content_key(said), prompt, target, question, frozenset(keys), own, longest)
