"""Greedy decoding of a sequence-to-sequence model: prompts read once by the encoder, answers written by the decoder.

What the encoder has read stays; the decoder keeps the keys and values of its own tokens, and those that it looks up
in the encoder's, in a cache whose rows may be selected.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache

from surgery.errors import BaseModelError
from surgery.model.decoding import CACHE, is_selectable, padded
from surgery.model.live_model import LiveModel
from surgery.model.loss import decoder_inputs
from surgery.model.reading import Scorable
from surgery.model.ways import Layout


class EncodedPrompts(Scorable):
    """Rows whose prompts the encoder has read, and the logits of their next token.

    live: holds the σ of the rows.
    prompts: token ids of each row.
    written: what the decoder of each row has read already, as many ids in every row; its start is one of them.
    layout: how the prompts stand.
    width: what prompts are padded to, so that they can be joined with longer ones.
    cached: whether the decoder keeps what it has read; otherwise it reads that again for every token.
    """

    joinable = True
    kept = True

    @torch.inference_mode()
    def __init__(
        self,
        live: LiveModel,
        prompts: Sequence[Sequence[int]],
        written: Sequence[Sequence[int]],
        *,
        layout: Layout = "right",
        width: int | None = None,
        cached: bool = True,
    ) -> None:
        self._model, self._cached, self._cache = live.model, cached, None
        ids, mask = padded(live, prompts, width=width, layout=layout)
        self._where = {} if layout in ("equal", "single") else {"attention_mask": mask}
        output = live.model.get_encoder()(input_ids=ids, **self._where)
        # the model looks for its own kind of output, as those with experts do
        self._states, self._kind = output.last_hidden_state, type(output)
        self._ids = torch.tensor(written, device=live.device)
        self._logits: Float[Tensor, "row vocabulary"] | None = None

    @property
    def following(self) -> Float[Tensor, "row vocabulary"]:
        """Logits of the next token of every row; the decoder reads when it is first asked, of joined rows at once."""
        if self._logits is None:
            self._logits = self._decode(self._ids)
        return self._logits

    @torch.inference_mode()
    def _decode(self, ids: Int[Tensor, "row token"]) -> Float[Tensor, "row vocabulary"]:
        """Logits after ids that follow what the cache holds."""
        held: dict[str, Any] = {} if self._cache is None else {CACHE: self._cache}
        output = self._run(decoder_input_ids=ids, use_cache=self._cached, **held)
        self._cache = getattr(output, CACHE, None) if self._cached else None
        logits: Tensor = output.logits[:, -1]
        return logits

    def _run(self, **given: Any) -> Any:
        return self._model(encoder_outputs=self._kind(last_hidden_state=self._states), **self._where, **given)

    @torch.inference_mode()
    def join(self, others: "Sequence[EncodedPrompts]") -> None:
        """Take over the rows of `others`, of the same width; none of them has been asked for a token yet."""
        everyone = [self, *others]
        self._states = torch.cat([each._states for each in everyone])
        self._ids = torch.cat([each._ids for each in everyone])
        self._where = {name: torch.cat([each._where[name] for each in everyone]) for name in self._where}

    @torch.inference_mode()
    def answer_logits(self, answers: Sequence[Sequence[int]]) -> Float[Tensor, "row token vocabulary"]:
        """Logits before each label of each row, after the longest's length. The state stays."""
        given = decoder_inputs(self._model, self._labels(answers))
        logits: Tensor = self._run(**given, use_cache=False).logits
        return logits

    def advance(self, tokens: Sequence[int]) -> None:
        """Append one token to every row."""
        given = torch.tensor(tokens, device=self._ids.device)[:, None]
        self._ids = torch.cat([self._ids, given], dim=1)
        self._logits = self._decode(self._ids if self._cache is None else given)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows. The live model must hold their σ already."""
        index = torch.tensor(rows, device=self._ids.device)
        self._states, self._ids = self._states[index], self._ids[index]
        self._where = {name: given[index] for name, given in self._where.items()}
        self._logits = None if self._logits is None else self._logits[index]
        if self._cache is not None and _is_selectable(self._cache):
            self._cache.reorder_cache(index)
        else:
            self._cache = None  # read again with the next token


def _is_selectable(cache: Any) -> bool:
    """Whether all of a cache follows when its rows are selected."""
    return type(cache) is EncoderDecoderCache and all(
        map(is_selectable, (cache.self_attention_cache, cache.cross_attention_cache))
    )


def decoder_start(live: LiveModel, answer: Sequence[int] = ()) -> int:
    """The id that the decoder begins with: the one that the model's shift puts before these labels.

    Most models have one; mBART's kinds take the language after the labels' end. Raises `BaseModelError` for a model
    that names none.
    """
    start = shifted_start(live, answer) if answer else None
    if start is not None and start in live.base.tokenizer.all_special_ids:  # a word would give the answer away
        return start
    for config in (getattr(live.model, "generation_config", None), live.model.config):
        named = getattr(config, "decoder_start_token_id", None)
        if isinstance(named, int):
            return named
    raise BaseModelError(
        f"the config of this {type(live.model).__name__} names no decoder_start_token_id",
        "add it to the base model's config.json",
    )


def shifted_start(live: LiveModel, labels: Sequence[int]) -> int | None:
    """The first id that the model's own shift makes of labels; None where the model does not show its shift."""
    given = decoder_inputs(live.model, torch.tensor([list(labels)], device=live.device)).get("decoder_input_ids")
    return None if given is None else int(given[0, 0])


def first_token(live: LiveModel, opening: int | None) -> int | None:
    """The token that every answer is made to begin with: the language of the rows, or what the checkpoint names."""
    if opening is not None:
        return opening
    named = getattr(getattr(live.model, "generation_config", None), "forced_bos_token_id", None)
    return named if isinstance(named, int) else None
