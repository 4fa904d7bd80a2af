"""A measurement that is under way, kept on disk so that it goes on after a cancel, a crash or a kill.

Examples are finished in a fixed order, so their number says which they are.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from surgery.files import write_whole
from surgery.sensitivity.input_sums import InputSums

PART_FORMAT = "surgery-partial-2"  # the first held no sums over inputs
_SECONDS, _BATCHES = 5.0, 16
_ABANDONED = 60.0  # seconds after which nobody writes any more
_SHARE = 20  # writing takes at most one part in so many of the time


@dataclass(frozen=True)
class Partial:
    """Per-example gₖ and losses, of which the first `done` examples of `calibration.batch_order` are measured.

    The other rows hold anything. `batch_size` is what the next batch is to have: it falls where memory
    ran out, and the same batches give the same bits. `inputs` are the sums over those examples.
    """

    done: int
    batch_size: int
    values: Mapping[str, Float64[ndarray, "example rank"]]
    losses: Float64[ndarray, " example"]
    inputs: InputSums


class PartFile:
    """One measurement's file of finished examples.

    `order` is `calibration.batch_order` of its examples and `ranks` the components of every module, in
    which a file is to fit. `about` is what the header tells of the measurement. A file that cannot be
    written is no reason to stop measuring: there is then nothing to go on from.
    """

    def __init__(
        self,
        file: Path,
        order: Sequence[int],
        ranks: Mapping[str, int],
        about: Callable[[int], Mapping[str, str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._order, self._ranks, self._about = file, list(order), dict(ranks), about
        self._clock = clock
        self._latest: Partial | None = None
        self._batches = 0
        self._next_write = 0.0
        self._written = clock()

    def read(self) -> Partial | None:
        """What an earlier run finished; None where there is nothing, or nothing that fits."""
        try:
            with safe_open(str(self._file), framework="np") as handle:
                metadata = handle.metadata() or {}
                done, batch_size = int(metadata["done"]), int(metadata["batch_size"])
                names = json.loads(metadata["names"])
                if metadata["format"] != PART_FORMAT or names != list(self._ranks) or batch_size < 1:
                    return None
                if not 0 < done <= len(self._order):
                    return None
                values = {name: self._spread(handle.get_tensor(f"g.{i}")) for i, name in enumerate(names)}
                losses = self._spread(handle.get_tensor("losses"))
                inputs = InputSums.read(handle, self._ranks)
                if any(values[name].shape[1:] != (rank,) for name, rank in self._ranks.items()):
                    return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError):
            return None
        return Partial(done, batch_size, values, losses, inputs)

    def _spread(self, rows: ndarray) -> ndarray:
        """Rows in the order they were finished, put where their examples are."""
        if rows.dtype != np.float64:
            raise ValueError("not the numbers of a measurement")
        spread = np.zeros((len(self._order), *rows.shape[1:]))
        spread[self._order[: len(rows)]] = rows
        return spread

    def keep(self, partial: Partial) -> None:
        """Take note of a batch, and write what is there when it is time."""
        self._latest = partial
        self._batches += 1
        if partial.done == len(self._order):
            return  # the whole is about to be stored
        now = self._clock()
        waited = now - self._written >= _SECONDS or self._batches >= _BATCHES
        if waited and now >= self._next_write:
            self.flush()

    def flush(self) -> None:
        """Write what was finished since the last time, whole or not at all."""
        if self._latest is None or not self._batches:
            return
        begun = self._clock()
        partial, rows = self._latest, self._order[: self._latest.done]
        tensors = {f"g.{i}": partial.values[name][rows] for i, name in enumerate(self._ranks)}
        tensors["losses"] = partial.losses[rows]
        tensors |= partial.inputs.tensors()
        metadata = {
            "format": PART_FORMAT,
            "done": str(partial.done),
            "batch_size": str(partial.batch_size),
            "names": json.dumps(list(self._ranks)),
            **self._about(partial.done),
        }
        with suppress(OSError, SafetensorError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, save(tensors, metadata=metadata))
        self._batches = 0
        self._written = self._clock()
        self._next_write = self._written + _SHARE * (self._written - begun)

    def drop(self) -> None:
        """Remove the file, and what a killed process left half written of it or of the whole."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)
        for file in self._file.parent.glob(f"{self._file.stem}.*.tmp"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _ABANDONED:
                    file.unlink(missing_ok=True)
