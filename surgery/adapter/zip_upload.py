"""Unpack an uploaded zip that holds an adapter: its config, its weights and its tokenizer, and nothing else.

The archive is checked as a whole before anything is written. Names inside it are compared, never
used as paths: the files that are wanted get names of our own.
"""

import filecmp
import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

from surgery.adapter.below import in_order, listed
from surgery.adapter.config_file import CONFIG_FILE
from surgery.adapter.headers import header_of
from surgery.adapter.other_formats import MLX_FILE, Seen, may_hold_weights, refuse_seen, tells
from surgery.adapter.tokenizer_files import TOKENIZER_FILES
from surgery.adapter.weights import PICKLED_FILE, SHARD, WEIGHTS_FILE
from surgery.errors import AdapterError, ChoiceError

# of MLX, so that an adapter of it can be converted
_WANTED = (CONFIG_FILE, WEIGHTS_FILE, PICKLED_FILE, MLX_FILE, *TOKENIZER_FILES)
_MOST_ENTRIES = 256
_MOST_DIRECTORY = 1 << 20  # bytes that list the entries
_MOST_BYTES = 2 << 30  # of all entries, unpacked
_LARGEST_RATIO = 200  # real factors shrink to two thirds, an untrained adapter a hundredfold
_SMALL = 1 << 20  # bytes of an entry that may shrink more than that
_LONGEST_NAME = 300
_MOST_LOOKED = 8
_MOST_HEADER = 8 << 20  # bytes of an entry that are looked at to tell what it is
_NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".whl", ".jar")
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # the three bits that say so
_END, _END64 = b"PK\x05\x06", b"PK\x06\x07"  # how the last record begins, and what zip64 puts before it
_REMEDY = "make a zip of the folder that peft's save_pretrained wrote"


def unpack_adapter(archive: bytes | Path | BinaryIO, into: Path, inside: str | None = None) -> Path:
    """The folder below `into` with the adapter's files from a zip; the same content gives the same folder.

    archive: the zip, its path or an open file.
    into: where the folder is made.
    inside: the folder in the zip that holds the adapter, where it holds several: one of a `ChoiceError`'s choices.

    Refused with `AdapterError`: what is no plain zip; links, absolute paths, `..`, twins, encrypted and
    nested entries; more than 256 entries, 2 GiB unpacked or a ratio of 200; no adapter. Several raise `ChoiceError`.
    Nothing that was there before is written over.
    """
    try:
        if isinstance(archive, Path):
            with archive.open("rb") as file:
                return _unpack(file, into, inside)
        return _unpack(BytesIO(archive) if isinstance(archive, bytes) else archive, into, inside)
    except AdapterError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
    ) as error:
        raise AdapterError(f"the zip cannot be unpacked ({str(error)[:120]})", _REMEDY) from error


def _unpack(file: BinaryIO, into: Path, inside: str | None) -> Path:
    size = _check_end(file)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _check_entries(entries, size)
        wanted = _adapter_in(archive, entries, inside)
        into.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=into))
        try:
            for entry in wanted:
                with archive.open(entry) as packed, (staging / _base(entry)).open("xb") as plain:
                    _copy(packed, plain, entry.file_size)
            return _settled(staging, into)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _check_end(file: BinaryIO) -> int:
    """The archive's size in bytes. zipfile reads the list of entries whole, so its length is checked before."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 42))
    end = file.read()
    if len(end) < 22 or end[-22:-18] != _END or end[-2:] != b"\0\0":
        raise AdapterError("the file is no zip archive, or more stands after its end", _REMEDY)
    if end[:4] == _END64 and len(end) == 42:
        raise AdapterError("the zip is in the format for archives beyond 4 GiB", _REMEDY)
    if int.from_bytes(end[-10:-6], "little") > _MOST_DIRECTORY:
        raise AdapterError(f"the zip holds more than {_MOST_ENTRIES} entries", _REMEDY)
    file.seek(0)
    return size


def _check_entries(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    if len(entries) > _MOST_ENTRIES:
        raise AdapterError(f"the zip holds {len(entries):,} entries, more than {_MOST_ENTRIES}", _REMEDY)
    if sum(entry.file_size for entry in entries) > _MOST_BYTES:
        raise AdapterError(f"the zip unpacks to more than {_MOST_BYTES >> 30} GiB", _REMEDY)
    if sum(entry.compress_size for entry in entries) > size:
        raise AdapterError("entries of the zip overlap", _REMEDY)
    seen: set[str] = set()
    for entry in entries:
        reason = _refused(entry)
        # as file systems see them that tell no capitals from small letters
        name = entry.filename.rstrip("/").casefold()
        if name in seen:
            reason = "stands there twice"
        if reason is not None:
            raise AdapterError(f"the zip's entry {entry.orig_filename[:80]!r} {reason}", _REMEDY)
        seen.add(name)


def _refused(entry: zipfile.ZipInfo) -> str | None:
    """What is wrong with one entry; zipfile cuts a name at a null byte, so the original is looked at."""
    name, mode = entry.orig_filename, entry.external_attr >> 16
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or name[1:2] == ":" or "\\" in name:
        return "is an absolute path or not one of a zip"
    if ".." in parts or "." in parts or "" in parts:
        return "leads out of its folder"
    if len(name) > _LONGEST_NAME or not name.isprintable():
        return "has a name that cannot be shown"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in an unusual way"
    if entry.file_size > max(_SMALL, _LARGEST_RATIO * entry.compress_size):
        return f"unpacks to more than {_LARGEST_RATIO} times its size"
    if name.lower().endswith(_NESTED):
        return "is an archive itself"
    return None


def _adapter_in(
    archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], inside: str | None
) -> list[zipfile.ZipInfo]:
    """The entries of one adapter; what else an archive holds, such as a read-me, is left in it."""
    files = [entry for entry in entries if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")]
    found = {entry.filename.removesuffix(CONFIG_FILE) for entry in files if _base(entry) == CONFIG_FILE}
    folders = {folder.removesuffix("/") or ".": folder for folder in in_order(found)}
    if not folders:
        raise _no_adapter(archive, files)
    if inside is None and len(folders) > 1:
        names = tuple(folders)
        raise ChoiceError(f"the zip holds {len(names)} adapters: {listed(names)}", "choose one of them", names)
    if inside is not None and inside not in folders:
        raise AdapterError(f"the zip has no adapter in {inside[:80]!r}", f"choose {listed(tuple(folders))}")
    folder = folders[inside] if inside is not None else next(iter(folders.values()))
    there = {entry.filename.removeprefix(folder): entry for entry in files if entry.filename.startswith(folder)}
    return [entry for name, entry in there.items() if name in _WANTED or SHARD.fullmatch(name)]


def _no_adapter(archive: zipfile.ZipFile, files: Sequence[zipfile.ZipInfo]) -> AdapterError:
    """The refusal of a zip without an adapter's config, by what it holds instead."""
    for entry in [entry for entry in files if may_hold_weights(_base(entry))][:_MOST_LOOKED]:
        with archive.open(entry) as packed:
            # to wind back a packed file is to unpack it again
            header = header_of(BytesIO(packed.read(_MOST_HEADER)))
        if tells(header) or header.tensors:
            return refuse_seen(Seen(entry.filename, _base(entry), header))
    return AdapterError(f"the zip holds no {CONFIG_FILE}", _REMEDY)


def _base(entry: zipfile.ZipInfo) -> str:
    return entry.filename.rpartition("/")[2]


def _copy(packed: IO[bytes], plain: IO[bytes], size: int) -> None:
    written = 0
    while block := packed.read(1 << 20):
        written += len(block)
        if written > size:
            raise ValueError("an entry is longer than it says")
        plain.write(block)
    if written < size:
        raise ValueError("an entry is shorter than it says")


def _settled(staging: Path, into: Path) -> Path:
    """The unpacked folder under a name made of its content; one that is there already and the same is kept."""
    names = sorted(os.listdir(staging))
    sha = hashlib.sha256()
    for name in names:
        with (staging / name).open("rb") as file:
            sha.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    target = into / sha.hexdigest()[:16]
    if target.is_dir() and filecmp.cmpfiles(target, staging, names, shallow=False)[0] == names:
        shutil.rmtree(staging)
        return target
    if target.exists():
        target = into / f"{target.name}-{staging.name.removeprefix('.unpacking-')}"
    staging.rename(target)
    return target
