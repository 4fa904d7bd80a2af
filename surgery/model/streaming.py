"""Streamed greedy answers of several variants to one prompt, and the word difference of two answers.

One batch carries every variant as a row of σ, so a token costs one forward pass for all of them.
Layers that cannot tell the rows of a batch apart get one variant after the other.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM
from surgery.data import CLASSIFIERS, Encoding, Example, prompt_ids, specimen
from surgery.errors import DataError, RowsMixedError
from surgery.model.labelling import labelled_text
from surgery.model.variant_rows import Variant, stacked_sigma
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel


def stream_answers(
    live: "LiveModel",
    prompt: str,
    variants: Mapping[str, Variant | None],
    encoding: Encoding,
    *,
    limit: int = 128,
    control: Control = SILENT,
) -> Iterator[dict[str, str]]:
    """Greedy answers of every variant so far, by name, after each token; of a classifier its labels, once.

    live: the stream's until it ends or is closed; afterwards it holds the adapter's own σ.
    variants: σ′ by module, None for the unedited adapter.
    encoding: how the prompt becomes tokens; one of more than `max_length` is refused.
    limit: most tokens of an answer, which also ends at end of sequence and where the model's positions end.
    control: polled before each token; raises `Cancelled` then.

    A text is stripped and holds complete characters only. Refusals come before the first step: `DataError`
    for a prompt that is empty or too long.
    """
    if not variants or limit < 1:
        raise DataError(f"{limit} tokens of {len(variants)} variants were asked for", "ask for one or more")
    task = live.base.task
    if task in CLASSIFIERS and prompt.strip():
        control.heed()
        return iter([labelled_text(live, prompt, variants, encoding)])
    ids = prompt_ids(prompt, live.tokenizer_for(encoding), encoding, task) if prompt.strip() else []
    if not ids:
        raise DataError("the prompt is empty", "write something for the model to answer")
    places = live.positions
    longest = min(encoding.max_length, places or encoding.max_length)
    if len(ids) > longest:
        raise DataError(f"the prompt is {len(ids)} tokens, more than {longest}", "shorten the prompt")
    if places:
        # the last token of an answer is never read back, so it needs no position
        limit = min(limit, places - len(ids) + 1 if task == CAUSAL_LM else places)
    return _Stream.of(live, ids, limit, encoding, control).answers(variants)


@dataclass(frozen=True)
class _Stream:
    """Answers to one prompt in the making.

    live: holds the adapter's own σ afterwards.
    ids: of the prompt.
    limit: most tokens of an answer.
    tokenizer: turns them into text.
    specimen: tells how answers open and end.
    ends: ids that end an answer.
    control: polled before each token.
    """

    live: "LiveModel"
    ids: list[int]
    limit: int
    tokenizer: Any
    specimen: Example
    ends: frozenset[int]
    control: Control

    @staticmethod
    def of(live: "LiveModel", ids: list[int], limit: int, encoding: Encoding, control: Control) -> "_Stream":
        from surgery.model.decoding import end_ids

        tokenizer = live.tokenizer_for(encoding)
        told = specimen(tokenizer, encoding, live.base.task)
        ends = end_ids(live) | frozenset([told.end] if told.end is not None else [])
        return _Stream(live, ids, limit, tokenizer, told, ends, control)

    def answers(self, variants: Mapping[str, Variant | None]) -> Iterator[dict[str, str]]:
        """The complete characters of every variant after each token, those that mix rows one after the other."""
        told = dict.fromkeys(variants, "")
        apart = self.live.way.decoding == "single"
        try:
            try:
                for texts in () if apart else self._together(variants):
                    told = {name: _extended(told[name], text) for name, text in texts.items()}
                    yield dict(told)
            except RowsMixedError:
                apart = True
            # experts may first be reached after some tokens; what has been told then stays
            for name, sigma in variants.items() if apart else ():
                for texts in self._together({name: sigma}):
                    told[name] = _extended(told[name], texts[name])
                    yield dict(told)
        finally:
            self.live.set_sigma(None)

    def _together(self, variants: Mapping[str, Variant | None]) -> Iterator[dict[str, str]]:
        """Texts of `variants` in one batch after each token, as the tokenizer decodes them."""
        from surgery.model.rereading import Text, beginning, read_prompts

        self.control.heed()
        self.live.set_sigma(stacked_sigma(self.live, variants))
        begin = beginning(self.live, self.specimen.answer_ids, self.specimen.opening)
        prompts = read_prompts(self.live, [Text(tuple(self.ids), (), begin.start)] * len(variants))
        answers: dict[str, list[int]] = {name: [] for name in variants}
        texts = dict.fromkeys(variants, "")
        ended: set[str] = set()
        for count in range(1, self.limit + 1):
            chosen = prompts.chosen
            if count == 1 and begin.first is not None:
                chosen = [begin.first] * len(variants)
            ended |= {name for name, token in zip(variants, chosen, strict=True) if token in self.ends}
            self.control.heed()
            for name, token in zip(variants, chosen, strict=True):
                if name not in ended:
                    answers[name].append(token)
                    # the whole row: a token alone may be part of a character, or lose the space before it
                    texts[name] = self._text(answers[name])
            yield dict(texts)
            if count == self.limit or len(ended) == len(variants):
                return
            # a row that has ended stays: its few more tokens cost less than sorting it out
            prompts.advance(chosen)

    def _text(self, ids: list[int]) -> str:
        found: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return found.partition(self.specimen.stop)[0] if self.specimen.stop else found


def _extended(told: str, text: str) -> str:
    """`text` up to its last complete character; `told` while that is no longer than what was told.

    Byte tokens may take back a character until the next one is complete.
    """
    text = text.rstrip("\ufffd").strip()
    return told if told.startswith(text) else text


def difference(before: str, after: str) -> list[tuple[str, str]]:
    """Runs of words: ("same" | "gone" | "new", text). Same and gone make `before`, same and new make `after`."""
    old, new = _words(before), _words(after)
    runs = []
    # white space is junk: it may end a run of equal words, but two answers do not meet in a space alone
    for _, a, b, c, d in SequenceMatcher(str.isspace, old, new, autojunk=False).get_opcodes():
        gone, come = "".join(old[a:b]), "".join(new[c:d])
        runs += [("same", gone)] if gone == come else [("gone", gone), ("new", come)]
    return [(kind, text) for kind, text in runs if text]


def _words(text: str) -> list[str]:
    """Words and the white space between them; joined they are the text."""
    return re.findall(r"\s+|\S+", text)
