"""Every finished request of a run on disk while the run goes on, held by one process at a time."""

import errno
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar
from zlib import crc32

from surgery.errors import DataError
from surgery.files import is_locked, try_lock, write_problem


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
