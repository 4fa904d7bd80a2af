"""One row as a model reads it: token ids, and which of them carry the loss."""

from dataclasses import dataclass

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS

IGNORED = -100
CLASSIFIERS = (SEQ_CLS, TOKEN_CLS)


@dataclass(frozen=True)
class Example:
    """One row as token ids; the answer ids carry the loss.

    prompt_ids, answer_ids: of a causal language model the two parts of one sequence; of a sequence-to-sequence model
        what the encoder reads and the labels of the decoder; of a classifier the whole text, and in place of an
        answer the number of its label, or of a tag for every token, `IGNORED` where none is asked for.
    end: the id that ends the answer, where generation stops too; None where nothing does.
    stop: text of an end that is several tokens, at which generation stops; empty otherwise.
    task: one of `TASKS`; what the ids mean.
    opening: the language code that a tokenizer writes before every answer; None where it writes none.
    segments: of every token that a classifier reads, where it tells two texts apart; else empty.
    """

    key: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str
    end: int | None = None
    stop: str = ""
    task: str = CAUSAL_LM
    opening: int | None = None
    segments: tuple[int, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """All of its token ids; labels of a classifier are none."""
        return self.prompt_ids if self.task in CLASSIFIERS else (*self.prompt_ids, *self.answer_ids)

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.tokens)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each of its sequences: two for a sequence-to-sequence model, otherwise one."""
        if self.task == SEQ_2_SEQ_LM:
            return len(self.prompt_ids), len(self.answer_ids)
        return (self.length,)

    @property
    def span(self) -> int:
        """Tokens of its longest sequence, which the model needs positions for."""
        return max(self.lengths)
