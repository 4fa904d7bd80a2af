"""Arrays kept in memory up to a number of bytes: those that were used last stay."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class Holding:
    """Values under keys, with the bytes that each takes.

    most: bytes that are held at once, the room that is taken aside included.

    `peak` is the most that was ever held. Several threads may ask at once.
    """

    def __init__(self, most: int) -> None:
        self.most, self.peak = most, 0
        self._aside = self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    @property
    def held(self) -> int:
        return self._bytes + self._aside

    @property
    def room(self) -> int:
        """Bytes of the bound that are not taken aside."""
        return self.most - self._aside

    def get(self, key: Hashable) -> Any:
        """The value under a key; None where it is not kept, or no longer."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of `size` bytes in the place of those that were used longest ago; one that fits nowhere is not kept."""
        with self._lock:
            if key in self._kept or size > self.room:
                return
            self._make_room(size)
            self._kept[key] = value, size
            self._bytes += size
            self.peak = max(self.peak, self.held)

    @contextmanager
    def aside(self, size: int) -> Iterator[None]:
        """Room of `size` bytes for what is not kept under a key; at most `room`."""
        with self._lock:
            self._make_room(size)
            self._aside += size
            self.peak = max(self.peak, self.held)
        try:
            yield
        finally:
            with self._lock:
                self._aside -= size

    def _make_room(self, size: int) -> None:
        while self._kept and self.held + size > self.most:
            _, (_, old) = self._kept.popitem(last=False)
            self._bytes -= old
