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


@dataclass(frozen=True)
class Probe:
    """Rows of token ids, and what they are."""

    ids: Sequence[Sequence[int]]
    what: str


def probe_ids(base: LoadedBase, data: str) -> Probe:
    """The first rows of `data` with their answers, without a template; random tokens where none is named."""
    if data:
        rows = read_source(data).rows[:_ROWS]
        examples = encode(rows, base.tokenizer, Encoding(template="plain")).examples
        return Probe([[*example.prompt_ids, *example.answer_ids] for example in examples], "the data")
    import torch

    size = base.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    drawn = torch.randint(size, (_ROWS, _TOKENS), generator=torch.Generator().manual_seed(0))
    return Probe(drawn.tolist(), "random tokens")


def logits_on(model: Any, rows: Probe) -> "list[torch.Tensor]":
    """The logits (tokens, vocabulary) of each row alone, in float32 on the CPU."""
    import torch

    device = next(model.parameters()).device
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids], device=device)).logits[0].float().cpu() for ids in rows.ids]


def logit_error(source: "Sequence[torch.Tensor]", result: "Sequence[torch.Tensor]", rows: Probe) -> LogitError:
    """Largest difference over the largest logit of the source."""
    apart = max(float((a - b).abs().max()) for a, b in zip(source, result, strict=True))
    return LogitError(apart / max(float(a.abs().max()) for a in source), len(source), rows.what)
