"""The program that `surgery.sandbox` starts: one process that judges and one that runs the foreign code.

The two share nothing but a pair of pipes. The judge holds the check and calls the candidate by
sending arguments; the candidate's process never sees the check, and answers with plain data that
the judge builds anew. Only the judge holds the pipe on which the verdict leaves, and it confines
itself as it confines the candidate. Runs without site packages and imports the standard library only.
"""

import builtins
import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

from surgery.sandbox.isolation import (
    LANDLOCK_NEEDED,
    SCRATCH,
    die_with_parent,
    drop_privileges,
    enter_namespaces,
    hide_memory,
    landlock_version,
    restrict_calls,
    restrict_files,
    set_limits,
)
from surgery.sandbox.wire import pack, read_message, unpack, write_message

_LONGEST_DETAIL = 500
# descriptors below are the standard three and the candidate's two pipes
_FIRST_FREE = 10
_CALLS, _ANSWERS = 3, 4


class _Ended(BaseException):
    """The candidate's process is gone or talks nonsense; not an `Exception`, so a check seldom stops it."""


def main() -> None:
    """Standard input: an order, then the check. Standard output: `started` or `refused`, then the verdict."""
    die_with_parent()
    order = read_message(0)
    if os.getppid() != order["parent"]:
        os._exit(1)
    os.environ.clear()
    nothing, verdicts, output = (_moved_up(descriptor) for descriptor in (os.open(os.devnull, os.O_RDWR), 1, 2))
    try:
        libraries = _libraries()
        if order["walls"] == "namespaces":
            enter_namespaces(libraries, order["file_bytes"])
        elif landlock_version() < LANDLOCK_NEEDED:
            raise OSError(f"Landlock has version {landlock_version()}, not {LANDLOCK_NEEDED}")
        hide_memory()
        calls, answers = ([_moved_up(end) for end in os.pipe()] for _ in range(2))
        child = os.fork()
        if child == 0:
            _candidate(order, libraries, [nothing, output, output, calls[0], answers[1]])
        signal.signal(signal.SIGTERM, lambda *_: _give_up(child))
        for descriptor in (output, calls[0], answers[1]):
            os.close(descriptor)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        _confine(order, libraries, writable=[], may_kill=child)
        _expect(answers[0], "confined")
    except Exception as error:
        write_message(verdicts, {"refused": f"{type(error).__name__}: {error}"})
        os._exit(1)
    write_message(verdicts, {"started": True})
    write_message(verdicts, _judge(read_message(0), child, calls[1], answers[0]))
    os._exit(0)


def _moved_up(descriptor: int) -> int:
    """The same file under a number that nothing will be put over."""
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    if descriptor > 2:
        os.close(descriptor)
    return moved


def _libraries() -> list[str]:
    """Python's own folders and the system's shared libraries, outermost only; no site packages of a project."""
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"]
    paths = [os.path.abspath(path) for path in (f"{sys.base_prefix}/lib", *sys.path, *system) if path]
    kept: list[str] = []
    for path in sorted({path for path in paths if os.path.exists(path)}, key=len):
        if not any(path.startswith(f"{outer}/") for outer in kept):
            kept.append(path)
    return kept


def _confine(
    order: dict[str, Any], libraries: list[str], writable: list[str], may_kill: int | None = None
) -> None:
    """Everything that holds for both processes; after it nothing here can be taken back."""
    spaces = order["walls"] == "namespaces"
    drop_privileges(os.path.dirname(os.__file__))
    die_with_parent()
    hide_memory()
    os.chdir(SCRATCH if spaces else "/")
    restrict_files(["/"] if spaces else libraries, writable, may_signal=may_kill is not None)
    set_limits(order["memory_bytes"], order["cpu_seconds"], order["file_bytes"])
    restrict_calls(may_kill)


def _give_up(child: int) -> None:
    """Time or output is used up: no verdict, and nobody is left behind."""
    _end(child)
    os._exit(1)


def _end(child: int) -> tuple[int, float]:
    """Kill and collect the candidate: its wait status and the processor seconds it used."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    try:
        _, status, usage = os.wait4(child, 0)
    except ChildProcessError:
        return 0, 0.0
    return status, usage.ru_utime + usage.ru_stime


def _expect(answers: int, key: str) -> None:
    answer = read_message(answers)
    if not isinstance(answer, dict) or key not in answer:
        raise OSError(str(answer))


class _Candidate:
    """The entry point as the check sees it: a function whose body runs in the other process."""

    def __init__(self, calls: int, answers: int) -> None:
        self._calls, self._answers = calls, answers
        self.called = 0
        # what makes the run a failure whatever the check does with the exception
        self.fault: tuple[str, str] | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.called += 1
        call = {"arguments": pack(list(arguments)), "named": pack(named)}
        answer = self.ask(call)
        if "raised" in answer:
            raise self._raised(str(answer["raised"]), str(answer.get("text")))
        try:
            return unpack(answer["value"])
        except (KeyError, TypeError, ValueError, RecursionError, ArithmeticError, MemoryError) as error:
            raise self._ended("failed", "the program answered with something that is no value") from error

    def ask(self, call: dict[str, Any]) -> dict[str, Any]:
        """Send one message and read one. `_Ended` where that cannot be."""
        if self.fault is not None:
            raise _Ended
        try:
            write_message(self._calls, call)
            answer = read_message(self._answers)
        except (EOFError, BrokenPipeError) as error:
            raise self._ended("killed", "the program ended before it answered") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._ended("failed", "the program answered with something that is no message") from error
        if not isinstance(answer, dict):
            raise self._ended("failed", "the program answered with something that is no message")
        if answer.get("raised") in ("MemoryError", "uncarried"):
            reason = "memory" if answer["raised"] == "MemoryError" else "failed"
            raise self._ended(reason, str(answer.get("text") or "MemoryError"))
        return answer

    def _ended(self, reason: str, detail: str) -> _Ended:
        self.fault = (reason, detail)
        return _Ended(detail)

    @staticmethod
    def _raised(name: str, text: str) -> Exception:
        """A builtin exception under its own type, since a check may expect one."""
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            with contextlib.suppress(TypeError):
                return kind(text)
        return RuntimeError(f"{name}: {text}")


def _judge(task: dict[str, str], child: int, calls: int, answers: int) -> dict[str, Any]:
    """Run the check against the candidate; passed only if it came to its end and had called the candidate."""
    candidate = _Candidate(calls, answers)
    found = _checked(candidate, task)
    status, seconds = _end(child)
    if candidate.fault is None:
        return found
    reason, detail = candidate.fault
    if reason == "killed" and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        detail = f"{detail} (signal {number})"
        # a program may ignore the first; the kernel sends the second when memory is short, too
        used_up = number == signal.SIGKILL and seconds >= 0.9 * float(task["cpu_seconds"])
        if number == signal.SIGXCPU or used_up:
            reason, detail = "timeout", "the processor time is used up"
    return {"passed": False, "reason": reason, "detail": detail[:_LONGEST_DETAIL]}


def _checked(candidate: _Candidate, task: dict[str, str]) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "check"}
    try:
        loaded = candidate.ask({"load": task["entry_point"]})
        if "raised" in loaded:
            return _failed(f"{loaded['raised']}: {loaded.get('text')}")
        exec(compile(task["helpers"], "<helpers>", "exec"), space)
        space.pop("check", None)
        space[task["entry_point"]] = candidate
        exec(compile(task["check"], "<check>", "exec"), space)
        if "check" in space:
            space["check"](candidate)
    except BaseException as error:
        return _failed(_described(error, task["check"]))
    if not candidate.called:
        return _failed("the check never called the program")
    return {"passed": True, "reason": "passed", "detail": ""}


def _failed(detail: str) -> dict[str, Any]:
    return {"passed": False, "reason": "failed", "detail": detail[:_LONGEST_DETAIL]}


def _described(error: BaseException, check: str) -> str:
    """The exception, and the line of the check that it left."""
    number, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<check>":
            number = trace.tb_lineno
        trace = trace.tb_next
    where = f" at: {check.splitlines()[number - 1].strip()}" if number else ""
    return f"{type(error).__name__}: {error}{where}" if str(error) else f"{type(error).__name__}{where}"


def _candidate(order: dict[str, Any], libraries: list[str], descriptors: list[int]) -> None:
    """Confine the process, run the foreign program, answer calls; never returns.

    Nothing from here on is trusted: the program may have replaced whatever this code uses.
    """
    try:
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.closerange(len(descriptors), os.sysconf("SC_OPEN_MAX"))
        _confine(order, libraries, writable=[SCRATCH] if order["walls"] == "namespaces" else [])
        write_message(_ANSWERS, {"confined": True})
    except BaseException as error:
        write_message(_ANSWERS, {"refused": f"{type(error).__name__}: {error}"})
        os._exit(1)
    try:
        _serve(order.pop("program"))
    finally:
        os._exit(0)


def _serve(program: str) -> None:
    module = types.ModuleType("candidate")
    # dataclasses and pickle look a class's module up by name
    sys.modules["candidate"] = module
    entry_point: Callable[..., Any] | None = None
    while True:
        message = read_message(_CALLS)
        try:
            if "load" in message:
                exec(compile(program, "<program>", "exec"), module.__dict__)
                entry_point = getattr(module, message["load"])
                answer: dict[str, Any] = {"loaded": True}
            else:
                assert entry_point is not None
                value = entry_point(*unpack(message["arguments"]), **unpack(message["named"]))
                answer = _carried(value)
        except BaseException as error:
            answer = {"raised": type(error).__name__, "text": str(error)[:_LONGEST_DETAIL]}
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        write_message(_ANSWERS, answer)


def _carried(value: Any) -> dict[str, Any]:
    try:
        return {"value": pack(value)}
    except (TypeError, RecursionError) as error:
        return {"raised": "uncarried", "text": f"the result cannot be compared: {error}"}
