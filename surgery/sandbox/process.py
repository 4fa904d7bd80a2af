"""Start a process, feed it, listen to it under limits of time and output, and leave nothing of it."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal

# seconds for the process to end by itself after it was asked to, and to say its first word
GRACE = 1.0
_START = 60.0


@dataclass(frozen=True)
class Heard:
    """Standard output whole, standard error up to its limit, and which limit ended the process early."""

    said: bytes
    printed: bytes
    cut_short: Literal["timeout", "output"] | None


def watch(command: Sequence[str], orders: bytes, *, seconds: float, output_bytes: int) -> Heard:
    """Run `command` with `orders` on its standard input until it closes its standard output.

    `seconds` count from its first word there, so a busy machine's slow start takes nothing from them;
    `output_bytes` limits standard error. At a limit the process gets SIGTERM and `GRACE`; in the
    end its whole process group is killed, whatever it said.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a fixed seed of hashes, so that a program's verdict does not depend on the order of a set
        env={"PYTHONHASHSEED": "0"},
        cwd="/",
        bufsize=0,
        start_new_session=True,
    )
    with process:
        try:
            return _listen(process, orders, seconds, output_bytes)
        finally:
            # before the process is waited for: until then no other group can have its number
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _listen(process: "subprocess.Popen[bytes]", orders: bytes, seconds: float, output_bytes: int) -> Heard:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said, printed, rest = bytearray(), bytearray(), memoryview(orders)
    cut_short: Literal["timeout", "output"] | None = None
    deadline, silent = time.monotonic() + _START, True
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        while process.stdout in selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                if key.fileobj is process.stdin:
                    rest = _feed(selector, process.stdin, rest)
                elif key.fileobj is process.stdout:
                    _drain(selector, process.stdout, said)
                else:
                    _drain(selector, process.stderr, printed)
            if silent and said:
                deadline, silent = time.monotonic() + seconds, False
            late, loud = time.monotonic() >= deadline, len(printed) > output_bytes
            if late and cut_short is not None:
                break
            if (late or loud) and cut_short is None:
                cut_short, deadline = "timeout" if late else "output", time.monotonic() + GRACE
                # not `terminate`, which may wait for the process and so free its number
                os.kill(process.pid, signal.SIGTERM)
            # what comes after the limit is read, so that nobody waits for us, and thrown away
            del printed[output_bytes + 1 :]
        if process.stderr in selector.get_map():
            _drain(selector, process.stderr, printed)
    loud = len(printed) > output_bytes
    return Heard(bytes(said), bytes(printed[:output_bytes]), cut_short or ("output" if loud else None))


def _feed(selector: selectors.BaseSelector, pipe: IO[bytes], rest: memoryview) -> memoryview:
    try:
        rest = rest[os.write(pipe.fileno(), rest) :]
    except BrokenPipeError:
        rest = rest[:0]
    if not rest:
        selector.unregister(pipe)
    return rest


def _drain(selector: selectors.BaseSelector, pipe: IO[bytes], into: bytearray) -> None:
    with contextlib.suppress(BlockingIOError):
        part = os.read(pipe.fileno(), 1 << 20)
        into += part
        if not part:
            selector.unregister(pipe)
