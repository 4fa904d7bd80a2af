"""What a piece of work takes on a card or on the host: its seconds, its most memory, and less memory than there is.

The host's part is Linux's alone: it is what lets the GPU's benchmarks be tried where there is none.
"""

import ctypes
import gc
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from surgery.model import release

MEBIBYTE = 1 << 20
_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call with all that it has asked of the device."""
    _finished(device)
    began = time.perf_counter()
    call()
    _finished(device)
    return time.perf_counter() - began


def matrix_rate(device: torch.device, side: int, rounds: int) -> float:
    """Operations a second of bfloat16 products of two square matrices, the best of some rounds."""
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    times = [seconds(lambda: left @ right, device) for _ in range(rounds + 1)][1:]
    return 2 * side**3 / min(times)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The most memory at once that a call takes beyond what was in use before it."""
    tidied()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _host_bytes("VmRSS")
    call()
    return _host_bytes("VmHWM") - before


@contextmanager
def at_most(more: int, device: torch.device) -> Iterator[None]:
    """Let this process take so many bytes beyond what it holds, and no more; allocations beyond fail."""
    tidied()
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        allowed = torch.cuda.memory_reserved(device) + more
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_host_bytes("VmData") + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def give_back_freed_blocks() -> None:
    """Have the host's allocator return freed blocks to the system, or a limit would not be felt."""
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, MEBIBYTE // 4)


def tidied() -> None:
    """Drop what nothing refers to, so that the next figures are of the next piece of work."""
    gc.collect()
    release()


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _host_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024
