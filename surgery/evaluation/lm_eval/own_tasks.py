"""Definitions of tasks in a person's own folder, read as data: nothing that they name is imported or run.

lm-eval imports Python where a definition says `!function`, and loads what a metric or a data set is called. Here
only a person's word for the folder allows that, and no path in a definition leads out of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surgery.errors import DataError, SurgeryError
from surgery.evaluation.lm_eval.local_data import read_records
from surgery.files import LONGEST, load_yaml, read_limited, user_path

TRUST = (
    "if you trust the folder's code, allow it: surgery benchmark --trust-task-code, or the switch beside the folder on "
    "the page"
)
_MOST_FILES = 10_000
_MOST_INCLUDED = 64
_IGNORED = {"__pycache__", ".ipynb_checkpoints"}
_PROGRAMS = ("class", "custom_dataset", "use_prompt")
_LOCAL = ("json", "parquet")
_HUB_SETTINGS = {"data_files", "data_dir", "revision", "trust_remote_code"}


@dataclass(frozen=True)
class Code:
    """A `!function` of a definition, kept as the words that it is."""

    reference: str


@dataclass(frozen=True)
class OwnTasks:
    """The definitions in a folder. `entries` are lm-eval's, by name of task, group or tag.

    `texts` has what each definition file says, the files that it includes among it; `unread` the files that are
    no definition, with the reason.
    """

    folder: Path
    entries: Mapping[str, Any]
    texts: Mapping[Path, tuple[str, ...]]
    unread: Mapping[str, str] = field(default_factory=dict)

    def holds(self, name: str, entry: Any) -> bool:
        """Whether lm-eval's entry of this name is the one that was read here."""
        return self.entries.get(name) is entry

    def check(self, name: str) -> None:
        """Raise `DataError` where the definition would run code or read files from elsewhere."""
        config = self.entries[name].cfg or {}
        for part in leaves(config):
            if isinstance(part, Code):
                raise DataError(f"the definition of {name!r} imports Python ({part.reference[:80]!r})", TRUST)
        for place in _mappings(config):
            _check_programs(name, place)
            if place is not config and {"dataset_path", "dataset_kwargs"} & set(place):
                raise DataError(
                    f"the group {name!r} changes the data of its tasks", "write a definition for each such task"
                )

    def records(self, name: str) -> dict[str, list[dict[str, Any]]] | None:
        """The examples of a task by split where its data are files of the folder, None where they are on the hub.

        Raises `DataError` for data from elsewhere.
        """
        entry = self.entries[name]
        path, settings = entry.cfg.get("dataset_path"), dict(entry.cfg.get("dataset_kwargs") or {})
        if path not in _LOCAL:
            _check_hub(name, path, settings)
            return None
        files = settings.pop("data_files", None)
        settings.pop("trust_remote_code", None)
        if settings or not isinstance(files, (str, list, Mapping)) or not files:
            what = f"has the setting {next(iter(settings))!r}" if settings else "names no files"
            raise DataError(f"the data of {name!r} {what}", "write dataset_kwargs: {data_files: {test: FILE}}")
        splits = files if isinstance(files, Mapping) else {"train": files}
        return {
            str(split): [
                record
                for file in (named if isinstance(named, list) else [named])
                for record in read_records(str(self._inside(name, str(file), entry.yaml_path.parent)))
            ]
            for split, named in splits.items()
        }

    def _inside(self, name: str, text: str, beside: Path) -> Path:
        """The file of the folder that a definition names, from the current folder or from its own."""
        for path in (Path(text), beside / text):
            real = path.resolve()
            if real.is_file() and real.is_relative_to(self.folder):
                return real
        raise DataError(
            f"{name!r} names {text[:80]!r}, which is no file inside {str(self.folder)!r}",
            "put it there, or name the file yourself: --data-files test=FILE, or Local files on the page",
        )


def read_folder(path: str) -> OwnTasks:
    """The definitions in all `.yaml` files of a folder and below; raises `DataError` for one that has none."""
    from lm_eval.tasks._index import TaskIndex

    folder = user_path(path, DataError)
    if not folder.is_dir():
        raise DataError(f"no folder at {path!r}", "name the folder that holds your task's .yaml file")
    folder = folder.resolve()
    entries: dict[str, Any] = {}
    texts: dict[Path, tuple[str, ...]] = {}
    unread: dict[str, str] = {}
    for count, file in enumerate(_yaml_files(folder)):
        if count == _MOST_FILES:
            raise DataError(f"{path!r} has more than {_MOST_FILES:,} definitions", "name a folder below it")
        try:
            config, said = _read(file, folder, ())
            TaskIndex.process_cfg(config, file, entries)
            texts[file] = said
        except (SurgeryError, ValueError, TypeError, KeyError) as error:
            unread[file.name] = error.problem if isinstance(error, SurgeryError) else str(error)
    if not texts:
        reason = next((f" ({name}: {why})" for name, why in unread.items()), "")
        raise DataError(
            f"no task is defined in {path!r}{reason}", "name the folder that holds your task's .yaml file"
        )
    return OwnTasks(folder, entries, texts, unread)


def _yaml_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*.yaml"), key=Path.as_posix):
        if file.resolve().is_relative_to(folder) and not _IGNORED & set(file.parts):
            yield file


def _read(file: Path, folder: Path, within: tuple[Path, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A definition with what it includes, as lm-eval joins them, and the texts of the files."""
    real = file.resolve()
    if not real.is_relative_to(folder):
        raise DataError(f"includes {file.name!r}, which is outside of the folder", "copy that file into it")
    if real in within:
        raise DataError(f"includes itself by {file.name!r}", "leave that line out")
    try:
        text = read_limited(real, 4 * LONGEST).decode()
        config = load_yaml(text, {"!function": Code})
    except (OSError, ValueError) as error:
        raise DataError(f"{file.name!r} could not be read ({error})", "mend the file") from error
    if not isinstance(config, dict):
        raise DataError(f"{file.name!r} holds no settings", "write task: NAME in it")
    included = config.pop("include", None) or []
    merged: dict[str, Any] = {}
    texts = [text]
    for name in included if isinstance(included, list) else [included]:
        # each of these may include several, and so on: a few files can ask for millions of readings
        if len(within) + len(texts) > _MOST_INCLUDED:
            raise DataError(f"{file.name!r} includes more than {_MOST_INCLUDED} files", "write it out")
        below, said = _read(real.parent / str(name), folder, (*within, real))
        merged |= {key: value for key, value in below.items() if key != "task_list"}
        texts += said
    return merged | config, tuple(texts)


def _check_programs(name: str, config: Mapping[str, Any]) -> None:
    """Refuse settings by which lm-eval would load programs or files."""
    from lm_eval.api import metrics  # noqa: F401  # it fills the registry
    from lm_eval.api.registry import metric_registry

    if found := [key for key in _PROGRAMS if config.get(key) is not None]:
        raise DataError(f"the definition of {name!r} uses {found[0]!r}, which loads a program", TRUST)
    listed = config.get("metric_list")
    for metric in listed if isinstance(listed, list) else []:
        named = metric.get("metric") if isinstance(metric, Mapping) else None
        foreign = isinstance(metric, Mapping) and metric.get("hf_evaluate")
        if named is not None and (foreign or not isinstance(named, str) or named not in metric_registry):
            raise DataError(f"the metric {str(named)[:60]!r} of {name!r} is a program from elsewhere", TRUST)


def _check_hub(name: str, path: Any, settings: Mapping[str, Any]) -> None:
    """Refuse what `load_dataset` would not take from a repository of the hub."""
    from datasets import packaged_modules

    remedy = "name the files yourself: --data-files test=FILE, or Local files on the page"
    local = isinstance(path, str) and (
        _leads_away(path) or path in packaged_modules._PACKAGED_DATASETS_MODULES or Path(path).exists()
    )
    if not isinstance(path, str) or local:
        raise DataError(
            f"the data of {name!r} are to come from {str(path)[:80]!r}, no data set of the hub", remedy
        )
    if unknown := sorted(set(settings) - _HUB_SETTINGS):
        raise DataError(f"the data of {name!r} have the setting {unknown[0]!r}", remedy)
    if away := [text for text in leaves(settings) if isinstance(text, str) and _leads_away(text)]:
        raise DataError(f"the data of {name!r} are to come from {away[0][:80]!r}", remedy)


def _leads_away(text: str) -> bool:
    return text.startswith(("/", "~", ".", "\\")) or "://" in text or ".." in text or ":\\" in text


def leaves(value: Any) -> Iterator[Any]:
    """The values inside mappings and lists, however deep."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for part in value:
        yield from leaves(part)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    for part in value if isinstance(value, list) else []:
        yield from _mappings(part)
