"""The bytes that come from the hub, told to a `Control` in kB, which can stop them, and held to what was announced."""

import threading
from typing import Any

from surgery.progress import Control

# the client's bar of all bytes of a snapshot; it makes others, of network packets and of whole files
_BYTES = "huggingface_hub.snapshot_download"
_SLACK = 1 << 20  # bytes above those announced, of files whose length the hub did not tell


class TooLongError(OSError):
    """More bytes come than were announced."""


def meter(control: Control, expected: int) -> type:
    """A class of bars for the client, of which it makes its own: it draws nothing and tells `control`.

    expected: bytes that are to come.
    """
    from huggingface_hub.utils.tqdm import tqdm

    bar: Any = tqdm
    lock = threading.Lock()

    class Meter(bar):  # type: ignore[misc]
        def __init__(self, *arguments: Any, name: str = "", **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})
            self.counts, self.came = name == _BYTES, 0

        def update(self, n: float | None = 1) -> None:
            control.heed()
            if not self.counts:
                return
            with lock:
                self.came += int(n or 0)
                if self.came > expected + _SLACK:
                    raise TooLongError(f"more than the {expected:,} bytes announced")
                control.progress(-(-min(self.came, expected) // 1000), -(-expected // 1000))

    return Meter
