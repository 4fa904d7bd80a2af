"""Datasets of the hub as rows: which files of a snapshot hold a split, and how they are fetched."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from surgery.data.files_source import SUFFIXES
from surgery.data.saved_folder import is_saved, saved_files
from surgery.errors import DataError
from surgery.files import load_yaml, read_limited, user_path
from surgery.hub import Repository, cached_files, fetch_files
from surgery.progress import SILENT, Control

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


def fetch_source(source: str, control: Control = SILENT) -> None:
    """Fetch the files of a source of rows that is on the hub, so that reading it asks no network; others stay alone.

    `control` hears of the bytes, and may stop them. Raises `DataError` as `read_source` does, and `Cancelled`.
    """
    if is_hub(source):
        hub_files(parse_hub(source), True, control)


def hub_files(source: HubSource, download: bool, control: Control = SILENT) -> list[Path]:
    """The files of a split, in order: from a folder, the hub's cache, or the hub itself."""
    if source.is_folder:
        return folder_files(user_path(source.name, DataError), source.split)
    repository = Repository(source.name, source.revision, "dataset")

    def chosen(names: Sequence[str], read: Callable[[str], bytes]) -> list[str]:
        found = _choose_files(names, _text(read(_CARD)), source)
        if not _is_whole(found):
            raise DataError(f"{str(source)!r} lacks a part of its files", "name another revision of the dataset")
        return found

    def fetched(download: bool) -> list[Path]:
        found = fetch_files(repository, chosen, refusal=DataError, download=download, control=control)
        return [found.folder / name for name in found.names]

    try:
        return fetched(False)  # a dataset that is here is read without asking whether there is a newer one
    except DataError:
        if not download:
            raise NotFetchedError(f"{str(source)!r} is not on this machine", "measure it to fetch it") from None
    try:
        return fetched(True)
    except DataError:
        held = cached_files(repository)
        if held is not None:  # which may say that the split or the configuration is another one
            chosen(held.names, lambda name: _bytes(held.folder / name))
        raise


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


def _inside(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _card(folder: Path) -> str:
    return _text(_bytes(folder / _CARD))


def _bytes(file: Path) -> bytes:
    try:
        return read_limited(file, _MOST_CARD)
    except OSError:
        return b""


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
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
