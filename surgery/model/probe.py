"""Which layouts and caches leave a model's numbers as they are for one row alone, found on three short rows.

Each way is tried with the code that evaluation and calibration run, on rows of random tokens that begin alike, differ
in length and have σ of their own. The reference is the model on one row of ids with nothing else given: no padding,
no mask, no positions, no cache.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from surgery.adapter import CAUSAL_LM
from surgery.errors import BaseModelError, DataError, RowsMixedError, SurgeryError, first_line
from surgery.model.batches import collate
from surgery.model.loss import scored_logits
from surgery.model.memory import is_out_of_memory
from surgery.model.readers import ANSWERS, Readers
from surgery.model.reading import Scorable
from surgery.model.rereading import Read
from surgery.model.spectral_layers import SpectralLayer
from surgery.model.ways import Layout, Way, decoding_ways, layouts_of

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel

T = TypeVar("T")

# tokens of the longest prompt and of the opening; two prompts are of one length
_LONGEST, _OPENING = 21, 9
# of rows, before a slower way is taken
_TRIES = 2
# a logit beyond this is a mask over the vocabulary
_MASK = 1e8


class Ways:
    """The fastest ways that agree with one row alone, each found when it is first asked for.

    Raises `BaseModelError` where the model cannot read one row of token ids, or lets tokens see those after them, and
    `DataError` where a few short rows do not fit into memory.
    """

    def __init__(self, live: "LiveModel") -> None:
        self._live = live
        self._made: dict[int, Probe] = {}

    @property
    def layout(self) -> Layout:
        """Layout of passes over whole rows."""
        return self._known("layout", lambda: self._first(Probe.scoring, layouts_of(self._live.base.task)))

    @property
    def way(self) -> Way:
        """How answers are decoded."""
        return self._known(
            "way", lambda: self._first(Probe.decoding, decoding_ways(self.layout, self._live.base.task))
        )

    def _known(self, what: str, find: Callable[[], T]) -> T:
        """What was found with this adapter on this base before, by another attachment too."""
        place = self._live.adapter.digest, what
        if place not in self._live.base.ways:
            self._live.base.ways[place] = find()
        found: T = self._live.base.ways[place]
        return found

    def _first(self, distance: "Callable[[Probe, T], float]", ways: Iterable[T]) -> T:
        for way in ways:
            if self._agrees(distance, way):
                return way
        remedy = "use a causal language model; the config of some encoders makes them one with is_decoder"
        raise BaseModelError(
            f"{type(self._live.model).__name__} gives a token other numbers when tokens follow it",
            remedy if self._live.base.task == CAUSAL_LM else "edit and export work without a run",
        )

    def _agrees(self, distance: "Callable[[Probe, T], float]", how: T) -> bool:
        try:
            # rounding may turn which expert a token goes to, and with other tokens it turns another one's
            return any(probe.allows(distance(probe, how)) for probe in map(self._probe, range(_TRIES)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        raise DataError(f"three rows of {_LONGEST + 3} tokens do not fit into memory", "use a smaller dtype")

    def _probe(self, seed: int) -> "Probe":
        if seed not in self._made:
            self._made[seed] = Probe(self._live, seed)
        return self._made[seed]


class Probe:
    """Three rows of one live model with their reference, and how far each way is from it.

    live: holds the adapter's own σ after every call.
    seed: of the tokens.

    Raises `BaseModelError` where the model cannot read one row of token ids.
    """

    def __init__(self, live: "LiveModel", seed: int = 0) -> None:
        self._live = live
        self._prompts, self._answers = _rows(live, seed)
        self._readers = Readers(live, self._prompts, self._answers, self._choose, self._prompts[-1][:-1])
        half = {name: spectrum.sigma / 2 for name, spectrum in live.spectra.items()}
        self._variants: list[Any] = [None, half, None]
        self._reference = [self._alone(row) for row in range(3)]

    def allows(self, distance: float) -> bool:
        """Whether two right evaluations may lie this far apart: ‖difference‖ relative to ‖logits‖.

        Sums of n terms are off by 6 √n units in the last place at most, and two of them by √2 times that; a model is
        counted as the sums of all its weight matrices. In half precision what is kept of sums is inexact: what one
        rounding of every entry of the embeddings does is measured, and four times that is allowed. Right evaluations
        stay within 1.3 times on small models of fifty families; wrong ones are off by a sixth or more.
        """
        return distance <= self._sums or distance <= 4 * self._noise

    @cached_property
    def _sums(self) -> float:
        terms = sum(max(weight.shape[-2:]) for weight in self._live.model.parameters() if weight.dim() > 1)
        unit = 2.0**-53 if self._live.model.dtype == torch.float64 else 2.0**-24
        return float(2**0.5 * 6 * terms**0.5 * unit)

    @cached_property
    def _noise(self) -> float:
        return max(self._rounded(row) for row in (0, 2))

    def _rounded(self, row: int) -> float:
        """What one rounding of every entry of a row's embeddings does to its logits."""
        unit, generator = _unit(self._live), torch.Generator().manual_seed(row)

        def rounded(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            signs = torch.randint(2, output.shape, generator=generator) * 2 - 1
            return (output * (1 + unit * signs.to(output.device))).to(output.dtype)

        hooks = [table.register_forward_hook(rounded) for table in _tables(self._live)]
        try:
            return self._apart(row, self._alone(row))
        finally:
            for hook in hooks:
                hook.remove()

    def _alone(self, row: int) -> Float[Tensor, "token vocabulary"]:
        """Logits before each token of a row's answer, and after all but its last."""
        live = self._live
        try:
            logits = self._readers.alone(row)
        except SurgeryError:
            raise
        except Exception as error:  # models raise whatever they stumble over
            if is_out_of_memory(error):
                raise
            raise BaseModelError(
                f"{type(live.model).__name__} cannot read a row of token ids alone ({first_line(error)})",
                "use a language model that reads text and nothing else",
            ) from error
        finally:
            live.set_sigma(None)
        return logits.double()

    def _choose(self, rows: Sequence[int]) -> None:
        """Put the σ of these rows into the live model."""
        live = self._live
        chosen = [self._variants[row] or {} for row in rows]
        names = dict.fromkeys(name for sigma in chosen for name in sigma)
        own = {name: live.spectra[name].sigma for name in names}
        live.set_sigma({name: np.stack([sigma.get(name, own[name]) for sigma in chosen]) for name in names})

    def scoring(self, layout: Layout) -> float:
        """How far passes over whole rows in this layout are from the reference."""
        return self._distance(lambda: self._scored(layout))

    def decoding(self, way: Way) -> float:
        """How far decoding in this way is from the reference."""
        return self._distance(lambda: self._decoded(way))

    def _distance(self, read: Callable[[], float]) -> float:
        try:
            return read()
        except RowsMixedError:
            if self._variants == [None] * 3:
                return float("inf")
            # the engine takes one variant after the other then
            self._variants = [None] * 3
            self._reference = [self._alone(row) for row in range(3)]
            return self._distance(read)
        except Exception as error:  # models raise whatever they stumble over
            if is_out_of_memory(error):
                raise
            return float("inf")
        finally:
            self._live.set_sigma(None)

    @torch.inference_mode()
    def _scored(self, layout: Layout) -> float:
        worst = 0.0
        for group in _groups(layout):
            self._choose(group)
            examples = [self._readers.example(row) for row in group]
            batch = collate(examples, self._live.base.padding, layout=layout)
            logits, labels = scored_logits(self._live.model, batch)
            for each, label, row in zip(logits, labels, group, strict=True):
                worst = max(worst, self._apart(row, each[label >= 0]))
        return worst

    def _decoded(self, way: Way) -> float:
        return max(self._group_decoded(way, group) for group in _groups(way.decoding))

    def _group_decoded(self, way: Way, group: Sequence[int]) -> float:
        prompts = self._readers.together(way, group)
        worst = self._step_apart(group, prompts, 0)
        if way.follows:
            assert isinstance(prompts, Scorable)
            logits = prompts.answer_logits([self._answers[row][: ANSWERS[row]] for row in group])
            for row, each in zip(group, logits, strict=True):
                worst = max(worst, self._apart(row, each[: ANSWERS[row]]))
        prompts.advance([self._answers[row][0] for row in group])
        worst = max(worst, self._step_apart(group, prompts, 1))
        if len(group) > 1:
            group = group[1:]
            self._choose(group)
            prompts.keep(range(1, len(group) + 1))
        prompts.advance([self._answers[row][1] for row in group])
        return max(worst, self._step_apart(group, prompts, 2))

    def _step_apart(self, group: Sequence[int], prompts: Read, step: int) -> float:
        return max(
            self._apart(row, logits[None], step) for row, logits in zip(group, prompts.following, strict=True)
        )

    def _apart(self, row: int, found: Float[Tensor, "token vocabulary"], first: int = 0) -> float:
        """‖found − reference‖ / ‖reference‖ over some of a row's tokens; masks over the vocabulary are left out."""
        expected = self._reference[row][first : first + len(found)]
        counted = expected.isfinite() & (expected.abs() < _MASK)
        expected = expected[counted]
        difference = found.double()[counted] - expected
        distance = float(difference.norm() / expected.norm().clamp(min=1e-300))
        return distance if np.isfinite(distance) else float("inf")


def _tables(live: "LiveModel") -> list[Any]:
    """The input embedding, or both of them where an encoder and a decoder share one tensor."""
    table = live.model.get_input_embeddings()
    if live.base.task == CAUSAL_LM:
        return [table]
    held = [
        each
        for each in live.model.modules()
        if hasattr(each, "embedding_dim") and getattr(each, "weight", None) is table.weight
    ]
    inside = {each.base for each in held if isinstance(each, SpectralLayer)}
    return [each for each in held if each not in inside]


def _unit(live: "LiveModel") -> float:
    """Unit roundoff of what matrix products take and give, the coarsest in the model."""
    floats = [weight.dtype for weight in live.model.parameters() if weight.is_floating_point()]
    coarsest: float = max(torch.finfo(dtype).eps for dtype in (live.model.dtype, *floats)) / 2
    short = torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"
    return max(coarsest, 2.0**-11) if short and live.device.type == "cuda" else coarsest


def _groups(layout: Layout) -> list[list[int]]:
    apart: dict[str, list[list[int]]] = {"single": [[0], [1], [2]], "equal": [[0, 1], [2]]}
    return apart.get(layout, [[0, 1, 2]])


def _rows(live: "LiveModel", seed: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Prompts that begin alike, two of one length and a short one, and answers; all fit the model's positions."""
    tokens = live.model.get_input_embeddings().weight.shape[0]
    longest = min(_LONGEST, (live.positions or _LONGEST + 3) - 3)
    opening = min(_OPENING, longest - 1)
    rng = np.random.default_rng(seed)
    # padding, ends and places for pictures have the first or the last ids
    ids = rng.integers(tokens // 8, tokens - tokens // 8, size=(3, longest + 3)).tolist()
    common = ids[0][:opening]
    lengths = (longest, longest, opening + 1)
    prompts = [(*common, *row[opening:length]) for row, length in zip(ids, lengths, strict=True)]
    answers = [tuple(row[longest:]) for row in ids]
    if live.base.task != CAUSAL_LM:
        # mBART's kinds begin with the last label, which is to be the same in a shorter answer
        answers = [(first, second, second) for first, second, _ in answers]
    return prompts, answers
