"""How far the logits of a converted adapter, loaded by PEFT, are from those of what it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.conversion.plan import LogitError
from surgery.data import Encoding, encode, read_source
from surgery.model import LoadedBase

if TYPE_CHECKING:
    import torch

_ROWS, _TOKENS = 8, 32
_ANY_LENGTH = 1 << 30
_LONGEST = 128  # tokens of a row: logits over a large vocabulary take half a megabyte each


@dataclass(frozen=True)
class Probe:
    """Rows of token ids, and what they are."""

    ids: Sequence[Sequence[int]]
    what: str


def probe_ids(base: LoadedBase, data: str) -> Probe:
    """The beginnings of the first rows of `data`, without a template; random tokens where none is named."""
    longest = min(_LONGEST, getattr(base.model.config, "max_position_embeddings", None) or _LONGEST)
    if data:
        rows = read_source(data).rows[:_ROWS]
        examples = encode(rows, base.tokenizer, Encoding(template="plain", max_length=_ANY_LENGTH)).examples
        cut = [[*example.prompt_ids, *example.answer_ids][:longest] for example in examples]
        return Probe(cut, "the data")
    import torch

    size = base.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    drawn = torch.randint(size, (_ROWS, min(_TOKENS, longest)), generator=torch.Generator().manual_seed(0))
    return Probe(drawn.tolist(), "random tokens")


def logits_on(model: Any, rows: Probe) -> "list[torch.Tensor]":
    """The logits of each row alone, in float32 on the CPU; a decoder is given what its encoder reads."""
    import torch

    device = next(model.parameters()).device
    found = []
    with torch.inference_mode():
        for ids in rows.ids:
            given = {"input_ids": torch.tensor([ids], device=device)}
            if getattr(model.config, "is_encoder_decoder", False):
                given["decoder_input_ids"] = given["input_ids"]
            found.append(model(**given).logits[0].float().cpu())
    return found


def logit_error(source: "Sequence[torch.Tensor]", result: "Sequence[torch.Tensor]", rows: Probe) -> LogitError:
    """Largest difference over the largest logit of the source."""
    apart = max(float((a - b).abs().max()) for a, b in zip(source, result, strict=True))
    return LogitError(apart / max(float(a.abs().max()) for a in source), len(source), rows.what)
