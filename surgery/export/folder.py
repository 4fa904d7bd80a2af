"""A drop-in PEFT folder of an edit: written beside its place, read back, compared, then put there whole."""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Shaped
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from surgery.adapter import (
    CONFIG_FILE,
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    Adapter,
    open_adapter,
    refuse_changed,
)
from surgery.data import refuse_changed_rows
from surgery.edits import Edit
from surgery.errors import AdapterError, ExportError
from surgery.export.card import model_card
from surgery.export.edited_factors import (
    check_spectra,
    edited_factor,
    relative_distance,
    same_bytes,
    written_modules,
)
from surgery.export.record import RECORD_FILE, dump_record, record_of
from surgery.files import try_lock, user_path, write_problem
from surgery.recipes import Recipe, dump_recipe, pinned
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

RECIPE_FILE = "recipe.yaml"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Verification:
    """What reading the written folder back showed.

    `edited` and `untouched` count tensors; `rounding` is the largest relative error of an edited
    ΔW′ against U·diag(σ′)·Vᵀ in Frobenius norm, which is the rounding of B′ to the file's dtype.
    """

    folder: Path
    edited: int
    untouched: int
    rounding: float


def export(
    adapter: Adapter, spectra: Spectra, edit: Edit, out: Path | str, *, documents: Mapping[str, str] | None = None
) -> Verification:
    """A PEFT folder with the edited adapter, read back and compared.

    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    out: the new folder.
    documents: text files to put beside the weights (recipe, card), by name.

    Raises `ExportError` when `out` exists and is not empty, cannot be written, or reads back differently, and
    `AdapterError` when the adapter's files have changed since it was opened; nothing is left behind.
    """
    target = new_folder(out)
    refuse_changed(adapter)
    check_spectra(adapter, spectra, edit)
    changed: dict[str, ndarray] = {}
    rounding = 0.0
    for name, factors in written_modules(adapter, spectra, edit, changed):
        rounding = max(rounding, relative_distance(factors, spectra[name], edit.modules[name].sigma_after))
    tensors = {**adapter.tensors, **changed}
    staging: Path | None = None
    lock: int | None = None
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        lock = os.open(staging, os.O_RDONLY)
        try_lock(lock)  # let go of at the end, however that comes
        _write_files(staging, adapter, tensors, documents or {})
        _read_back(adapter, staging, changed)
        staging.chmod(0o755)
        _flush(staging)
        staging.replace(target)
        with contextlib.suppress(OSError):  # the folder is whole; only a power cut could still undo its name
            _flush(target.parent)
    except (OSError, SafetensorError) as error:
        needed = sum(tensor.nbytes for tensor in tensors.values()) + len(adapter.config_bytes)
        needed += sum(map(len, adapter.tokenizer.contents.values()))
        reason = write_problem(error, needed + sum(len(text.encode()) for text in (documents or {}).values()))
        raise ExportError(
            f"{str(out)!r} cannot be written ({reason})", "make room or choose another folder"
        ) from error
    finally:
        if lock is not None:
            os.close(lock)
        if staging is not None and staging.exists():
            shutil.rmtree(staging, ignore_errors=True)
        if not target.exists():
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()
    return Verification(target, len(changed), len(adapter.tensors) - len(changed), rounding)


def _write_files(
    folder: Path, adapter: Adapter, tensors: Mapping[str, ndarray], documents: Mapping[str, str]
) -> None:
    """Weights, config, the tokenizer's files and documents, each on the disk when this returns."""
    save_file(dict(tensors), folder / WEIGHTS_FILE, metadata=dict(adapter.metadata) or None)
    (folder / CONFIG_FILE).write_bytes(adapter.config_bytes)
    for name, content in adapter.tokenizer.contents.items():
        (folder / name).write_bytes(content)
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)
        _flush(file)


def _remove_abandoned(target: Path) -> None:
    """Remove what exports to the same place left when they were killed: folders of ours that nobody holds."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}-????????"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or any(not _is_ours_to_remove(file) for file in folder.iterdir()):
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _is_ours_to_remove(file: Path) -> bool:
    """Whether an export writes files of this name; safetensors' own begin with .tmp."""
    ours = (WEIGHTS_FILE, CONFIG_FILE, RECIPE_FILE, RECORD_FILE, CARD_FILE, *TOKENIZER_FILES)
    return file.name in ours or file.name.startswith(".tmp")


def new_folder(out: Path | str) -> Path:
    """The path of a folder to be written; raises `ExportError` when something is there already."""
    target = user_path(out, ExportError)
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise ExportError(f"{str(out)!r} cannot be written ({error.strerror})", "choose another folder") from error
    if taken:
        raise ExportError(f"{str(out)!r} exists already", "choose a new folder; nothing was overwritten")
    return target


def verify(
    adapter: Adapter, spectra: Spectra, edit: Edit, folder: Path, changed: Mapping[str, Shaped[ndarray, "..."]]
) -> Verification:
    """Comparison of a written folder with the original and with the edit.

    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    folder: what was written.
    changed: what `write_back` gave.

    Raises `ExportError` when keys, dtypes, shapes or config changed, or when any tensor is not byte
    for byte what it has to be: the original's, or the exact B′ rounded once.
    """
    written = _read_back(adapter, folder, changed)
    rounding = 0.0
    for name, module in edit.modules.items():
        factors = written.modules[name]
        if edited_factor(factors)[0] in changed:
            rounding = max(rounding, relative_distance(factors, spectra[name], module.sigma_after))
    return Verification(folder, len(changed), len(adapter.tensors) - len(changed), rounding)


def _read_back(adapter: Adapter, folder: Path, changed: Mapping[str, Shaped[ndarray, "..."]]) -> Adapter:
    """The written adapter, which is byte for byte what it has to be; raises `ExportError` for any other."""
    try:
        written = open_adapter(folder)
    except AdapterError as error:
        if not (folder / WEIGHTS_FILE).exists():
            gone = os.strerror(errno.ENOENT)
            raise ExportError(
                f"the folder was removed while it was read back ({gone})", "write it again"
            ) from error
        raise ExportError(
            f"the written folder does not open: {error.problem}", "report this as a defect"
        ) from error
    if set(written.tensors) != set(adapter.tensors) or written.config_bytes != adapter.config_bytes:
        raise ExportError("the written keys or config differ from the original", "report this as a defect")
    if written.tokenizer.contents != adapter.tokenizer.contents:
        raise ExportError("the written tokenizer differs from the original", "report this as a defect")
    for key, before in {**adapter.tensors, **changed}.items():
        after = written.tensors[key]
        if not same_bytes(before, after):
            raise ExportError(f"{key!r} did not read back as it was written", "report this as a defect")
    return written


def _flush(file: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export_recipe(
    adapter: Adapter,
    spectra: Spectra,
    edit: Edit,
    recipe: Recipe,
    out: Path | str,
    sensitivity: Sensitivity | None = None,
) -> Verification:
    """A PEFT folder with recipe, record and model card beside the weights; byte for byte reproducible.

    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    recipe: what made the edit.
    out: the new folder.
    sensitivity: what the edit was made from, where it was measured.

    Raises as `export` does, and `DataError` where the rows that were measured are no longer what the recipe's
    source gives.
    """
    if recipe.calibration_digest:
        refuse_changed_rows(recipe.calibration, recipe.calibration_digest)
    documents = {
        RECIPE_FILE: dump_recipe(pinned(recipe)),
        RECORD_FILE: dump_record(record_of(adapter.digest, recipe.edit, sensitivity, recipe)),
        CARD_FILE: model_card(adapter, recipe, edit),
    }
    return export(adapter, spectra, edit, out, documents=documents)
