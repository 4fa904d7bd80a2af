"""Run code that a model wrote and judge it, so that neither the machine nor the verdict is at its mercy.

Two processes per program (see `surgery.sandbox.child`). The candidate's has no network, an empty
environment, no process or thread beside it, nothing writable but a scratch folder in memory, and
sees Python's library only. The judge's holds the check; the candidate is asked for results, call by
call, and answers with plain data that the judge rebuilds from builtin types.

What a passed verdict proves: every call that the check made was answered with data for which the
check's own expressions hold. Printing, exiting, patching builtins or assertions, objects equal to
everything and searching memory, frames or descriptors for the check or a token cannot bring it
about, because neither the check nor the pipe of the verdict is in the candidate's process.

What it does not: the candidate may recognise the arguments of a published test and answer from
memory; arguments are copies, so a check that looks for changes made to them does not see any; a
result that is no plain value (an object of the program's own class, a function) fails; the *reason*
of a verdict that did not pass is the program's own appearance. The walls are as strong as the
kernel, and CPython's JSON reader, which alone sees the candidate's bytes. Processor caches and
timing leak what they leak.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from surgery.errors import SurgeryError
from surgery.sandbox.process import GRACE, watch
from surgery.sandbox.seccomp import supported
from surgery.sandbox.wire import framed, whole_messages

Reason = Literal["passed", "failed", "timeout", "memory", "output", "killed"]
Walls = Literal["namespaces", "landlock"]
# even where JSON writes each sign in twelve, it stays below the longest message
_LONGEST_TEXT = 1 << 18
_LEAST_MEMORY = 64 << 20
# the package's own initialiser needs numpy, which a process without site packages does not have
_START = (
    "import sys, types; package = types.ModuleType('surgery'); package.__path__ = [sys.argv.pop()]; "
    "sys.modules['surgery'] = package; from surgery.sandbox.child import main; main()"
)
_STUBBORN = """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def f():
    while True:
        pass
"""
_HELP = (
    "run this part on Linux 6.2 or newer, or allow unprivileged user namespaces (sysctl "
    "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a "
    "container a seccomp profile that allows unshare and mount); code is never run without walls"
)
_ALWAYS = (
    "one process and one thread: it can start neither a program nor a child, so nothing outlives it",
    "no socket of any kind can be opened",
    "the environment is empty and standard input is closed",
    "only Python's own library and the system's shared libraries can be read",
    "no capability; no signal to another process; no change of owner, mode or time of any file",
    "time, memory, output and size of files are limited",
    "the check and the verdict are in another process, which takes plain data only",
)
_BY_WALLS = {
    "namespaces": (
        "its file system holds only these libraries and an empty scratch folder in memory",
        "its network has no interface, and it sees no other process",
    ),
    "landlock": ("nothing is writable; that other files exist, and their size, can still be seen",),
}


class SandboxError(SurgeryError):
    """Foreign code cannot be run safely here, or not at all."""


@dataclass(frozen=True)
class Limits:
    """What one program may use; it never gets more than one process with one thread.

    `seconds` is wall time from when the walls stand. `memory_bytes` is the address space of each of
    the two processes (64 MiB at least), `file_bytes` what the scratch folder holds.
    """

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10
    file_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise SandboxError(f"the limit {name} is {value}", "give a finite number above zero")
        if self.memory_bytes < _LEAST_MEMORY:
            raise SandboxError(f"{self.memory_bytes} bytes do not hold Python", f"allow {_LEAST_MEMORY} or more")


@dataclass(frozen=True)
class Verdict:
    """Whether the check came to its end, why not, what the program printed (cut, printable)."""

    passed: bool
    reason: Reason
    detail: str
    output: str


@dataclass(frozen=True)
class Sandbox:
    """A way to run foreign code that was found to work here; `open_sandbox` makes one."""

    walls: Walls

    @property
    def guarantees(self) -> tuple[str, ...]:
        """What holds for every program, one sentence each."""
        return _ALWAYS + _BY_WALLS[self.walls]

    def run(
        self, program: str, check: str, entry_point: str, *, helpers: str = "", limits: Limits | None = None
    ) -> Verdict:
        """Judge `program`, whose function `entry_point` the trusted source `check` calls.

        `check` defines `check(candidate)` or asserts at its top level. `helpers` is trusted source
        with what the check needs beside it: for HumanEval the prompt, whose functions the tests use.
        Raises `SandboxError` where the walls could not be raised; then nothing was run.
        """
        limits = limits or Limits()
        if len(program) + len(check) + len(helpers) > _LONGEST_TEXT:
            return Verdict(False, "failed", f"the program is longer than {_LONGEST_TEXT} characters", "")
        order = {"walls": self.walls, "parent": os.getpid(), "program": program, **vars(limits)}
        task = {"check": check, "helpers": helpers, "entry_point": entry_point, "cpu_seconds": limits.cpu_seconds}
        # the candidate's process begins after the first message is read and before the second
        heard = watch(
            _command(), framed(order) + framed(task), seconds=limits.seconds, output_bytes=limits.output_bytes
        )
        answers, shown, cut_short = whole_messages(heard.said), _printable(heard.printed), heard.cut_short
        if answers and "refused" in answers[0]:
            raise SandboxError(f"the walls could not be raised: {answers[0]['refused']}", _HELP)
        if not answers:
            raise SandboxError(f"the sandbox's process did not start: {shown[-300:]}", _HELP)
        if cut_short is not None:
            detail = f"after {limits.seconds} s" if cut_short == "timeout" else f"over {limits.output_bytes} bytes"
            return Verdict(False, cut_short, detail, shown)
        return _verdict(answers, shown)


def _command() -> list[str]:
    keep_no_bytecode = ["-B"] if sys.dont_write_bytecode else []
    return [sys.executable, "-P", "-s", "-S", *keep_no_bytecode, "-c", _START, str(Path(__file__).parents[1])]


def _verdict(answers: Sequence[dict[str, Any]], shown: str) -> Verdict:
    """Whatever is not a whole verdict of the judge is a failure."""
    found = answers[1] if len(answers) == 2 else {}
    reason: Reason | None = next((kind for kind in get_args(Reason) if kind == found.get("reason")), None)
    if reason is None:
        return Verdict(False, "killed", "the judge ended without a verdict", shown)
    passed = found.get("passed") is True and reason == "passed"
    return Verdict(passed, reason, _printable(str(found.get("detail", "")).encode(errors="replace")), shown)


def _printable(output: bytes) -> str:
    """Nothing in it can move a cursor, ring a bell or change the direction of text."""
    text = output.decode(errors="replace")
    return "".join(sign if sign in "\n\t" or sign.isprintable() else "�" for sign in text)


def open_sandbox(walls: Sequence[Walls] = ("namespaces", "landlock")) -> Sandbox:
    """The first kind of walls that stands a test of attacks here. `SandboxError` with the reasons if none does.

    Takes about half a second: hostile code is really run, against files made for the purpose.
    """
    machine = os.uname().machine if sys.platform == "linux" else sys.platform
    if not supported(machine):
        raise SandboxError(f"code cannot be confined on {machine}", "use Linux on x86_64 or aarch64")
    reasons = []
    for kind in walls:
        sandbox = Sandbox(kind)
        try:
            reason = _weakness(sandbox)
        except SandboxError as error:
            reason = error.problem
        if reason is None:
            return sandbox
        reasons.append(f"{kind}: {reason}")
    raise SandboxError(f"this system cannot confine foreign code ({'; '.join(reasons)})", _HELP)


def _weakness(sandbox: Sandbox) -> str | None:
    """What an attack achieved, or why the sandbox cannot do its work; None if it stands."""
    attacks = Path(__file__).with_name("escapes.py").read_text()
    with tempfile.TemporaryDirectory(prefix="surgery-sandbox-") as folder:
        secret = Path(folder) / "secret"
        secret.write_text("untouched")
        if os.geteuid() == 0:
            # the attack runs as nobody: he may do everything here, so that only the walls protect it
            os.chmod(folder, 0o777)
            os.chmod(secret, 0o666)
        limits = Limits(memory_bytes=256 << 20)
        asked = (str(secret), os.getpid(), limits.memory_bytes)
        check = f"found = escapes(*{asked!r})\nassert not found, ', '.join(found)"
        found = sandbox.run(attacks, check, "escapes", limits=limits)
        unchanged = os.listdir(folder) == ["secret"] and secret.read_text() == "untouched"
    if not found.passed:
        return f"an attack was not held off: {found.detail} {found.output[-200:]}"
    if not unchanged:
        return "an attack changed files outside"
    forged = "import os, sys\nprint('passed', flush=True)\nos._exit(0)"
    if sandbox.run(forged, "assert f() == 1", "f").passed:
        return "a program could forge its verdict"
    began = time.monotonic()
    stubborn = sandbox.run(_STUBBORN, "f()", "f", limits=Limits(seconds=0.4))
    if stubborn.reason != "timeout" or time.monotonic() - began > 10 * GRACE:
        return "a program could not be ended in time"
    return None
