"""A program that does not end by itself, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from surgery.sandbox import Limits
from tests.surgery.sandbox.conftest import ROOT, children, linux, run, settles


@linux
@pytest.mark.parametrize(
    ("body", "limits", "reason"),
    [
        ("while True: pass", {"seconds": 0.6}, "timeout"),
        ("import time; time.sleep(100)", {"seconds": 0.6}, "timeout"),
        ("while True: pass", {"cpu_seconds": 1}, "timeout"),
        (
            "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n    while True: pass",
            {"cpu_seconds": 1},
            "timeout",
        ),
        ("return len(bytearray(10 ** 9))", {}, "memory"),
        ("return [0] * 10 ** 9", {}, "memory"),
        ("print('x' * 10 ** 6)", {}, "output"),
        ("while True: print('x' * 1000)", {}, "output"),
        ("import ctypes; ctypes.string_at(0)", {}, "killed"),
        ("return 10 ** 10 ** 10", {"seconds": 0.6}, "timeout"),
        ("import re; re.match('(a+)+b', 'a' * 60)", {"seconds": 0.6}, "timeout"),
        ("import itertools; return itertools.count()", {}, "failed"),
        ("raise MemoryError", {}, "memory"),
    ],
)
def test_limits_end_a_program_with_their_reason(sandbox, body, limits, reason):
    verdict = run(sandbox, f"def f(x):\n    {body}", **limits)
    assert (verdict.passed, verdict.reason) == (False, reason)
    assert len(verdict.output) <= Limits().output_bytes


@linux
def test_a_program_that_ignores_signals_is_ended_while_it_loads(sandbox):
    program = "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass"
    assert run(sandbox, program, seconds=0.6).reason == "timeout"


@linux
def test_a_check_that_never_ends_is_ended_too(any_sandbox):
    assert run(any_sandbox, "def f(x): return x", "f(1)\nwhile True: pass", seconds=0.6).reason == "timeout"


@linux
def test_output_is_printable(any_sandbox):
    program = "def f(x): print('a\\x1b[2J\\u202eb\\x07\\tc')"
    assert run(any_sandbox, program).output == "a�[2J�b�\tc\n"


@linux
def test_nobody_survives_the_judge(sandbox):
    """The judge killed from outside: the kernel takes the candidate along."""
    verdicts = []
    program = "def f(x):\n    while True: pass"
    thread = threading.Thread(target=lambda: verdicts.append(run(sandbox, program, seconds=20)))
    before = set(children(os.getpid()))
    thread.start()
    family = waited_for(os.getpid(), before)
    os.kill(family[0], signal.SIGKILL)
    thread.join(10)
    assert [verdict.passed for verdict in verdicts] == [False]
    assert settles(lambda: not any(alive(pid) for pid in family))


@linux
def test_nobody_survives_the_app(sandbox):
    code = f"from surgery.sandbox import Sandbox; from surgery.sandbox import Limits; Sandbox({sandbox.walls!r}).run('def f():\\n    while True: pass', 'f()', 'f')"
    app = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    family = waited_for(app.pid, set())
    app.kill()
    app.wait()
    assert settles(lambda: not any(alive(pid) for pid in family))


def waited_for(parent: int, before: set[int]) -> list[int]:
    """The judge and the candidate, once the candidate computes: it has used a fifth of a second."""
    family: list[int] = []

    def computing() -> bool:
        judges = [pid for pid in children(parent) if pid not in before]
        family[:] = judges + [pid for judge in judges for pid in children(judge)]
        return len(family) == 2 and processor_seconds(family[1]) > 0.2

    assert settles(computing, 20)
    return family


def processor_seconds(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
