"""An adapter's folder on the hub: its config, its weights and its tokenizer are fetched, and nothing else of the
repository. What comes is read as any other folder is.
"""

from collections.abc import Sequence
from pathlib import Path

from surgery.adapter.below import choice_below, in_order
from surgery.adapter.config_file import CONFIG_FILE
from surgery.adapter.tokenizer_files import TOKENIZER_FILES
from surgery.adapter.weights import weights_among
from surgery.errors import AdapterError
from surgery.hub import HubName, cached_files, commit_in_cache, fetch_files, hub_name
from surgery.progress import SILENT, Control

# of all files together; rank 256 on every layer of the largest open models has a third of it
_MOST_BYTES = 32 << 30
_MOST_BESIDE = 256 << 20
_SHOWN = 8


def fetched_adapter(name: HubName, *, download: bool = True, control: Control = SILENT) -> tuple[Path, HubName]:
    """The folder in the hub client's cache that holds the adapter's files, and its name with the commit they are of.

    download: ask the hub; without, what is not in the cache is refused.
    control: hears of the bytes, and may stop them.

    Raises `AdapterError` for what cannot be fetched and for a folder without an adapter, and `ChoiceError` where
    several lie below.
    """
    found = fetch_files(
        name.repository,
        lambda paths, _: adapter_files(name, paths),
        refusal=AdapterError,
        download=download,
        most=_MOST_BYTES,
        control=control,
    )
    return found.folder / name.folder, name.at(found.commit)


def cached_adapter(name: HubName) -> Path | None:
    """The folder of the adapter in the cache; None where there is none. Asks no network."""
    held = cached_files(name.repository)
    return None if held is None else held.folder / name.folder


def fetched_beside(name: HubName, files: Sequence[str]) -> Path:
    """The adapter's folder with what it has of these `files`, of which it need have none. Raises `AdapterError`."""

    def there(paths: Sequence[str], _: object) -> list[str]:
        return [name.inside(file) for file in files if name.inside(file) in paths]

    return fetch_files(name.repository, there, refusal=AdapterError, most=_MOST_BESIDE).folder / name.folder


def pinned_source(source: str) -> str:
    """A source on the hub with the commit that its revision stood for when it was fetched last; others as they are."""
    name = hub_name(source, AdapterError)
    commit = None if name is None else commit_in_cache(name.repository)
    return source if name is None or commit is None else str(name.at(commit))


def adapter_files(name: HubName, paths: Sequence[str]) -> list[str]:
    """Which of a repository's paths are files of the adapter; raises `AdapterError` where there is no adapter."""
    here = {path.removeprefix(name.inside("")) for path in paths if path.startswith(name.inside(""))}
    if CONFIG_FILE not in here:
        raise _no_adapter(name, paths, here)
    weights = weights_among(here)
    if not weights:
        raise AdapterError(
            f"{str(name)!r} on the hub has an {CONFIG_FILE} and no weights",
            "name a revision of it that has them, as owner/name@revision",
        )
    rest = [each for each in TOKENIZER_FILES if each in here]
    return [name.inside(each) for each in (CONFIG_FILE, *weights, *rest)]


def _no_adapter(name: HubName, paths: Sequence[str], here: set[str]) -> AdapterError:
    """What a folder on the hub is instead, with the way to what is meant."""
    prefix, end = name.inside(""), f"/{CONFIG_FILE}"
    below = [
        path.removeprefix(prefix).removesuffix(end)
        for path in paths
        if path.startswith(prefix) and path.endswith(end)
    ]
    if below:
        problem = f"{str(name)!r} on the hub holds no adapter itself, but {len(below)} below it"
        return choice_below(str(name), problem, in_order(below))
    if name.folder and not here:
        return AdapterError(f"{name.repository.name!r} has no folder {name.folder!r}", "check the folder's name")
    if "config.json" in here:
        return AdapterError(
            f"{str(name)!r} on the hub is a whole model and no adapter",
            "name an adapter; a model is given as the base of one",
        )
    some = ", ".join(repr(file) for file in sorted(here)[:_SHOWN]) or "no files"
    return AdapterError(
        f"{str(name)!r} on the hub has no {CONFIG_FILE}; it has {some}",
        "name the folder that peft's save_pretrained wrote, as owner/name/folder",
    )
