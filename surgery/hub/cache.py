"""What the cache of the hub's client holds of a repository, told without a network."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from surgery.files import read_limited
from surgery.hub.names import Repository, is_commit

_MOST_LISTING = 256 << 20  # bytes of the names of a repository's files


@dataclass(frozen=True)
class Cached:
    """What the client's cache holds of a repository at a commit.

    `names` are the files of the commit where `listed`, and otherwise no more than those that are there.
    """

    folder: Path
    commit: str
    names: tuple[str, ...]
    listed: bool


def cached_files(repository: Repository) -> Cached | None:
    """What the cache holds of the revision, whole or in part; None for nothing. Asks no network."""
    commit = commit_in_cache(repository)
    if commit is None:
        return None
    storage = storage_of(repository)
    folder = storage / "snapshots" / commit
    listed = _listed(storage / "trees" / f"{commit}.json")
    if not folder.is_dir():
        return None
    if listed is not None:
        return Cached(folder, commit, listed, listed=True)
    found = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return Cached(folder, commit, tuple(found), listed=False)


def commit_in_cache(repository: Repository) -> str | None:
    """The commit that the revision stood for when it was fetched last; None where it never was."""
    if repository.is_pinned or not repository.is_sound:
        return repository.revision if repository.is_sound else None
    file = storage_of(repository) / "refs" / (repository.revision or "main")
    with suppress(OSError, UnicodeDecodeError):
        commit = file.read_text(encoding="utf-8").strip()
        return commit if is_commit(commit) else None
    return None


def storage_of(repository: Repository) -> Path:
    """The folder of a repository in the cache of the hub's client."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository.name, repo_type=repository.kind)


def is_plain(name: object) -> bool:
    """Whether a path that the hub tells stays below its folder."""
    if not isinstance(name, str) or "\\" in name or not name.isprintable() or name.startswith("/"):
        return False
    return name == PurePosixPath(name).as_posix() and ".." not in name.split("/")


def _listed(file: Path) -> tuple[str, ...] | None:
    """The paths of a commit as the client keeps them; None where it keeps none."""
    try:
        return tuple(sorted(filter(is_plain, json.loads(read_limited(file, _MOST_LISTING))["files"])))
    except (OSError, ValueError, LookupError, TypeError):
        return None
