"""Requests of lm-eval as token ids, and token ids as its texts: exactly as its own HF model makes them.

Followed is `HFLM` of lm-eval 0.4.13 for a causal model with nothing but model and tokenizer given, at a
batch of one; the tests hold the two together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.errors import DataError
from surgery.evaluation import Stops

_DEFAULT_NEW_TOKENS = 256
_DEFAULT_LENGTH = 2048
# options that say nothing as long as the best token is taken
_INERT = {"temperature", "do_sample", "top_p", "top_k", "min_p", "typical_p"}
# settings of a model that HF's generate follows even then, and the values that change nothing
_STEERING: Mapping[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "num_beams": (None, 1),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "bad_words_ids": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None,),
}


@dataclass(frozen=True)
class Prompt:
    """What the model reads before its answer; `lost` counts the tokens cut off before, in a prompt that is too long."""

    ids: list[int]
    lost: int = 0


ContextAndContinuation = tuple[Prompt, list[int]]


@dataclass(frozen=True)
class Ending:
    """Where an answer ends: after `new_tokens` tokens, or at one of the texts in `until`."""

    new_tokens: int
    until: tuple[str, ...]


class Texts:
    """The tokenizer of a base model as lm-eval uses it; `max_length` is in tokens.

    Of an answer counts what follows the last `think_end`, a text or the id of a token.
    """

    def __init__(self, tokenizer: Any, config: Any, think_end: str | int | None = None) -> None:
        from lm_eval.models.utils import resolve_max_length

        self._tokenizer = tokenizer
        self.max_length: int = resolve_max_length(config, tokenizer, default=_DEFAULT_LENGTH)
        eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
        if eos is None:
            raise DataError("the tokenizer has no end-of-sequence token", "use the tokenizer of the base model")
        self._prefix: int = eos if bos is None else bos
        self._prefix_text: str = tokenizer.decode(self._prefix)
        self._eos_text: str = tokenizer.decode(eos, skip_special_tokens=False)
        is_id = isinstance(think_end, int) or (think_end or "").isdigit()
        self._think_id = int(think_end) if is_id and think_end is not None else None
        self._think_text = None if is_id else think_end

    def pair(self, context: str, continuation: str) -> ContextAndContinuation:
        """Ids of a context and of what follows it, cut on the left to the model's length.

        The two are tokenised together, and spaces that end the context go to the continuation. Raises
        `DataError` for a continuation without tokens or one longer than the model.
        """
        if context == "":
            # the first token of the continuation stands for the prefix when it is the same
            after = self._ids(continuation, special=False)
            before, after = ([self._prefix], after) if after[:1] != [self._prefix] else (after[:1], after[1:])
        else:
            stripped = context.rstrip()
            whole = self._ids(context + continuation)
            before = self._ids(stripped)
            after = whole[len(before) :]
        if not before or not after or len(after) > self.max_length:
            raise DataError(
                f"a task scores {len(after)} tokens after {len(before)}, and the model reads {self.max_length}",
                "leave out this example, or choose a task that fits the model",
            )
        kept = (before + after)[-(self.max_length + 1) : -len(after)]
        return Prompt(kept, len(before) - len(kept)), after

    def windows(self, text: str) -> list[ContextAndContinuation]:
        """The pairs whose log likelihoods add up to that of a text of any length."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        windows = get_rolling_token_windows(
            token_list=self._ids(text), prefix_token=self._prefix, max_seq_len=self.max_length, context_len=1
        )
        pairs = [make_disjoint_window(window) for window in windows]
        return [(Prompt(before), after) for before, after in pairs]

    def prompt(self, context: str, ending: Ending) -> Prompt:
        """Ids of a prompt, cut on the left so that the answer fits behind it. Raises `DataError`."""
        room = self.max_length - ending.new_tokens
        if room < 1:
            raise DataError(
                f"an answer of {ending.new_tokens} tokens leaves no room in a model of {self.max_length}",
                "choose a base model that reads more, or another task",
            )
        bos = self._tokenizer.bos_token
        special = {"add_special_tokens": False} if bos is not None and context.startswith(bos) else {}
        ids: list[int] = list(self._tokenizer(context, **special).input_ids)
        if not ids:
            raise DataError("a task gives an empty prompt", "choose another task or slice")
        return Prompt(ids[-room:], max(0, len(ids) - room))

    def said(self, prompt: Prompt) -> str:
        """The text of a prompt as it is asked, what was cut off left out."""
        text: str = self._tokenizer.decode(prompt.ids, skip_special_tokens=False)
        return text

    def ending(self, options: Mapping[str, Any]) -> Ending:
        """Where generation stops by a task's own options; raises `DataError` for options beyond greedy."""
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

        asked = dict(normalize_gen_kwargs(dict(options), _DEFAULT_NEW_TOKENS))
        until = handle_stop_sequences(asked.pop("until", None), eos=self._eos_text)
        new_tokens = int(asked.pop("max_gen_toks"))
        others = sorted(key for key, value in asked.items() if key not in _INERT and value is not None)
        if asked.get("do_sample") or others:
            what = "samples its answers" if asked.get("do_sample") else f"asks for {', '.join(others)}"
            raise DataError(f"the task {what}, and answers here are greedy", "choose a task with greedy answers")
        return Ending(new_tokens, tuple(until))

    def answer(self, ids: Sequence[int], ending: Ending) -> str:
        """The text of generated ids after the thought, cut before the first text that ends it."""
        from lm_eval.models.utils import postprocess_generated_text

        ids = list(ids)
        if self._think_id in ids:
            ids = ids[len(ids) - ids[::-1].index(self._think_id) :]
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        if self._think_id is not None:
            text = text.lstrip()  # also where no thought ends, as lm-eval does
        cut: str = postprocess_generated_text(
            generation=text, stop=list(ending.until), think_end_token=self._think_text
        )
        return cut

    def stops(self, endings: Sequence[Ending]) -> Stops:
        return Stops(self._tokenizer, [ending.until for ending in endings])

    def _ids(self, text: str, *, special: bool | None = None) -> list[int]:
        options = {} if special is None else {"add_special_tokens": special}
        if special is None and text.startswith(self._prefix_text):
            options = {"add_special_tokens": False}
        return list(self._tokenizer.encode(text, **options))


def chat_prompt(
    tokenizer: Any, args: Mapping[str, Any], turns: list[dict[str, str]], add_generation_prompt: bool = True
) -> str:
    """Turns of a conversation in the tokenizer's chat template; without the system turn where it is refused.

    `args` are the template's own arguments.
    """
    from jinja2.exceptions import TemplateError

    options = {
        **args,
        "tokenize": False,
        "add_generation_prompt": add_generation_prompt,
        "continue_final_message": not add_generation_prompt,
    }
    try:
        rendered: str = tokenizer.apply_chat_template(turns, **options)
    except TemplateError:
        others = [turn for turn in turns if turn["role"] != "system"]
        rendered = tokenizer.apply_chat_template(others, **options)
    return rendered


def steering(generation_config: Any) -> list[str]:
    """Settings of a model that lm-eval's generation follows and plain greedy generation does not."""
    held = {name: getattr(generation_config, name, None) for name in _STEERING}
    return [f"{name} {value}" for name, value in held.items() if value not in _STEERING[name]]
