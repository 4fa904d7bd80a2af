"""Rows for a sequence-to-sequence model: what its encoder reads, and the labels of its decoder.

Both are tokenised by themselves as training does it, each with the special tokens that the tokenizer writes around
an input and around a target: an end of sequence, and the codes of languages where it knows them.
"""

import copy
from dataclasses import dataclass
from typing import Any

from surgery.adapter import SEQ_2_SEQ_LM
from surgery.data.encoding import Encoding
from surgery.data.example import Example
from surgery.data.rendering import template_arguments
from surgery.data.rows import NO_ANSWER, NO_PROMPT, NOT_RENDERED, Row, UnusableRow
from surgery.errors import DataError, first_line

_LANGUAGES = ("src_lang", "tgt_lang")
_NAME_THEM = (
    """name them: --template-args '{"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}', as this tokenizer does"""
)


@dataclass(frozen=True)
class PairEncoder:
    """What turns prompts and answers into the two sequences of an example, made once for all rows.

    frame: the special tokens that the tokenizer writes around a target.
    """

    tokenizer: Any
    encoding: Encoding
    frame: tuple[int, ...]

    @staticmethod
    def of(tokenizer: Any, encoding: Encoding) -> "PairEncoder":
        """Raises `DataError` for a template, and for languages that the tokenizer does not know."""
        if encoding.template != "plain":
            raise DataError(
                "a sequence-to-sequence model reads no conversation, so no template file is used",
                "use the plain template (--template plain)",
            )
        tokenizer = _with_languages(tokenizer, template_arguments(encoding.template_args))
        try:
            frame = tuple(map(int, tokenizer(text_target="").input_ids))
        except Exception as error:  # tokenizers look their target language up in whatever way they like
            raise DataError(
                f"the tokenizer writes no targets without a language ({first_line(error, kind=True)})", _NAME_THEM
            ) from error
        return PairEncoder(tokenizer, encoding, frame)

    def before(self, text: str) -> list[int]:
        """The ids that the encoder reads."""
        return list(self.tokenizer(text).input_ids)

    def example(self, row: Row) -> Example:
        """The example of a row; raises `UnusableRow` for a conversation and for a text without tokens."""
        if row.messages:
            raise UnusableRow(
                NOT_RENDERED,
                "a row is a conversation, which a sequence-to-sequence model does not read",
                "give rows of prompt and answer",
            )
        separator = " " if self.encoding.separator else ""
        before, labels = (
            self.before(row.prompt),
            list(self.tokenizer(text_target=separator + row.answer).input_ids),
        )
        if not row.prompt.strip() or not before:
            raise UnusableRow(NO_PROMPT, f"the prompt {row.prompt[:40]!r} has no tokens", "remove the row")
        if len(labels) <= len(self.frame):
            raise UnusableRow(NO_ANSWER, f"the answer {row.answer[:40]!r} has no tokens", "remove the row")
        eos = self.tokenizer.eos_token_id
        if not self.encoding.eos and labels[-1] == eos:
            labels.pop()
        # mBART writes the language after it
        end = eos if eos in labels[-2:] else None
        return Example(
            row.key, tuple(before), tuple(labels), row.answer, end, task=SEQ_2_SEQ_LM, opening=self.opening
        )

    @property
    def opening(self) -> int | None:
        """The language code that stands before every answer; None where none does."""
        first = self.frame[0] if self.frame else None
        plain = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        # a code after the end of the text begins the decoder, which the model's own shift sees to
        return None if first in plain else first


def _with_languages(tokenizer: Any, named: dict[str, Any]) -> Any:
    """The tokenizer, or one of its own set to these languages; raises `DataError` for what it does not know."""
    if not named:
        return tokenizer
    for name, language in named.items():
        if name not in _LANGUAGES or not hasattr(tokenizer, name):
            raise DataError(
                f"{name!r} is no setting of this tokenizer",
                "leave it out" if not hasattr(tokenizer, "src_lang") else f"use {' and '.join(_LANGUAGES)}",
            )
        known = tokenizer.get_vocab()
        if not isinstance(language, str) or not {language, f"__{language}__"} & known.keys():
            raise DataError(f"{language!r} is no language of this tokenizer", "use one of its language codes")
    own = copy.deepcopy(tokenizer)
    for name, language in named.items():
        setattr(own, name, language)
    return own
