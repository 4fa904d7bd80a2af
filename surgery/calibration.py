"""Calibration and evaluation examples: prompt + answer rows, teacher-forced (paper §4.3).

Labels are masked on the prompt, so the loss of an example is the mean over its answer tokens,
which include an optional separator space and end-of-sequence token. A slice is a seeded shuffle
and a contiguous range.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.errors import DataError, RowsMixedError
from surgery.home import digest, read_limited, user_path
from surgery.memory import is_out_of_memory, release

if TYPE_CHECKING:
    import torch

TEMPLATES = ("chat", "plain")
IGNORED = -100
# why a row is left out
TOO_LONG, NO_PROMPT, NO_ANSWER = "too long", "empty prompt", "empty answer"
NO_FIELD, UNREADABLE = "missing field", "unreadable"
_MOST_BYTES = 256 << 20  # of a file that is read whole
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class UnusableRow(DataError):
    """One row that is no prompt and answer; `reason` is one of the reasons for leaving rows out."""

    def __init__(self, reason: str, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.reason = reason


@dataclass(frozen=True)
class Row:
    """One task as text."""

    prompt: str
    answer: str

    @property
    def key(self) -> str:
        """Content hash: two slices share an example exactly when they share a key."""
        return digest([self.prompt.strip(), self.answer.strip()])[:32]


@dataclass(frozen=True)
class RowFields:
    """Where a record has its prompt and its answer: the name of a field, or a template around several.

    A text with braces is a template: `{name}` stands for a top-level field, `{{` and `}}` for braces. It
    takes texts, numbers and booleans, these as JSON writes them; a field that is named alone must be text.
    Nothing in a template is evaluated, so `{a.b}` is the field called `a.b`. Raises `DataError` for a
    template that cannot be read.
    """

    prompt: str = "prompt"
    answer: str = "answer"

    def __post_init__(self) -> None:
        for text in (self.prompt, self.answer):
            _fields_in(text)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are read, each once."""
        return tuple(dict.fromkeys([*_fields_in(self.prompt), *_fields_in(self.answer)]))

    def row(self, record: Any) -> Row:
        """The row of a record; raises `UnusableRow`."""
        if not isinstance(record, dict):
            raise UnusableRow(UNREADABLE, "is not an object", "write one JSON object on each line")
        return Row(_text(self.prompt, record, NO_PROMPT), _text(self.answer, record, NO_ANSWER))


def _fields_in(text: str) -> list[str]:
    """The fields that a name or template names, in order."""
    if "{" not in text and "}" not in text:
        if not text.strip():
            raise DataError("a field without a name was asked for", "name the fields of prompt and answer")
        return [text]
    names = []
    for match in _BRACES.finditer(text):
        if match[0] in "{}":
            raise DataError(
                f"the template {text[:60]!r} has a single {match[0]!r}", "write {name} for a field, {{ for a brace"
            )
        if match[1] is not None:
            names.append(match[1])
    if not names or not all(name.strip() for name in names):
        raise DataError(f"the template {text[:60]!r} names no field", "write a field's name in braces, {name}")
    return names


def _text(wanted: str, record: Mapping[str, Any], empty: str) -> str:
    """What a field or a template gives for a record; `empty` is the reason when that is no text."""
    names = _fields_in(wanted)
    is_template = names != [wanted]
    remedy = "give every row a non-empty prompt and answer"
    for name in names:
        if name not in record:
            raise UnusableRow(NO_FIELD, f"has no text in {name!r}", remedy)
        value = record[name]
        allowed: tuple[type, ...] = (str, int, float) if is_template else (str,)
        blank = value is None or (isinstance(value, str) and not value.strip())
        if blank and not is_template:
            raise UnusableRow(empty, f"has no text in {name!r}", remedy)
        if not isinstance(value, allowed) or (isinstance(value, float) and not math.isfinite(value)):
            as_template = f"write {{{name}}} to take numbers as text"
            is_number = isinstance(value, (int, float)) and not is_template
            raise UnusableRow(
                empty if blank else UNREADABLE, f"has no text in {name!r}", as_template if is_number else remedy
            )
        try:
            str(value).encode()
        except ValueError:  # half a character, or a number of thousands of digits
            raise UnusableRow(UNREADABLE, f"has half a character in {name!r}", "save the text as UTF-8") from None

    def filled(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = record[match[1]]
        return value if isinstance(value, str) else json.dumps(value)

    text: str = _BRACES.sub(filled, wanted) if is_template else record[wanted]
    if not text.strip():
        raise UnusableRow(empty, f"gives no text for {wanted[:60]!r}", remedy)
    return text


PLAIN_FIELDS = RowFields()


@dataclass(frozen=True)
class Encoding:
    """How a row becomes tokens.

    `template`: `chat` renders the prompt as one user turn of the tokenizer's chat template,
    `plain` takes it as it stands. `separator` puts a space before the answer, `eos` an
    end-of-sequence token after it. `max_length` drops longer examples, counted in tokens.
    """

    template: str = "chat"
    separator: bool = True
    eos: bool = True
    max_length: int = 1024


@dataclass(frozen=True)
class Example:
    """One row as token ids; the answer ids carry the loss."""

    key: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True)
class Calibration:
    """Encoded examples in slice order, and how many rows were left out, by reason.

    Rows that are too long are counted among those chosen, all others in the whole source.
    """

    examples: tuple[Example, ...]
    encoding: Encoding
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """How many rows were left out, whatever the reason."""
        return sum(self.left_out.values())

    @property
    def digest(self) -> str:
        """Identity of what the model sees: the token ids, in order."""
        return digest(json.dumps([example.prompt_ids, example.answer_ids]) for example in self.examples)


def read_rows(path: Path | str) -> list[Row]:
    """Read a JSON-lines file of `{"prompt": …, "answer": …}` objects.

    Raises `DataError` naming the file and line for anything else, and for a file without rows.
    """
    file = user_path(path, DataError)
    try:
        text = read_limited(file, _MOST_BYTES).decode()
    except FileNotFoundError:
        raise DataError(f"no file at {str(path)!r}", "check the path of the JSON-lines file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name!r} could not be read as UTF-8 text", "save it as JSON lines") from error
    return parse_rows(text, file.name)


def parse_rows(text: str, name: str) -> list[Row]:
    """Parse JSON lines; `name` is used in messages only. See `read_rows`."""
    rows = []
    # split at line feeds only: JSON strings may hold the other characters that splitlines honours
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(PLAIN_FIELDS.row(parse_record(line)))
        except UnusableRow as error:
            raise DataError(f"line {number} of {name!r} {error.problem}", error.remedy) from error
    if not rows:
        raise DataError(f"{name!r} holds no rows", 'add lines like {"prompt": "2 + 2 =", "answer": "4"}')
    return rows


def parse_record(line: str) -> Any:
    """What one line of JSON lines holds; raises `UnusableRow`."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        raise UnusableRow(UNREADABLE, f"is not JSON ({reason})", "write one JSON object on each line") from error


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Counts by reason as `3 rows left out: 2 too long, 1 unreadable`; empty when nothing was left out."""
    counts = {reason: count for reason, count in left_out.items() if count}
    if not counts:
        return ""
    total = sum(counts.values())
    named = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{total:,} {'row' if total == 1 else 'rows'} left out: {named}"


def choose(rows: Sequence[Row], count: int | None, *, seed: int | None = 0, start: int = 0) -> list[Row]:
    """`count` rows from offset `start` after a shuffle seeded by `seed` (None keeps file order).

    `count` None takes everything from `start` on. Raises `DataError` when the range is empty or
    asks for more rows than there are.
    """
    available = max(0, len(rows) - start)
    wanted = available if count is None else count
    if start < 0 or wanted < 1 or wanted > available:
        raise DataError(
            f"{wanted} rows from offset {start} were asked for, but there are {len(rows)}",
            "lower the number of examples or the start offset",
        )
    order = np.arange(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows))
    return [rows[index] for index in order[start : start + wanted]]


def encode(
    rows: Sequence[Row], tokenizer: Any, encoding: Encoding, *, left_out: Mapping[str, int] | None = None
) -> Calibration:
    """Tokenise rows; prompt and answer separately, so that the boundary is exact.

    `left_out` counts by reason the rows that the source had to leave out before; those longer than
    `max_length` join them.
    Raises `DataError` when the template is unknown, the tokenizer has no chat template although
    one was asked for, or every row is longer than `max_length`.
    """
    examples = [_example(row, tokenizer, encoding) for row in rows]
    kept = tuple(example for example in examples if example.length <= encoding.max_length)
    if not kept:
        raise DataError(
            f"all {len(rows)} rows are longer than {encoding.max_length} tokens", "raise the length limit"
        )
    long = len(examples) - len(kept)
    return Calibration(kept, encoding, {**(left_out or {}), **({TOO_LONG: long} if long else {})})


def prompt_ids(text: str, tokenizer: Any, encoding: Encoding) -> list[int]:
    """The tokens that come before the answer. Raises `DataError` when the template cannot be used."""
    if encoding.template not in TEMPLATES:
        raise DataError(f"template {encoding.template!r} is not known", f"use one of {', '.join(TEMPLATES)}")
    if encoding.template == "chat" and not getattr(tokenizer, "chat_template", None):
        raise DataError("the tokenizer has no chat template", "use the plain template")
    if encoding.template == "chat":
        turn = [{"role": "user", "content": text}]
        try:
            rendered = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program of the model's, free to raise anything
            raise DataError(
                f"the chat template refuses a single user turn ({str(error)[:120]})", "use the plain template"
            ) from error
        # the template writes its own special tokens
        return list(tokenizer(rendered, add_special_tokens=False).input_ids)
    ids = list(tokenizer(text).input_ids)
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def _example(row: Row, tokenizer: Any, encoding: Encoding) -> Example:
    before = prompt_ids(row.prompt, tokenizer, encoding)
    answer_text = (" " if encoding.separator else "") + row.answer
    answer_ids = tokenizer(answer_text, add_special_tokens=False).input_ids
    if encoding.eos and tokenizer.eos_token_id is not None:
        answer_ids = [*answer_ids, tokenizer.eos_token_id]
    if not before or not answer_ids:
        empty = "prompt" if not before else "answer"
        raise DataError(
            f"the {empty} {getattr(row, empty)[:40]!r} has no tokens in this tokenizer", "remove the row"
        )
    return Example(row.key, tuple(before), tuple(answer_ids), row.answer)


def shared_keys(first: Sequence[Row], second: Sequence[Row]) -> set[str]:
    """Content hashes that two slices have in common; tuning and testing need this to be empty."""
    return {row.key for row in first} & {row.key for row in second}


@dataclass(frozen=True)
class Batch:
    """Padded tensors of shape (example, token) and the positions of the examples in the slice.

    `keep` is how many trailing positions are needed to score every answer token.
    """

    indices: tuple[int, ...]
    input_ids: "torch.Tensor"
    attention_mask: "torch.Tensor"
    position_ids: "torch.Tensor"
    labels: "torch.Tensor"
    keep: int


def run_batches(
    examples: Sequence[Example],
    batch_size: int,
    pad_id: int,
    step: Callable[[Batch], None],
    *,
    side: str = "left",
    start: int = 0,
) -> None:
    """Call `step` on batches of similar length, longest first, so that memory peaks at once and padding is small.

    The first `start` examples of `batch_order` are passed over: they were done before.
    When a step runs out of memory, or a layer cannot tell the rows apart, its batch is halved and the work
    goes on at the smaller size; a single example that does not fit raises `DataError`. A step must leave nothing behind when it fails.
    """
    if batch_size < 1:
        raise DataError(f"a batch of {batch_size} was asked for", "use a batch of 1 or more")
    order = batch_order(examples)
    done, size = start, batch_size
    while done < len(order):
        indices = order[done : done + size]
        batch = collate([examples[i] for i in indices], pad_id, indices=indices, side=side)
        if _fits(step, batch):
            done += len(indices)
        elif len(indices) > 1:
            size = len(indices) // 2
        else:
            raise DataError(
                f"one example of {examples[indices[0]].length} tokens does not fit into memory",
                "lower the length limit, switch gradient checkpointing on or use a smaller dtype",
            )


def batch_order(examples: Sequence[Example]) -> list[int]:
    """Positions of the examples in the order in which `run_batches` takes them."""
    return sorted(range(len(examples)), key=lambda i: (-examples[i].length, i))


def _fits(step: Callable[[Batch], None], batch: Batch) -> bool:
    """Whether the step went through; what it held is free again when this returns."""
    try:
        step(batch)
    except RowsMixedError:
        if len(batch.indices) == 1:
            raise
        return False
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    release()
    return False


def collate(
    examples: Sequence[Example], pad_id: int, *, indices: Sequence[int] | None = None, side: str = "left"
) -> Batch:
    """Pad prompt + answer to one length. Positions count real tokens only, on either side.

    Padding on the left aligns the ends, so the answers sit in the last few positions and the
    logits of everything before them need not be computed.
    """
    import torch

    width = max(example.length for example in examples)
    ids = torch.full((len(examples), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for i, example in enumerate(examples):
        begin = width - example.length if side == "left" else 0
        end = begin + example.length
        ids[i, begin:end] = torch.tensor(example.prompt_ids + example.answer_ids)
        mask[i, begin:end] = 1
        labels[i, end - len(example.answer_ids) : end] = torch.tensor(example.answer_ids)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    first_answer = int((labels != IGNORED).int().argmax(1).min())
    chosen = tuple(indices) if indices is not None else tuple(range(len(examples)))
    return Batch(chosen, ids, mask, positions, labels, width - first_answer + 1)
