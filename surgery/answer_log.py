"""Append-only log of a run's answers, so that a run that was cut off goes on where it stopped.

The log is a file of JSON lines: one line for every request that its variants have finished, with a checksum.
Requests are told apart by their call, their number in it and what the model is asked, so an answer is never
read as that to another request; model, σ and precision have to be in the name of the folder.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from zlib import crc32

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.calibration import Example
from surgery.engine import Scored, VariantEngine
from surgery.errors import DataError
from surgery.greedy_search import Answered, Stop
from surgery.home import digest, write_problem
from surgery.locks import is_locked, try_lock
from surgery.progress import SILENT, Control
from surgery.variant_rows import Variant

if TYPE_CHECKING:
    from surgery.live import LiveModel


class RequestKey(NamedTuple):
    """Identity of a request in its run: numbers of the call and of the request in it, digest of what is asked."""

    call: int
    number: int
    digest: str


Answers = dict[RequestKey, dict[str, Any]]
Response = TypeVar("Response")
_SECONDS = 2.0  # between writes that a power cut survives; a kill loses no finished request


class AnswerLog:
    """File of finished requests, for one writer at a time; use it as a context manager.

    Opening raises `DataError` where another process writes to the file or the folder cannot be written.
    A line that a kill left half written is dropped, and one that was damaged is passed over.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._synced = time.monotonic()
        self._left = 0  # answers that are still to come
        self._needed = 0  # bytes that they take, going by the last line
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = file.open("a+b")
        except OSError as error:
            raise self._refused(error) from error
        try:
            if not try_lock(self._file):
                raise DataError("this run is under way in another process", "wait for it, or stop it there")
            self._check_path()
            self.known = self._read()
        except OSError as error:
            self._file.close()
            raise self._refused(error) from error
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> Answers:
        self._file.seek(0)
        lines = self._file.readlines()
        if lines and not lines[-1].endswith(b"\n"):
            self._file.truncate(sum(map(len, lines[:-1])))
        return _parsed(lines)

    def expect(self, answers: int) -> None:
        """So many answers are to come: what a full disk lacks room for can be told then."""
        self._left = answers

    def add(self, key: RequestKey, responses: Mapping[str, Any]) -> None:
        """Keep what variants answered; raises `DataError` when the disk takes no more, or the run was deleted."""
        line = _line(key, responses)
        self._needed = len(line) * max(self._left, len(responses)) // max(1, len(responses))
        self._left -= len(responses)
        try:
            self._file.write(line)
            # a batch may take minutes, and its requests end together: none of them waits for the next one
            self._file.flush()
            if time.monotonic() - self._synced >= _SECONDS:
                self._sync()
        except OSError as error:
            raise self._refused(error) from error
        self.known.setdefault(key, {}).update(responses)

    def close(self) -> None:
        """Write what is not on the disk yet; raises `DataError` when that is refused."""
        try:
            self._sync()
        except OSError as error:
            raise self._refused(error) from error
        finally:
            with suppress(OSError):
                self._file.close()

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except DataError:
            if kind is None:  # what ended the work before says more
                raise

    def _sync(self) -> None:
        self._file.flush()
        self._check_path()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _check_path(self) -> None:
        """Raise `FileNotFoundError` for a file that was deleted or moved: it would take answers all the same."""
        if not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _refused(self, error: OSError) -> DataError:
        return unwritable(self._path.parent, error, self._needed)


def unwritable(folder: Path, error: OSError, needed: int) -> DataError:
    """What to tell of a run of which `needed` bytes more cannot be written to its folder."""
    kept = "make room or check the folder, then start again: finished requests are kept"
    gone = "start again: the run begins anew"
    return DataError(
        f"the run {folder.name!r} cannot be written ({write_problem(error, needed)})",
        gone if isinstance(error, FileNotFoundError) else kept,
    )


def logged_answers(file: Path) -> Answers:
    """Answers that a log holds, by request and variant; none without a file. Another process may write to it."""
    try:
        with file.open("rb") as lines:
            return _parsed(lines)
    except OSError:
        return {}


def under_way(file: Path) -> bool:
    """Whether a log is open for writing, in this process or in another."""
    try:
        with file.open("rb") as lines:
            return is_locked(lines)
    except OSError:
        return False


Done = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class _Call(Generic[Response]):
    """A method of the engine as the log has it.

    digests: of each request.
    ask: runs the requests of these indices through an engine.
    keep, read: a response as a value of JSON, and back.
    """

    digests: Sequence[str]
    ask: Callable[[VariantEngine, Sequence[int], Control, Done], object]
    keep: Callable[[Response], Any]
    read: Callable[[Any], Response]


class LoggedEngine:
    """`VariantEngine` behind a log: the model is asked for nothing that the log holds.

    Calls have to come in the same order with the same requests whenever the same log is used; a request that
    is another than the one logged under its number is asked anew. Each variant is asked for what it lacks;
    those that lack the same share their batches, of at most `batch_size` requests. Answers known from before
    count as done.
    """

    def __init__(
        self,
        live: "LiveModel",
        variants: Mapping[str, Variant | None],
        log: AnswerLog,
        *,
        batch_size: int | None = None,
    ) -> None:
        self._live, self._variants, self._log, self._batch_size = live, dict(variants), log, batch_size
        self._calls = 0

    def log_likelihoods(
        self, requests: Sequence[tuple[Sequence[int], Sequence[int]]], *, control: Control = SILENT
    ) -> dict[str, list[Scored]]:
        """See `VariantEngine.log_likelihoods`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.log_likelihoods([requests[i] for i in picked], control=control, done=done)

        digests = [_digest("likelihood", context, continuation) for context, continuation in requests]
        return self._answers(_Call(digests, ask, astuple, lambda kept: Scored(*kept)), control)

    def answer_losses(
        self, examples: Sequence[Example], *, control: Control = SILENT
    ) -> dict[str, Float64[ndarray, "example"]]:
        """See `VariantEngine.answer_losses`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.answer_losses([examples[i] for i in picked], control=control, done=done)

        digests = [_digest("loss", example.prompt_ids, example.answer_ids) for example in examples]
        answers = self._answers(_Call(digests, ask, float, float), control)
        return {name: np.array(losses, dtype=np.float64) for name, losses in answers.items()}

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        stop: Stop | None = None,
        control: Control = SILENT,
    ) -> dict[str, list[list[int]]]:
        """See `VariantEngine.generate`."""
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        if len(limits) != len(prompts):
            raise DataError(f"{len(limits)} limits were given for {len(prompts)} prompts", "give one for each")

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.generate(
                [prompts[i] for i in picked],
                max_new_tokens=[limits[i] for i in picked],
                stop=None if stop is None else lambda index, tokens: stop(picked[index], tokens),
                control=control,
                done=done,
            )

        digests = [_digest("text", prompt, [limit]) for prompt, limit in zip(prompts, limits, strict=True)]
        return self._answers(_Call[list[int]](digests, ask, list, list), control)

    def answer(
        self, examples: Sequence[Example], *, max_new_tokens: int, control: Control = SILENT
    ) -> dict[str, list[Answered]]:
        """See `VariantEngine.answer`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            chosen = [examples[i] for i in picked]
            return engine.answer(chosen, max_new_tokens=max_new_tokens, control=control, done=done)

        digests = [_digest("answer", e.prompt_ids, e.answer_ids, [max_new_tokens]) for e in examples]
        return self._answers(_Call(digests, ask, astuple, lambda kept: Answered(*kept)), control)

    def _answers(self, call: _Call[Response], control: Control) -> dict[str, list[Response]]:
        """What the log holds of a call, once the model has been asked for what it lacks."""
        keys = [RequestKey(self._calls, number, digest) for number, digest in enumerate(call.digests)]
        self._calls += 1
        groups = self._lacking(keys)
        total = len(keys) * len(self._variants)
        finished = total - sum(len(lacking) * len(names) for lacking, names in groups.items())
        self._log.expect(total - finished)
        control.progress(finished, total)
        for lacking, names in groups.items():
            self._ask(call, [keys[i] for i in lacking], names, control.part(finished, total))
            finished += len(lacking) * len(names)
        return {name: [call.read(self._log.known[key][name]) for key in keys] for name in self._variants}

    def _lacking(self, keys: Sequence[RequestKey]) -> dict[tuple[int, ...], list[str]]:
        """Names of the variants that lack the same requests, by the indices of these."""
        groups: dict[tuple[int, ...], list[str]] = {}
        for name in self._variants:
            lacking = tuple(i for i, key in enumerate(keys) if name not in self._log.known.get(key, {}))
            if lacking:
                groups.setdefault(lacking, []).append(name)
        return groups

    def _ask(
        self, call: _Call[Response], keys: Sequence[RequestKey], names: Sequence[str], control: Control
    ) -> None:
        """Ask the model for requests of a call, and log each as it is answered."""

        def done(index: int, responses: Mapping[str, Response]) -> None:
            self._log.add(keys[index], {name: call.keep(each) for name, each in responses.items()})

        rows = None if self._batch_size is None else self._batch_size * len(names)
        engine = VariantEngine(self._live, {name: self._variants[name] for name in names}, rows=rows)
        call.ask(engine, [key.number for key in keys], control, done)


def _digest(kind: str, *parts: Iterable[int]) -> str:
    """Digest of one request: what is asked for, and the numbers it is asked with."""
    return digest([kind, *(" ".join(map(str, part)) for part in parts)])[:16]


def _line(key: RequestKey, responses: Mapping[str, Any]) -> bytes:
    body = json.dumps([*key, responses], separators=(",", ":"))
    return f"{body[:-1]},{crc32(body.encode())}]\n".encode()


def _parsed(lines: Iterable[bytes]) -> Answers:
    """Answers of every line that is as it was written."""
    known: Answers = {}
    for line in lines:
        with suppress(ValueError, TypeError, RecursionError):
            call, number, identity, responses, _ = json.loads(line)
            key = RequestKey(call, number, identity)
            if _line(key, responses) == line:
                known.setdefault(key, {}).update(responses)
    return known
