"""Datasets of the hub as rows: which files of a snapshot hold a split, and how they are fetched."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from surgery.data.files_source import SUFFIXES
from surgery.data.saved_folder import is_saved, saved_files
from surgery.errors import DataError, first_line
from surgery.files import load_yaml, read_limited, user_path

HUB = "hub:"
_PART = r"[A-Za-z0-9][\w.\-]*"
_NAME = re.compile(rf"(?P<name>{_PART}(?:/{_PART})?)(?:@(?P<revision>{_PART}))?(?:/(?P<config>{_PART}))?")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")
_CARD = "README.md"
_MOST_CARD = 8 << 20


class NotFetchedError(DataError):
    """A dataset of the hub that is not in the cache of this machine."""


@dataclass(frozen=True)
class HubSource:
    """A split of a dataset: `hub:OWNER/NAME[@REVISION][/CONFIG]:SPLIT`, or `hub:FOLDER:SPLIT` for a copy.

    A dataset without an owner takes a config only after its revision: `hub:NAME@main/CONFIG:SPLIT`.
    """

    name: str
    split: str = "train"
    config: str = ""
    revision: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        config = f"/{self.config}" if self.config else ""
        return f"{HUB}{self.name}{revision}{config}:{self.split}"

    @property
    def is_folder(self) -> bool:
        return self.name.startswith(("/", ".", "~"))


def is_hub(source: str) -> bool:
    """Whether a source of rows is a dataset of the hub, `hub:…`."""
    return source.startswith(HUB)


def parse_hub(source: str) -> HubSource:
    """The parts of a `hub:` source; raises `DataError` for a text that names no dataset and split."""
    text, _, split = source.removeprefix(HUB).strip().rpartition(":")
    if not text:
        text, split = split, "train"
    if HubSource(text).is_folder and split:
        return HubSource(text, split)
    match = _NAME.fullmatch(text)
    if match is None or not re.fullmatch(_PART, split):
        raise DataError(
            f"{source[:80]!r} names no dataset of the hub",
            "write hub:OWNER/NAME:SPLIT or hub:OWNER/NAME/CONFIG:SPLIT",
        )
    return HubSource(match["name"], split, match["config"] or "", match["revision"] or "")


def hub_files(source: HubSource, download: bool) -> list[Path]:
    """The files of a split, in order: from a folder, the hub's cache, or the hub itself."""
    if source.is_folder:
        return folder_files(user_path(source.name, DataError), source.split)
    try:
        import huggingface_hub
    except ImportError:
        raise DataError(
            "datasets of the hub need huggingface_hub, which is not installed", "run: pip install huggingface_hub"
        ) from None
    cached = _cached_snapshot(source)
    lacking: DataError | None = None
    if cached is not None:
        try:
            names = _choose_files(_inside(cached), _card(cached), source)
        except DataError as error:
            names, lacking = [], error  # another split of it may be there
        if names and _is_whole(names):
            return [cached / name for name in names]
    absent = f"{str(source)!r} is not on this machine"
    if not download:
        raise NotFetchedError(absent, "measure it to fetch it")
    try:
        # a single request: its own listing of a repository tries for half a minute without a network
        info = huggingface_hub.HfApi().dataset_info(source.name, revision=source.revision or None, timeout=10)
        listed = [str(item.rfilename) for item in info.siblings or []]
        where: dict[str, Any] = {"repo_id": source.name, "repo_type": "dataset", "revision": info.sha}
        folder = Path(huggingface_hub.snapshot_download(**where, allow_patterns=[_CARD]))
        names = _choose_files(listed, _card(folder), source)
        folder = Path(huggingface_hub.snapshot_download(**where, allow_patterns=names))
    except DataError:
        raise
    except Exception as error:  # whatever the network, the hub and its client raise
        if lacking is not None:
            raise lacking from error
        raise DataError(
            f"{absent} and cannot be fetched from the hub ({first_line(error)})",
            "check the name and the network, or copy its files here and name one of them, or hub:FOLDER:SPLIT",
        ) from error
    return [folder / name for name in names]


def folder_files(folder: Path, split: str = "") -> list[Path]:
    """The files of a split, in order, in a folder that `datasets` saved or a copy of a dataset of the hub.

    `split` may be left out where there is one, or one called `train`. Raises `DataError`.
    """
    if not folder.is_dir():
        raise DataError(f"no folder at {str(folder)!r}", "name a folder with a copy of the dataset")
    if is_saved(folder):
        return saved_files(folder, split)
    source = HubSource(str(folder), split or "train")
    return [folder / name for name in _choose_files(_inside(folder), _card(folder), source)]


def _cached_snapshot(source: HubSource) -> Path | None:
    """The folder in huggingface_hub's cache that holds the revision, whole or in part.

    Its own look-up refuses a snapshot of which other splits were never fetched.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.name, repo_type="dataset")
    revision = source.revision or "main"
    try:
        commit = (storage / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    folder = storage / "snapshots" / commit
    return folder if folder.is_dir() else None


def _inside(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _card(folder: Path) -> str:
    try:
        return read_limited(folder / _CARD, _MOST_CARD).decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _choose_files(names: Iterable[str], card: str, source: HubSource) -> list[str]:
    """The files of the split among `names`: as the dataset's card says, else by the names themselves."""
    data = sorted(name for name in names if name.lower().endswith(SUFFIXES) and ".." not in name.split("/"))
    patterns = _card_patterns(card, source)
    if patterns is not None:
        chosen = [name for name in data if any(fnmatch(name, pattern) for pattern in patterns)]
    else:
        chosen = [name for name in data if _says(name, source.split)]
        if source.config:
            chosen = [name for name in chosen if _says(name, source.config)]
        folders = {name.rpartition("/")[0] for name in chosen}
        if len(folders) > 1 and not source.config:
            shown = ", ".join(repr(folder or ".") for folder in sorted(folders)[:8])
            raise DataError(f"{str(source)!r} could mean files in {shown}", "name the configuration too")
    # one split as parquet and again as JSON lines would count twice
    for suffix in SUFFIXES:
        alike = [name for name in chosen if name.lower().endswith(suffix)]
        if alike:
            return alike
    shown = ", ".join(repr(name) for name in data[:8]) or "no files of rows"
    raise DataError(
        f"{str(source)!r} has no files for this split", f"name another split or configuration: there are {shown}"
    )


def _says(name: str, word: str) -> bool:
    """Whether a path holds a word, with no letter or digit beside it."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", name) is not None


def _card_patterns(card: str, source: HubSource) -> list[str] | None:
    """The patterns of the split's files in the `configs` of a dataset card; None where it has none.

    Raises `DataError` when the card names configurations or splits, but not the one asked for.
    """
    before, _, rest = card.partition("\n")
    try:
        head = load_yaml(rest.partition("\n---")[0]) if before.rstrip() == "---" else None
    except ValueError:
        return None
    found: dict[str, dict[str, list[str]]] = {}
    configs = head.get("configs") if isinstance(head, dict) else None
    default = ""
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict):
            continue
        name = str(config.get("config_name", "default"))
        default = name if config.get("default") is True else default
        entries = config.get("data_files")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("split"), str):
                paths = entry.get("path")
                texts = [path for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str)]
                found.setdefault(name, {})[entry["split"]] = texts
    if not found:
        return None
    wanted = source.config or default or ("default" if "default" in found else "")
    if not wanted and len(found) == 1:
        wanted = next(iter(found))
    if wanted not in found:
        raise DataError(
            f"{str(source)!r} names no configuration of this dataset",
            f"use one of {', '.join(sorted(found)[:20])}",
        )
    if source.split not in found[wanted]:
        raise DataError(
            f"{str(source)!r} names no split of this dataset",
            f"use one of {', '.join(sorted(found[wanted])[:20])}",
        )
    return found[wanted][source.split]


def _is_whole(names: Iterable[str]) -> bool:
    """Whether no numbered shard is lacking."""
    shards: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    for name in names:
        match = _SHARD.search(name)
        if match:
            series = name[: match.start()] + match[2]
            shards.setdefault(series, set()).add(int(match[1]))
            counts[series] = int(match[2])
    return all(len(found) == counts[series] for series, found in shards.items())
