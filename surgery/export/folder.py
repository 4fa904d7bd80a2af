"""A drop-in PEFT folder of an edit: written beside its place, read back, compared, then put there whole."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from surgery.adapter import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Adapter,
    open_adapter,
    refuse_changed,
    same_bytes,
)
from surgery.data import refuse_changed_rows
from surgery.edits import Edit
from surgery.errors import AdapterError, ExportError
from surgery.export.card import model_card
from surgery.export.edited_factors import (
    check_spectra,
    relative_distance,
    written_modules,
)
from surgery.export.layout import Layout, Smaller, servers
from surgery.export.peft_loading import PeftLoading, peft_loading, refuse_ignored
from surgery.export.record import RECORD_FILE, dump_record, record_of
from surgery.export.smaller import from_truncations, smaller_adapter
from surgery.export.staging import CARD_FILE, RECIPE_FILE, clean_up, flush, keep, new_folder, remove_abandoned
from surgery.files import try_lock, write_problem
from surgery.model import BaseChoice
from surgery.recipes import Recipe, dump_recipe, pinned
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra, Spectrum


@dataclass(frozen=True)
class Verification:
    """What reading the written folder back showed.

    `edited` and `untouched` count tensors; `rounding` is the largest relative error of an edited
    ΔW′ against U·diag(σ′)·Vᵀ in Frobenius norm, which is the rounding of the new factors to the file's dtype.
    `loading` says how many modules PEFT applies, `layout` how a smaller form lies in the file, and `served` who takes it.
    """

    folder: Path
    edited: int
    untouched: int
    rounding: float
    loading: PeftLoading
    layout: Layout | None = None
    served: tuple[str, ...] = ()


def export(
    adapter: Adapter,
    spectra: Spectra,
    edit: Edit,
    out: Path | str,
    *,
    documents: Mapping[str, str] | None = None,
    base: BaseChoice | None = None,
    form: Smaller | None = None,
) -> Verification:
    """A PEFT folder with the edited adapter, read back and compared.

    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    out: the new folder.
    documents: text files to put beside the weights (recipe, card), by name.
    base: the base model whose architecture PEFT loads the edited adapter onto; None for the one that the adapter names,
        where the hub's cache has its config.
    form: to write the factors without what the edit zeroed; None for names, shapes and config of the original.

    Raises `ExportError` when `out` exists and is not empty, cannot be written, reads back differently, or holds an
    edited module that PEFT would not apply, and `AdapterError` when the adapter's files have changed since it was
    opened; nothing is left behind.
    """
    target = _checked(adapter, spectra, edit, out)
    made = _prepared(adapter, spectra, edit, form)
    return _write(adapter, made, edit, target, lambda _: documents or {}, base)


def export_truncations(
    adapter: Adapter,
    cut: Mapping[str, Spectrum],
    out: Path | str,
    form: Smaller,
    *,
    documents: Mapping[str, str] | None = None,
    base: BaseChoice | None = None,
) -> Verification:
    """`export` of an adapter whose modules `cut` are the updates given there, which may have directions of their own.

    adapter: the original; modules that are not cut keep their factors.
    cut: U, σ and V of an update of lower rank, by module.

    The rest is as `export` has it.
    """
    target = _checked(adapter, {}, Edit({}), out)
    found = from_truncations(adapter, {}, Edit({}), cut, form)
    made = _Prepared(found.adapter, found.rounding, found.layout)
    return _write(adapter, made, Edit({}), target, lambda _: documents or {}, base)


@dataclass(frozen=True)
class _Prepared:
    """What is written, the largest relative error of a ΔW′, and the layout of a smaller form."""

    adapter: Adapter
    rounding: float
    layout: Layout | None = None


def _checked(adapter: Adapter, spectra: Spectra, edit: Edit, out: Path | str) -> Path:
    """The path of the new folder, once nothing stands against it."""
    target = new_folder(out)
    refuse_changed(adapter)
    check_spectra(adapter, spectra, edit)
    return target


def _prepared(adapter: Adapter, spectra: Spectra, edit: Edit, form: Smaller | None) -> _Prepared:
    if form is not None:
        found = smaller_adapter(adapter, spectra, edit, form)
        return _Prepared(found.adapter, found.rounding, found.layout)
    changed: dict[str, ndarray] = {}
    rounding = 0.0
    for name, factors in written_modules(adapter, spectra, edit, changed):
        rounding = max(rounding, relative_distance(factors, spectra[name], edit.modules[name].sigma_after))
    return _Prepared(replace(adapter, tensors={**adapter.tensors, **changed}), rounding)


def _write(
    original: Adapter,
    written: _Prepared,
    edit: Edit,
    target: Path,
    documents: Callable[[PeftLoading], Mapping[str, str]],
    base: BaseChoice | None,
) -> Verification:
    """See `export`; the documents may tell what PEFT applies."""
    adapter = written.adapter
    loading = peft_loading(adapter, base)
    refuse_ignored(loading, edit)
    tensors, texts = adapter.tensors, documents(loading)
    staging: Path | None = None
    lock: int | None = None
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        lock = os.open(staging, os.O_RDONLY)
        try_lock(lock)  # let go of at the end, however that comes
        _write_files(staging, adapter, tensors, texts)
        _read_back(adapter, staging)
        staging.chmod(0o755)
        flush(staging)
        staging.replace(target)
        with contextlib.suppress(OSError):  # the folder is whole; only a power cut could still undo its name
            flush(target.parent)
    except (OSError, SafetensorError) as error:
        needed = sum(tensor.nbytes for tensor in tensors.values()) + len(adapter.config_bytes)
        needed += sum(map(len, adapter.tokenizer.contents.values()))
        reason = write_problem(error, needed + sum(len(text.encode()) for text in texts.values()))
        raise ExportError(
            f"{str(target)!r} cannot be written ({reason})", "make room or choose another folder"
        ) from error
    finally:
        clean_up(target, staging, lock, made)
    return _verification(original, written, target, loading)


def _verification(original: Adapter, written: _Prepared, folder: Path, loading: PeftLoading) -> Verification:
    tensors = written.adapter.tensors
    same = sum(
        original.tensors[key] is tensor or same_bytes(original.tensors[key], tensor)
        for key, tensor in tensors.items()
    )
    served: tuple[str, ...] = ()
    if written.layout is not None:
        served = servers(written.layout, (factors.scaling for factors in written.adapter.modules.values()))
    return Verification(folder, len(tensors) - same, same, written.rounding, loading, written.layout, served)


def _write_files(folder: Path, adapter: Adapter, tensors: Mapping[str, ndarray], texts: Mapping[str, str]) -> None:
    """Weights, config, the tokenizer's files and documents, each on the disk when this returns."""
    save_file(dict(tensors), folder / WEIGHTS_FILE, metadata=dict(adapter.metadata) or None)
    (folder / CONFIG_FILE).write_bytes(adapter.config_bytes)
    for name, content in adapter.tokenizer.contents.items():
        (folder / name).write_bytes(content)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for file in folder.iterdir():
        keep(file)


def _read_back(adapter: Adapter, folder: Path) -> Adapter:
    """The written adapter, which is byte for byte what it has to be; raises `ExportError` for any other."""
    due = adapter.tensors
    try:
        written = open_adapter(folder, held=due)
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
        raise ExportError("the written keys or config differ from what they were to be", "report this as a defect")
    for name, factors in adapter.modules.items():
        if (written.modules[name].rank, written.modules[name].scaling) != (factors.rank, factors.scaling):
            raise ExportError(f"module {name!r} reads back at another rank or scaling", "report this as a defect")
    if written.tokenizer.contents != adapter.tokenizer.contents:
        raise ExportError("the written tokenizer differs from the original", "report this as a defect")
    for key, before in due.items():
        after = written.tensors[key]
        if not same_bytes(before, after):
            raise ExportError(f"{key!r} did not read back as it was written", "report this as a defect")
    return written


def export_recipe(
    adapter: Adapter,
    spectra: Spectra,
    edit: Edit,
    recipe: Recipe,
    out: Path | str,
    sensitivity: Sensitivity | None = None,
    form: Smaller | None = None,
) -> Verification:
    """A PEFT folder with recipe, record and model card beside the weights; byte for byte reproducible.

    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    recipe: what made the edit.
    out: the new folder.
    sensitivity: what the edit was made from, where it was measured.
    form: as `export` has it.

    Raises as `export` does, and `DataError` where the rows that were measured are no longer what the recipe's
    source gives.
    """
    if recipe.calibration_digest:
        refuse_changed_rows(recipe.calibration, recipe.calibration_digest)
    for plan, rows in zip(recipe.protected, recipe.protected_digests, strict=False):
        refuse_changed_rows(plan, rows)
    record = record_of(adapter.digest, recipe.edit, sensitivity, recipe)

    target = _checked(adapter, spectra, edit, out)
    made = _prepared(adapter, spectra, edit, form)

    def documents(loading: PeftLoading) -> dict[str, str]:
        return {
            RECIPE_FILE: dump_recipe(pinned(recipe)),
            RECORD_FILE: dump_record(record),
            CARD_FILE: model_card(adapter, recipe, edit, loading, made.layout),
        }

    return _write(adapter, made, edit, target, documents, recipe.base)
