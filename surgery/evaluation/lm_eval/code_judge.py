"""Programs that a model wrote, judged by a function that the caller gives; none of them runs in this process.

lm-eval's code tasks ask HF evaluate for `code_eval`, which would run them in a child of it. They get a
stand-in that computes the same pass@k from the judge's word.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.sandbox import Limits, Sandbox

_PATCHING = RLock()
_CALL = re.compile(r"\n\s*check\((?P<name>\w+)\)\s*\Z")
_ASSERTED = re.compile(r"^\s*assert\s+(?:\w+\()*?(?P<name>\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """A generated program and the test that decides whether it is right, both as source text.

    `entry_point` names the function that the test calls, where that can be told. `helpers` is trusted source
    that the test may use: the task's own beginning of the program, where the document has one.
    """

    candidate: str
    test: str
    entry_point: str = ""
    helpers: str = ""

    @property
    def text(self) -> str:
        """Program and test as lm-eval's own runner joins them."""
        return f"{self.candidate}\n{self.test}"


# True when the test holds for the program, which must not run in this process
Judge = Callable[[Program], bool]
_judge: ContextVar[Judge | None] = ContextVar("judge", default=None)
_document: ContextVar[Mapping[str, Any]] = ContextVar("document")


def sandboxed(sandbox: "Sandbox", limits: "Limits | None" = None) -> Judge:
    """A judge that has the programs run by the project's sandbox, which raises its own errors."""

    def judge(program: Program) -> bool:
        # the sandbox makes the call of a test's `check` itself
        test = _CALL.sub("", program.test)
        point, helpers = program.entry_point, program.helpers
        return sandbox.run(program.candidate, test, point, helpers=helpers, limits=limits).passed

    return judge


def _program(candidate: str, test: str) -> Program:
    """A program with what its document and its test tell about it."""
    document = _document.get({})
    called = _CALL.search(test) or _ASSERTED.search(test)
    point = document.get("entry_point") or (called["name"] if called else "")
    return Program(candidate, test, point, document.get("prompt", "") if document.get("entry_point") else "")


def uses_judge(task: Any) -> bool:
    """Whether a judge decides about this task's programs."""
    functions = getattr(task, "_metric_fn_list", {}).values()
    return any(holds_judge(function) for function in functions)


def holds_judge(function: Any) -> bool:
    # lm-eval keeps `metric.__call__`, which hides the function itself
    function = getattr(function, "__self__", function)
    held: Iterable[Any] = getattr(function, "__globals__", {}).values()
    return any(isinstance(getattr(part, "__self__", part), _CodeEval) for part in held)


class _CodeEval:
    """In place of HF evaluate's `code_eval`, which would run generated code in a child of this process."""

    def __init__(self) -> None:
        self.loading = True

    def compute(
        self, *, references: Sequence[str], predictions: Sequence[Sequence[str]], k: Sequence[int] = (1,), **_: Any
    ) -> tuple[dict[str, float], dict[int, list[Any]]]:
        """Pass@k as `code_eval` estimates it, and which candidates passed."""
        judge = _judge.get()
        if judge is None:
            if self.loading:  # definitions try their runner once when they are imported
                return {f"pass@{n}": 0.0 for n in k}, {}
            raise DataError(
                "generated code was to be run, and nothing here may run it", "give a judge of programs"
            )
        passed = [
            [bool(judge(_program(candidate, test))) for candidate in candidates]
            for test, candidates in zip(references, predictions, strict=True)
        ]
        enough = [n for n in k if all(len(row) >= n for row in passed)]
        rates = {f"pass@{n}": float(np.mean([_pass_at(len(row), sum(row), n) for row in passed])) for n in enough}
        return rates, dict(enumerate(passed))


def _pass_at(count: int, right: int, k: int) -> float:
    """The unbiased estimate of pass@k from `right` of `count` candidates (Chen et al. 2021)."""
    if count - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(count - right + 1, count + 1)))


@contextlib.contextmanager
def judging(judge: Judge | None) -> Iterator[None]:
    """Programs that a task's metrics want run inside go to `judge`, each distinct one once."""
    known: dict[Program, bool] = {}

    def remembered(program: Program) -> bool:
        if judge is not None and program not in known:
            known[program] = judge(program)
        return known[program]

    token = _judge.set(remembered if judge is not None else None)
    try:
        yield
    finally:
        _judge.reset(token)


@contextlib.contextmanager
def about(document: Any) -> Iterator[None]:
    """Programs judged inside answer this document."""
    token = _document.set(document if isinstance(document, Mapping) else {})
    try:
        yield
    finally:
        _document.reset(token)


class _Evaluate(ModuleType):
    """HF evaluate with another `code_eval`; the package, many seconds of imports, comes when more is asked."""

    package: Any

    def __init__(self, stand_in: _CodeEval) -> None:
        super().__init__("evaluate")
        self.__spec__ = find_spec("evaluate")
        self._stand_in = stand_in

    def load(self, path: str, *args: Any, **options: Any) -> Any:
        return self._stand_in if path == "code_eval" else self._package().load(path, *args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by whoever looks over a module, not for the package
            raise AttributeError(name)
        return getattr(self._package(), name)

    def _package(self) -> Any:
        if "package" not in self.__dict__:
            held = sys.modules.pop("evaluate", None)
            try:
                self.package = import_module("evaluate")
            finally:
                if held is self:
                    sys.modules["evaluate"] = self
        return self.package


@contextlib.contextmanager
def judge_for_code() -> Iterator[None]:
    """Definitions that ask HF evaluate for `code_eval` while they are loaded get one that asks the judge."""
    with _PATCHING:
        stand_in, package = _CodeEval(), sys.modules.pop("evaluate", None)
        replaced = _Evaluate(stand_in)
        if package is not None:
            replaced.package = package
        sys.modules["evaluate"] = replaced
        try:
            yield
        finally:
            stand_in.loading = False
            del sys.modules["evaluate"]
            if package := replaced.__dict__.get("package"):
                sys.modules["evaluate"] = package
