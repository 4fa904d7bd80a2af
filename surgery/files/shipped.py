"""Where the files are that ship with the project: the demos, the paper's tables and an example of a sweep."""

from pathlib import Path

MISSING = "install the project again: these files ship with it"


def shipped_folder(name: str) -> Path:
    """A folder of the project's `assets` (`demo`, `paper`, `sweeps`), in a checkout and in an installed wheel alike."""
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "assets"
    return (in_wheel if in_wheel.is_dir() else package.parent / "assets") / name
