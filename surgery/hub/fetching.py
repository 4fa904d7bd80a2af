"""Files of a repository at one commit, through the hub's own client: its cache, its token, its offline mode.

A name that moves is asked for once and then stands for the commit that it named. Names that the hub lists are
compared and handed to the client, which keeps the files in its cache; what came is held to the listed lengths and,
where the client tells a SHA-256, to that.
"""

import glob
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surgery.errors import SurgeryError
from surgery.files import read_limited
from surgery.hub.cache import Cached, cached_files, is_plain, storage_of
from surgery.hub.metering import meter
from surgery.hub.names import Repository, is_commit
from surgery.hub.refusals import hub_refusal, is_unreachable
from surgery.progress import SILENT, Control

Choose = Callable[[Sequence[str], Callable[[str], bytes]], Sequence[str]]
_MOST_READ = 32 << 20  # bytes of a file that tells which others are wanted
_ANSWER_S = 10.0  # for the one request that tells whether there is a hub
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NoHubError(ValueError):
    """An answer that the hub does not give."""


@dataclass(frozen=True)
class Listing:
    """What the hub holds of a repository at a commit: bytes by path, None where it does not say.

    `parameters` counts the numbers in its safetensors files, where the hub has counted them.
    """

    repository: Repository
    commit: str
    sizes: Mapping[str, int | None]
    parameters: int | None = None


@dataclass(frozen=True)
class Fetched:
    """Files in a folder of the client's cache, `names` by their paths in it, and the commit that they are of."""

    folder: Path
    commit: str
    names: tuple[str, ...]


def look_up(repository: Repository, refusal: type[SurgeryError]) -> Listing:
    """What the hub holds of a repository, by one request. Raises `refusal` with the reason and a way out."""
    _check_name(repository, refusal)
    try:
        return _asked(repository)
    except Exception as error:  # whatever the network, the hub and its client raise
        raise hub_refusal(error, repository, refusal) from error


def fetch_files(
    repository: Repository,
    choose: Choose,
    *,
    refusal: type[SurgeryError],
    download: bool = True,
    most: int | None = None,
    control: Control = SILENT,
) -> Fetched:
    """The chosen files of a repository, from the cache or the hub.

    choose: from the paths that the repository has, in order, those that are wanted; it may read small ones among
        them. Raises `refusal` where they lack what is needed.
    download: ask the hub, unless the revision is a commit whose files are all here.
    most: bytes of all wanted files together.
    control: hears of the bytes as they come, and may stop them.

    Raises `refusal` for what cannot be had, and `Cancelled`.
    """
    _check_name(repository, refusal)
    held = cached_files(repository)
    if held is not None and (not download or (repository.is_pinned and held.listed)):
        found = _from(held, choose, refusal)
        if found is not None:
            return found
    if not download:
        raise refusal(f"{str(repository)!r} is not whole in the cache", "open it anew to fetch it from the hub")
    try:
        listing = _asked(repository)
    except Exception as error:
        found = _from(held, choose, refusal) if held is not None and is_unreachable(error) else None
        if found is not None:
            return found
        raise hub_refusal(error, repository, refusal) from error

    def read(name: str) -> bytes:
        # by its commit, which takes no further look-up
        listed = replace(listing, repository=repository.at(listing.commit))
        if name not in listing.sizes:
            return b""
        return _read(_fetch_listed(listed, [name], refusal, _MOST_READ, control), name)

    names = tuple(choose(sorted(listing.sizes), read))
    return Fetched(_fetch_listed(listing, names, refusal, most, control), listing.commit, names)


def _fetch_listed(
    listing: Listing, names: Sequence[str], refusal: type[SurgeryError], most: int | None, control: Control
) -> Path:
    """The folder of the snapshot, with these files of it."""
    repository = listing.repository
    folder = storage_of(repository) / "snapshots" / listing.commit
    fresh = [name for name in names if not (folder / name).is_file()]
    total = sum(listing.sizes[name] or 0 for name in names)
    if most is not None and total > most:
        raise refusal(
            f"the files of {str(repository)!r} have {total / 1e9:,.1f} GB, more than {most / 1e9:,.0f} GB",
            "fetch them yourself and name their folder",
        )
    if fresh:
        control.begin(f"fetching {repository.name}, kB")
    stopped = threading.Event()
    heard = replace(control, cancelled=lambda: stopped.is_set() or control.cancelled())
    bar = meter(heard, sum(listing.sizes[name] or 0 for name in fresh))
    try:
        # with nothing to fetch it still notes which commit the name stands for, and what else that has
        came = _beside(lambda: _download(repository, names, bar), stopped)
    except Exception as error:
        control.heed()
        raise hub_refusal(error, repository, refusal) from error
    control.heed()
    if came != folder:
        raise refusal(f"{str(repository)!r} changed while it was fetched", "try again")
    _check(listing, folder, fresh, refusal)
    return folder


def _check_name(repository: Repository, refusal: type[SurgeryError]) -> None:
    if not repository.is_sound:
        raise refusal(
            f"{str(repository)[:120]!r} cannot be a name and a revision on the hub",
            "write owner/name, and a branch, a tag or a commit as its revision",
        )


def _asked(repository: Repository) -> Listing:
    """One request. The client's own listing of a repository tries for half a minute without a network."""
    from huggingface_hub import HfApi

    ask: Any = HfApi().dataset_info if repository.kind == "dataset" else HfApi().model_info
    with _quiet():
        info = ask(repository.name, revision=repository.revision or None, files_metadata=True, timeout=_ANSWER_S)
    if not is_commit(info.sha):
        raise NoHubError("it names no commit")
    # of a large file the hub may tell the length of what stands for it in git
    sizes = {
        item.rfilename: item.lfs.size if item.lfs is not None else item.size
        for item in info.siblings or []
        if is_plain(item.rfilename)
    }
    return Listing(repository, info.sha, sizes, getattr(getattr(info, "safetensors", None), "total", None))


def _beside(work: Callable[[], Path], stopped: threading.Event) -> Path:
    """What the work gives, done on a thread of its own: the client would finish its files before it hears the keyboard."""
    with ThreadPoolExecutor(1, thread_name_prefix="hub") as pool:
        try:
            return pool.submit(work).result()
        except BaseException:
            stopped.set()
            raise


def _download(repository: Repository, names: Sequence[str], bar: type) -> Path:
    from huggingface_hub import snapshot_download

    with _quiet():
        return Path(
            snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=repository.revision or None,
                allow_patterns=[glob.escape(name) for name in names],
                tqdm_class=bar,
            )
        )


def _check(listing: Listing, folder: Path, names: Sequence[str], refusal: type[SurgeryError]) -> None:
    """Hold what came to its listed length and to the checksum that the client names its file by."""
    for name in names:
        file, size = folder / name, listing.sizes[name]
        if not file.is_file():
            raise refusal(f"{name!r} of {str(listing.repository)!r} did not come", "try again")
        kept = file.resolve()
        if (size is None or kept.stat().st_size == size) and _sums_up(kept):
            continue
        for each in {file, kept}:  # or the next try would find it
            each.unlink(missing_ok=True)
        raise refusal(
            f"{name!r} of {str(listing.repository)!r} came with other bytes than the hub lists",
            "try again; if it stays so, name a folder with a copy of its files",
        )


def _sums_up(file: Path) -> bool:
    if not _SHA256.fullmatch(file.name):
        return True
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == file.name


def _from(held: Cached, choose: Choose, refusal: type[SurgeryError]) -> Fetched | None:
    """What is wanted, where the cache holds all of it. Of files without a listing that is what is there."""
    try:
        names = tuple(choose(held.names, lambda name: _read(held.folder, name)))
    except refusal:
        if held.listed:
            raise
        return None
    whole = all((held.folder / name).is_file() for name in names)
    return Fetched(held.folder, held.commit, names) if whole else None


def _read(folder: Path, name: str) -> bytes:
    """A small file of a snapshot; empty for one that is not there or not small."""
    try:
        return read_limited(folder / name, _MOST_READ)
    except OSError:
        return b""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's own words off standard error, where our progress and refusals go."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
