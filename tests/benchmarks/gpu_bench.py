"""What the parts of `gpu.py` share: how large the work is, where it runs, what stops it, and a line of the table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from surgery.data import Calibration, Encoding, Example
from surgery.model import LiveModel
from surgery.progress import Control
from surgery.sensitivity import (
    Sensitivity,
    measure_sensitivity,
)
from tests.benchmarks.device_limits import tidied
from tests.benchmarks.random_models import (
    LLAMA_8B,
    QWEN_8B,
    TINY_LLAMA,
    TINY_QWEN,
    ModelShape,
    random_examples,
    random_live,
)

GIB = 1 << 30


@dataclass(frozen=True)
class Measured:
    """One line of the table: what was measured, its value in a unit, and what has to be known of it."""

    what: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """How large the work is: rows of the random models and their tokens, requests to decode, rows of the demo."""

    shapes: tuple[ModelShape, ModelShape]
    rows: int
    prompt: int
    answer: int
    batch: int
    requests: int
    new_tokens: int
    side: int
    rounds: int
    held_out: int
    controls: int


FULL = Scale((LLAMA_8B, QWEN_8B), 32, 384, 128, 8, 16, 32, 8192, 3, 512, 4)
TINY = Scale((TINY_LLAMA, TINY_QWEN), 4, 96, 24, 4, 2, 3, 128, 1, 4, 1)


@dataclass(frozen=True)
class Bench:
    """Where a part runs, how large it is, what it keeps between calls of the command, and what stops it in time."""

    device: torch.device
    scale: Scale
    folder: Path
    control: Control

    @contextmanager
    def opened(self, shape: ModelShape) -> Iterator[tuple[LiveModel, float]]:
        """A random model with its adapter, ready to read rows, and the seconds that this took."""
        tidied()
        began = perf_counter()
        with random_live(shape, str(self.device)) as live:
            _ = live.layout
            yield live, perf_counter() - began

    def examples(self, shape: ModelShape) -> list[Example]:
        """Rows of one length."""
        scale = self.scale
        return random_examples(scale.rows, shape.vocab_size, prompt=scale.prompt, spread=0, answer=scale.answer)

    def sensitivities(
        self, live: LiveModel, examples: Sequence[Example], batch: int, sizes: list[int] | None = None
    ) -> Sensitivity:
        """Of all modules; `sizes` takes the size that each batch had to have."""
        rows = Calibration(tuple(examples), Encoding(), {})
        noted = [] if sizes is None else sizes
        return measure_sensitivity(
            live,
            rows,
            list(live.spectra),
            batch_size=batch,
            control=self.control,
            keep=lambda partial: noted.append(partial.batch_size),
        )


def apart(one: Sensitivity, other: Sensitivity) -> float:
    """‖difference‖ / ‖g‖ of the module where it is largest."""
    return max(float(np.linalg.norm(g - other.values[name]) / np.linalg.norm(g)) for name, g in one.values.items())
