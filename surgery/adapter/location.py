"""Where an adapter is: a folder, a demo, or a folder on the hub that its client has fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surgery.adapter.config_file import CONFIG_FILE
from surgery.adapter.from_hub import cached_adapter, fetched_adapter, fetched_beside
from surgery.adapter.naming import adapter_source, check_folder
from surgery.adapter.weights import weights_digest
from surgery.errors import AdapterError
from surgery.files import demo_folder, digest, is_demo, user_path
from surgery.hub import hub_name
from surgery.progress import SILENT, Control


@dataclass(frozen=True)
class Place:
    """An adapter's folder, the source that opens it again, and its name where the file holds several."""

    folder: Path
    source: str
    chosen: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of the files that are there now; raises `OSError` where they are not."""
        return files_digest((self.folder / CONFIG_FILE).read_bytes(), weights_digest(self.folder), self.chosen)


def located(source: str, *, download: bool = True, control: Control = SILENT) -> Place:
    """The place behind a source; of the hub the files are fetched, and the source names their commit.

    download: ask the hub for what its client has not in its cache.
    control: hears of the bytes, and may stop them.

    Raises `AdapterError` where there is no adapter of PEFT's, and `ChoiceError` where several lie below.
    """
    named, chosen = _named(source)
    on_hub = hub_name(named, AdapterError)
    if on_hub is not None:
        folder, pinned = fetched_adapter(on_hub, download=download, control=control)
        return Place(folder, _again(str(pinned), chosen), chosen)
    text = adapter_source(named)
    folder = _here(text)
    check_folder(text, folder)
    return Place(folder, _again(text, chosen), chosen)


def place_of(source: str) -> Place | None:
    """Where an adapter was that had been opened; None where it has gone from the hub client's cache. Asks no network."""
    named, chosen = _named(source)
    on_hub = hub_name(named, AdapterError)
    folder = _here(named) if on_hub is None else cached_adapter(on_hub)
    return None if folder is None else Place(folder, source, chosen)


def adapter_folder(source: str, beside: Sequence[str] = ()) -> Path:
    """The folder of an opened adapter's source, with what it has of the files `beside` it. Raises `AdapterError`."""
    named, _ = _named(source)
    on_hub = hub_name(named, AdapterError)
    return _here(named) if on_hub is None else fetched_beside(on_hub, beside)


def files_digest(config: bytes, weights: str, chosen: str) -> str:
    """The identity of an adapter: its config's bytes, the digest of its weights and which of several it is."""
    return digest([config, weights, *([chosen] if chosen else [])])


def _named(source: str) -> tuple[str, str]:
    """A source without the adapter chosen in it, and that; a folder whose own name has a # is itself."""
    before, mark, chosen = source.rpartition("#")
    if not (mark and before and chosen) or is_demo(source):
        return source, ""
    if hub_name(before, AdapterError) is None and user_path(source, AdapterError).is_dir():
        return source, ""
    return before, chosen


def _again(source: str, chosen: str) -> str:
    return f"{source}#{chosen}" if chosen else source


def _here(source: str) -> Path:
    return demo_folder(source) if is_demo(source) else user_path(source, AdapterError)
