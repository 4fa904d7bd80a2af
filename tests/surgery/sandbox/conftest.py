"""Sandboxes behind each kind of walls, and a watch on processes that are left behind."""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgery.sandbox import Limits, Sandbox, SandboxError, Verdict, open_sandbox
from surgery.sandbox import host as sandbox_module

ROOT = Path(__file__).resolve().parents[3]
WALLS = ("namespaces", "landlock")
CHECK = "def check(candidate):\n    assert candidate(3) == 'the answer is 4711'"
linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


@pytest.fixture(scope="module", params=WALLS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return open_sandbox([request.param])
    except SandboxError as error:
        pytest.skip(f"this machine has no such walls: {error.problem}")


@pytest.fixture(scope="module")
def any_sandbox() -> Sandbox:
    try:
        return open_sandbox()
    except SandboxError as error:
        pytest.skip(f"this machine has no walls: {error.problem}")


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """Orphans become children of this process, where they can be seen."""
    before = set(children(os.getpid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    yield
    assert settles(lambda: not set(children(os.getpid())) - before)


def children(parent: int) -> list[int]:
    """Living children by /proc, zombies left out."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, ppid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state not in "ZX":
                found.append(int(pid))
    return found


def settles(condition, seconds: float = 3.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def run(sandbox: Sandbox, program: str, check: str = CHECK, **limits: float) -> Verdict:
    return sandbox.run(program, check, "f", limits=Limits(**limits))


def sabotage(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    start = sandbox_module._START
    monkeypatch.setattr(
        sandbox_module,
        "_START",
        start.replace(
            "main()", f"import surgery.sandbox.child as s; nothing = lambda *a, **k: None; {code}; main()"
        ),
    )
