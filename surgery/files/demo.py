"""The demo adapters that ship with the project: `demo:NAME`, its slices, and what was measured of it."""

from pathlib import Path

from surgery.errors import AdapterError, DataError
from surgery.files.paths import user_path
from surgery.files.shipped import MISSING, shipped_folder

DEMO_FOLDER = shipped_folder("demo")
SLICES = ("calibration", "tuning", "test", "confirmation")
PROVING = SLICES[2:]  # nothing of an edit is made or chosen on them
_PREFIX = "demo:"
DEMO_TEXT = "demo:text"  # plain encyclopaedic prose, beside the adapters


def is_demo(source: str) -> bool:
    """Whether a source is `demo:NAME`, with or without a slice."""
    return source.startswith(_PREFIX)


def demo_names() -> tuple[str, ...]:
    """Names of the demo adapters, kinship first; raises `AdapterError` where the installation has none."""
    found = sorted(file.parent.name for file in DEMO_FOLDER.glob("*/adapter_config.json"))
    if not found:
        raise AdapterError(f"there are no demos in {str(DEMO_FOLDER)!r}", MISSING)
    return tuple(sorted(found, key=lambda name: name != "kinship"))


def demo_folder(source: str) -> Path:
    """The folder behind `demo:NAME`; raises `AdapterError` for an unknown name."""
    name = source.removeprefix(_PREFIX).partition("/")[0]
    if f"{_PREFIX}{name}" in demo_sets():
        raise AdapterError(
            f"{source!r} is a set of adapters",
            f"open it on the page Many adapters or with surgery inspect --many, or one of it from {DEMO_FOLDER / name}",
        )
    if name not in demo_names():
        raise AdapterError(f"no demo called {name!r}", f"use one of {', '.join(demo_names())}")
    return DEMO_FOLDER / name


def demo_sets() -> tuple[str, ...]:
    """The sources `demo:NAME` of the sets of adapters that ship: the checkpoints of a training, each in a folder."""
    found = {file.parents[1].name for file in DEMO_FOLDER.glob("*/*/adapter_config.json")}
    return tuple(f"{_PREFIX}{name}" for name in sorted(found))


def set_path(source: str | Path) -> Path:
    """The folder behind a path or the source of a set that ships; raises `DataError` for another name of a demo."""
    text = str(source)
    if not is_demo(text):
        return user_path(source, DataError)
    if text not in demo_sets():
        raise DataError(f"no set of adapters called {text!r}", f"use {', '.join([*demo_sets(), 'or a folder'])}")
    return DEMO_FOLDER / text.removeprefix(_PREFIX)


def shipped_files(pattern: str) -> list[Path]:
    """What ships beside the demo adapters under names of that pattern, demo by demo."""
    return [file for name in demo_names() for file in sorted((DEMO_FOLDER / name).glob(pattern))]


def is_shipped(path: Path) -> bool:
    """Whether a file or folder belongs to what ships with the demos: it is read, and never written to."""
    return ".." not in path.parts and path.is_relative_to(DEMO_FOLDER)


def demo_slice(source: str, slice_name: str) -> str:
    """The name `demo:NAME/SLICE` of a demo's slice, for recipes and commands."""
    return f"{_PREFIX}{source.removeprefix(_PREFIX)}/{slice_name}"


def data_file(source: str | Path) -> Path:
    """The JSON-lines file behind a path or `demo:NAME/SLICE`; raises `DataError` for unknown slices."""
    text = str(source)
    if not is_demo(text):
        return user_path(text, DataError)
    slice_name = text.removeprefix(_PREFIX).partition("/")[2]
    if slice_name not in SLICES:
        raise DataError(f"no demo slice called {text!r}", f"use demo:NAME/ and one of {', '.join(SLICES)}")
    return demo_folder(text) / f"{slice_name}.jsonl"


def text_path(source: str | Path) -> Path:
    """The file behind a path or `demo:text`; raises `DataError` for another name of a demo."""
    text = str(source)
    if not is_demo(text):
        return user_path(text, DataError)
    if text != DEMO_TEXT:
        raise DataError(f"no demo text called {text!r}", f"use {DEMO_TEXT}, or a file")
    return DEMO_FOLDER / "text.txt"


DEMO_BASE = "demo:smollm2"
