"""What a component writes: the logits of ±uₖ through the model's own final norm and head (logit lens, nostalgebraist 2020).

The direction stands for the whole hidden state: √d·u, whose root mean square is 1, goes through the norm and the head,
and what they make of zero, their biases, is taken off. So the norm's weights apply, its scale is that of a state of
this size. Left out is what later blocks make of the direction, a norm that some families have between a module and the
stream, and constant factors that a model puts on all of its logits. The same of random unit directions tells what a list of tokens is worth.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int64
from numpy import ndarray

from surgery.adapter import RESIDUAL, SEQ_2_SEQ_LM, EmbeddingSite, role_of
from surgery.data import CLASSIFIERS, Example
from surgery.errors import BaseModelError
from surgery.microscope.directions import random_directions
from surgery.model import collate, scored_logits

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgery.model import LiveModel

LISTED = 12
_AT_ONCE = 32  # directions, so that a large vocabulary's logits stay small
_SHARES = "the shares of tokens and what reads need no head"


@dataclass(frozen=True)
class Lens:
    """The tokens with the largest logits of u and of −u of every component, the largest first.

    `deviations` are the same logits in standard deviations of that token's logit over random directions; `random` is
    the top logit of each random direction.
    """

    tokens: Int64[ndarray, "rank 2 listed"]
    logits: Float32[ndarray, "rank 2 listed"]
    deviations: Float32[ndarray, "rank 2 listed"]
    random: Float32[ndarray, " direction"]


def logit_lens(live: "LiveModel", name: str, example: Example) -> Lens:
    """What the components of a module that writes into the residual stream write, as logits of tokens.

    live: the adapter in its running base model, at the adapter's own σ.
    name: of the module.
    example: any row, which is put through the model once to see what its head is given.

    Raises `BaseModelError` for a module that writes elsewhere, a classifier, whose head says labels, the encoder of a
    sequence-to-sequence model, and a model whose head is not given the output of a norm.
    """
    outlet = _outlet(live, name, example)
    U = _written(live, name)
    random = np.zeros(0, dtype=np.float32)
    squares: ndarray = np.zeros(0)
    for logits in outlet.logits(random_directions(U.shape[0])):
        random = np.append(random, logits.max(axis=1))
        squares = (squares if squares.size else np.zeros(logits.shape[1])) + (logits.astype(np.float64) ** 2).sum(
            0
        )
    # the logits of a direction and of its opposite are the same but for the sign, so that their mean is zero
    deviation = np.sqrt(squares / random.size)
    rows = [_listed(sign * row, deviation) for both in outlet.logits(U) for row in both for sign in (1, -1)]
    tokens, values, deviations = (np.stack(part).reshape(U.shape[1], 2, -1) for part in zip(*rows, strict=True))
    return Lens(tokens.astype(np.int64), values.astype(np.float32), deviations.astype(np.float32), random)


def _listed(logits: ndarray, deviation: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    top = np.argsort(-logits, kind="stable")[:LISTED]
    apart = np.divide(logits[top], deviation[top], out=np.zeros(len(top)), where=deviation[top] > 0)
    return top, logits[top], apart


def _written(live: "LiveModel", name: str) -> Float[ndarray, "d rank"]:
    """The unit directions that a module's output moves along: uₖ, with DoRA scaled as its outputs are."""
    U, layer = live.spectra[name].U, live.layers[name]
    if layer.norm is None:
        return U
    scaled = layer.norm.factor(layer.norm.own).cpu().double().numpy()[:, None] * U
    return np.asarray(scaled / np.linalg.norm(scaled, axis=0))


def _outlet(live: "LiveModel", name: str, example: Example) -> "_Outlet":
    """What lies behind the stream that a module writes into; raises `BaseModelError` as `logit_lens`."""
    if live.base.task in CLASSIFIERS:
        raise BaseModelError("the head of a classifier says labels and no tokens", _SHARES)
    embedding = isinstance(live.adapter.modules[name].site, EmbeddingSite)
    if role_of(name) != RESIDUAL and not embedding:
        raise BaseModelError(f"module {name!r} does not write into the residual stream", _SHARES)
    layer = live.layers[name]
    if live.base.task == SEQ_2_SEQ_LM and all(own is not layer for own in live.model.get_decoder().modules()):
        raise BaseModelError(f"module {name!r} writes into the encoder's stream, which no head reads", _SHARES)
    head = live.model.get_output_embeddings()
    found = None if head is None else _outlet_before(live, head, example)
    if found is None:
        raise BaseModelError(f"the head of {type(live.model).__name__} is not given the output of a norm", _SHARES)
    if found.width != live.spectra[name].U.shape[0]:
        raise BaseModelError(
            f"module {name!r} writes {live.spectra[name].U.shape[0]} numbers, and the head reads {found.width}",
            _SHARES,
        )
    return found


@dataclass(frozen=True)
class _Outlet:
    """The final norm of a model and its head, which read hidden states of this width on a device, in a dtype."""

    norm: Any
    head: Any
    width: int
    device: Any
    dtype: Any

    def logits(self, directions: Float[ndarray, "d direction"]) -> Iterator[Float32[ndarray, "some vocabulary"]]:
        """Logits of unit directions at their usual size, some at a time, less those of zero."""
        import torch

        for begin in range(0, directions.shape[1], _AT_ONCE):
            some = np.ascontiguousarray(directions[:, begin : begin + _AT_ONCE].T)
            state = torch.from_numpy(some).to(self.device, self.dtype) * self.width**0.5
            with torch.inference_mode():
                logits = self._out(state).cpu().double() - self._out(torch.zeros_like(state[:1])).cpu().double()
            yield logits.float().numpy()

    def _out(self, state: "Tensor") -> "Tensor":
        found: Tensor = self.head(self.norm(state[:, None]))[:, 0]
        return found


def _outlet_before(live: "LiveModel", head: "nn.Module", example: Example) -> _Outlet | None:
    """The norm whose output is what the head is given, but for a constant factor; None where there is none."""
    import torch

    with torch.inference_mode(), _watched(live.model, head) as (norms, given):
        scored_logits(live.model, collate([example], live.base.padding, layout="single"))
    if not given:
        return None
    entered = given[-1].cpu().double()
    for norm, out in reversed(norms):
        if out.shape[-1] == entered.shape[-1] and _proportional(
            out[:, -entered.shape[1] :].cpu().double(), entered
        ):
            return _Outlet(norm, head, entered.shape[-1], live.device, out.dtype)
    return None


@contextmanager
def _watched(model: "nn.Module", head: "nn.Module") -> "Iterator[tuple[list[tuple[Any, Tensor]], list[Tensor]]]":
    """The outputs of all norms in the order they run, and what the head is given, while this block runs."""
    norms: list[tuple[Any, Tensor]] = []
    given: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda own, _, out: norms.append((own, out)) if hasattr(out, "shape") else None
        )
        for layer in model.modules()
        if "norm" in type(layer).__name__.lower()
    ]
    hooks.append(head.register_forward_pre_hook(lambda _, entered: given.append(entered[0])))
    try:
        yield norms, given
    finally:
        for hook in hooks:
            hook.remove()


def _proportional(first: "Tensor", second: "Tensor") -> bool:
    """Whether one is the other times a number, up to the rounding of half precision."""
    if first.shape != second.shape:
        return False
    cosine = (first * second).sum() / (first.norm() * second.norm()).clamp_min(1e-300)
    return bool(cosine > 1 - 1e-4)
