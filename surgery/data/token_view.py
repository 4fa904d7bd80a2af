"""Encoded rows as a person reads them, token by token, and what is odd about how they were encoded.

What is odd is told in sentences, each with a way out: the ids decide what a measurement means, and a wrong
template or a second start of text is not to be seen in a loss.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

from surgery.adapter import SEQ_2_SEQ_LM, TOKEN_CLS
from surgery.data.encoding import APART, Encoding
from surgery.data.example import CLASSIFIERS, IGNORED, Example
from surgery.data.examples import Calibration
from surgery.data.rendering import (
    ChatTemplate,
    chat_template,
    markers,
    parse_date,
    prints_date,
    template_arguments,
)
from surgery.data.rows import Message, Row, left_out_text
from surgery.errors import DataError

BOS, EOS, END, LABEL = "BOS", "EOS", "end of turn", "label"
_LONGEST = 60  # letters of what is quoted from a file
_SENTINEL = "Q7x9"


@dataclass(frozen=True)
class Token:
    """One token of an example; `name` is BOS, EOS or end of turn, empty for others; the loss counts `scored` ones."""

    id: int
    text: str
    scored: bool
    name: str = ""


def token_view(example: Example, tokenizer: Any, encoding: Encoding) -> tuple[Token, ...]:
    """The tokens of an example in order, those of the prompt first; `tokenizer` and `encoding` made it.

    Of a classifier's, a word's tag is the name of its first token, and a text's label follows the text.
    """
    ids = list(example.tokens)
    texts = token_texts(set(ids), tokenizer)
    begins = next((i for i, number in enumerate(ids) if number != tokenizer.bos_token_id), len(ids))
    if example.task in CLASSIFIERS:
        return _labelled_view(example, texts)
    names = {tokenizer.eos_token_id: EOS}
    if example.end is not None and encoding.template != "plain":
        names[example.end] = f"{END}, {EOS}" if example.end in names else END
    return tuple(
        Token(number, texts[number], i >= len(example.prompt_ids), BOS if i < begins else names.get(number, ""))
        for i, number in enumerate(ids)
    )


def token_texts(ids: Iterable[int], tokenizer: Any) -> dict[int, str]:
    """Each token id with the text that it stands for; part of a character with the tokenizer's own name of it."""
    special = {number: token for token, number in markers(tokenizer).items()}
    # behind another word, because a first one may lose the space before it
    anchor = list(tokenizer("a", add_special_tokens=False).input_ids)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    before = tokenizer.decode(anchor, **options)
    texts = {}
    for number in ids:
        after = tokenizer.decode([*anchor, number], **options)
        text = after[len(before) :] if after.startswith(before) else ""
        raw = str(tokenizer.convert_ids_to_tokens(number))
        texts[number] = special.get(number) or (raw if not text or "\ufffd" in text else text)
    return texts


def _labelled_view(example: Example, texts: Mapping[int, str]) -> tuple[Token, ...]:
    if example.task != TOKEN_CLS:
        read = [Token(number, texts[number], False) for number in example.prompt_ids]
        return (*read, Token(example.answer_ids[0], example.answer, True, LABEL))
    numbers = [label for label in example.answer_ids if label != IGNORED]
    tags = example.answer.split(" ")
    told = iter(tags if len(tags) == len(numbers) else map(str, numbers))
    return tuple(
        Token(number, texts[number], label != IGNORED, next(told) if label != IGNORED else "")
        for number, label in zip(example.prompt_ids, example.answer_ids, strict=True)
    )


def oddities(calibration: Calibration, rows: Sequence[Row], tokenizer: Any) -> tuple[str, ...]:
    """What is odd about encoded rows, a sentence each; empty where nothing is.

    rows: what was encoded; those without an example in `calibration` were left out.
    tokenizer: that encoded them.
    """
    encoding, examples = calibration.encoding, calibration.examples
    kept = {example.key for example in examples}
    used = [row for row in rows if row.key in kept]
    found = [
        *_doubled(examples, tokenizer),
        *_unknown(examples, tokenizer),
        *_endless(examples, encoding),
        *_one_language(examples, tokenizer, encoding),
    ]
    if encoding.template != "plain":
        template = chat_template(tokenizer, encoding)
        found += [*_rendered_before(used, template), *_dated(used, tokenizer, encoding)]
        if encoding.tokenised != APART:
            found += _other_opening(used, template)
    if calibration.left_out:
        why = f": the first is refused because {calibration.problem}" if calibration.problem else ""
        found.append(f"{left_out_text(calibration.left_out)}{why}")
    return tuple(found)


def _doubled(examples: Sequence[Example], tokenizer: Any) -> Iterable[str]:
    bos = tokenizer.bos_token_id

    def twice(example: Example) -> bool:
        ids = list(example.tokens)
        return ids[:2] == [bos, bos] or (bos != tokenizer.eos_token_id and (bos, bos) in pairwise(ids))

    if bos is not None and (number := sum(map(twice, examples))):
        yield (
            f"{_share(number, examples)} two BOS ({_quoted(tokenizer.bos_token)}) one after the other: the text holds "
            "one of its own, so take it out of the rows"
        )
    if number := sum(e.end is not None and e.answer_ids[-2:] == (e.end, e.end) for e in examples):
        yield f"{_share(number, examples)} their end twice: the answers hold one of their own, so take it out"


def _unknown(examples: Sequence[Example], tokenizer: Any) -> Iterable[str]:
    unknown = getattr(tokenizer, "unk_token_id", None)
    known_as = {tokenizer.bos_token_id, tokenizer.eos_token_id, getattr(tokenizer, "pad_token_id", None)}
    if unknown is None or unknown in known_as:
        return
    if number := sum(unknown in e.tokens for e in examples):
        yield f"{_share(number, examples)} text that the tokenizer does not know: is it the adapter's?"


def _endless(examples: Sequence[Example], encoding: Encoding) -> Iterable[str]:
    written = [example for example in examples if example.task not in CLASSIFIERS]
    number = sum(example.end is None and not example.stop for example in written)
    if not number:
        return
    why = (
        "it was switched off (--eos scores it)"
        if not encoding.eos
        else "the tokenizer has no end of text"
        if encoding.template == "plain"
        else "the template writes none (--template names another)"
    )
    yield f"{_share(number, examples)} no end that is scored: {why}"


def _one_language(examples: Sequence[Example], tokenizer: Any, encoding: Encoding) -> Iterable[str]:
    """Answers read in the language of the prompts, which a tokenizer takes where it is told no other."""
    source, target = (getattr(tokenizer, name, None) for name in ("src_lang", "tgt_lang"))
    named = "tgt_lang" in template_arguments(encoding.template_args)
    if source and not named and target in (None, source) and examples[0].task == SEQ_2_SEQ_LM:
        yield (
            f"prompts and answers are both read as {_quoted(source)}, as the tokenizer has it: name others with "
            '--template-args \'{"src_lang": …, "tgt_lang": …}\''
        )


def _rendered_before(rows: Sequence[Row], template: ChatTemplate) -> Iterable[str]:
    """Prompts that hold what the template is about to write around them."""
    own = [token for token in template.ends[0] if token in template.text]
    opening = template.apply([Message("user", _SENTINEL)]).split(_SENTINEL)[0].split()[-1:]
    own += [word for word in opening if len(word) > 3 and not word.isalnum()]

    def holds(row: Row) -> str:
        # not the answers: a thought has markers of its own there
        asked = [message.content for message in row.messages if message.role != "assistant"] or [row.prompt]
        return next((token for token in own if any(token in text for text in asked)), "")

    held = [token for token in map(holds, rows) if token]
    if held:
        yield (
            f"{_share(len(held), rows)} the template's own {_quoted(held[0])} in its text: rows that are rendered "
            "already take the plain template (--template plain)"
        )


def _other_opening(rows: Sequence[Row], template: ChatTemplate) -> Iterable[str]:
    """What the template opens for an answer that is to be written, and leaves out around one that is."""

    def left_out(row: Row) -> str:
        if not (row.prompt or row.messages):
            return ""
        rendered = template.render(row.messages or (Message("user", row.prompt), Message("assistant", row.answer)))
        same = next(
            (i for i, (a, b) in enumerate(zip(rendered.prompt, rendered.whole, strict=False)) if a != b),
            min(len(rendered.prompt), len(rendered.whole)),
        )
        return rendered.prompt[same:].strip()

    found = [text for text in _each(rows, left_out) if text]
    if found:
        yield (
            f"the template opens an answer with {_quoted(found[0])}, which {len(found):,} of {len(rows):,} rows have "
            "not: they are read without it, here and when answers are generated"
        )


def _dated(rows: Sequence[Row], tokenizer: Any, encoding: Encoding) -> Iterable[str]:
    """The day that a template prints, found by rendering a row on another one."""
    if not rows or not prints_date(tokenizer, encoding):
        return
    day = parse_date(encoding.date)
    other = replace(encoding, date=(day + timedelta(days=400)).isoformat())
    both = [chat_template(tokenizer, each) for each in (encoding, other)]
    turns = rows[0].messages or (Message("user", rows[0].prompt), Message("assistant", rows[0].answer))
    try:
        if both[0].apply(turns) != both[1].apply(turns):
            yield f"the template prints the day, and {day.isoformat()} is used (--date)"
    except DataError:
        return


def _each(rows: Sequence[Row], told: Callable[[Row], str]) -> Iterable[str]:
    for row in rows:
        try:
            yield told(row)
        except DataError:  # this row is left out, and told as that
            continue


def _share(number: int, of: Sequence[Any]) -> str:
    return f"{number:,} of {len(of):,} rows {'has' if number == 1 else 'have'}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
