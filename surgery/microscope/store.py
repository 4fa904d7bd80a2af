"""Looks that are stored on this machine, a file each, the oldest of them removed where they take too much room."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from surgery.data import CalibrationPlan, Slice, Token
from surgery.errors import DataError
from surgery.files import looks_folder, write_kept
from surgery.microscope.logit_lens import Lens
from surgery.microscope.look import Look, look_inside
from surgery.microscope.rows import Subject
from surgery.microscope.token_pass import TokenPass
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LiveModel

FORMAT = "surgery-look-1"
MOST_BYTES = 256 << 20
_SUFFIX = ".safetensors"


def look_file(subject: Subject) -> Path:
    """Where a look at a subject is kept."""
    return looks_folder() / f"{subject.key}{_SUFFIX}"


def stored_look(file: Path) -> Look | None:
    """The look in a file; None where there is none, and where it is damaged, which then has to be made again."""
    try:
        return load_look(file) if file.is_file() else None
    except DataError:
        return None


def look(
    live: "LiveModel",
    plan: CalibrationPlan,
    subject: Subject,
    *,
    slice_: Slice | None = None,
    control: Control = SILENT,
) -> Look:
    """A look that is found again in the store, or made and kept there; everything is as for `look_inside`."""
    file = look_file(subject)
    found = stored_look(file)
    if found is None:
        found = look_inside(live, plan, subject, slice_=slice_, control=control)
        save_look(found, file)
    return found


def save_look(found: Look, file: Path) -> None:
    """Write a look, whole or not at all, and remove the oldest others of its folder beyond `MOST_BYTES`."""
    about = {
        "module": found.module,
        "rows": list(found.rows),
        "lengths": list(found.seen.lengths),
        "tokens": [[list(asdict(token).values()) for token in row] for row in found.tokens],
        "no_lens": found.no_lens,
        "vocabulary": {str(token): text for token, text in found.vocabulary.items()},
    }
    seen = {part: getattr(found.seen, part) for part in ("shares", "projected", "first", "random")}
    tensors: dict[str, ndarray] = {"g": found.g, **seen}
    if found.lens is not None:
        tensors |= {f"lens.{part}": values for part, values in vars(found.lens).items()}
    narrow = {name: _narrow(values) for name, values in tensors.items()}
    content = save(narrow, metadata={"format": FORMAT, "about": json.dumps(about)})
    write_kept(file, content, f"what was found inside {found.module!r}", "make room, then look again")
    with suppress(OSError):  # another process may be removing the same files
        _prune(file)


def load_look(file: Path) -> Look:
    """Read a look; raises `DataError` for anything else."""
    try:
        with safe_open(str(file), framework="np") as handle:
            metadata = handle.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError("not a look")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no mapping
        return _look(json.loads(metadata["about"]), tensors)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file.name!r} holds no look inside a component ({str(error)[:80]})", "look again"
        ) from error


def _look(about: Mapping[str, Any], tensors: Mapping[str, ndarray]) -> Look:
    lens = None
    if any(name.startswith("lens.") for name in tensors):
        lens = Lens(*(tensors[f"lens.{part}"] for part in ("tokens", "logits", "deviations", "random")))
    lengths = tuple(map(int, about["lengths"]))
    rows = tuple(map(int, about["rows"]))
    tokens = tuple(tuple(_token(each) for each in row) for row in about["tokens"])
    seen = TokenPass(
        lengths, tensors["shares"].astype(np.float64), tensors["projected"], tensors["first"], tensors["random"]
    )
    vocabulary = {int(token): str(text) for token, text in about["vocabulary"].items()}
    found = Look(
        str(about["module"]),
        rows,
        tensors["g"].astype(np.float64),
        tokens,
        seen,
        lens,
        str(about["no_lens"]),
        vocabulary,
    )
    _check(found)
    return found


def _token(record: Any) -> Token:
    number, text, scored, name = record
    return Token(int(number), str(text), bool(scored), str(name))


def _check(found: Look) -> None:
    """Raise `ValueError` where the parts of a look are not of one another."""
    rank, total = found.g.shape[1], sum(found.seen.lengths)
    shapes = [found.g.shape[0], found.seen.shares.shape, found.seen.projected.shape, tuple(map(len, found.tokens))]
    if shapes != [len(found.rows), (total, rank), (total, rank), found.seen.lengths]:
        raise ValueError("parts of several sizes")
    if found.lens is not None and not (
        found.lens.tokens.shape[:2] == (rank, 2)
        and found.lens.tokens.shape == found.lens.logits.shape == found.lens.deviations.shape
        and set(found.lens.tokens.flatten().tolist()) <= set(found.vocabulary)
    ):
        raise ValueError("a lens of another module")


def _narrow(values: ndarray) -> ndarray:
    """Numbers of a model in float32 as such: half the size."""
    return np.ascontiguousarray(values.astype(np.float32) if values.dtype == np.float64 else values)


def _prune(kept: Path) -> None:
    """Remove the oldest files beside `kept` until all together fit."""
    files = sorted(kept.parent.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    room = MOST_BYTES
    for file in files:
        room -= file.stat().st_size
        if room < 0 and file != kept:
            file.unlink(missing_ok=True)
