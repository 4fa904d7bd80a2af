"""The records of an arrow file, as `datasets` and pyarrow write them: the stream of batches or the file around it."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from surgery.errors import DataError
from surgery.files.arrow_values import arrow_errors, arrow_record

_MAGIC = b"ARROW1\0\0"  # of the file format, which is the stream between two of these and a table of contents


def arrow_records(file: Path, fields: Sequence[str] | None) -> Iterable[tuple[str, Any]]:
    """Every record in order with the words for its place; only the columns named have values, None elsewhere.

    `fields` None stands for all. Nothing is unpacked before it is asked for, so a compressed file is refused.
    Raises `DataError` for what is no arrow file.
    """
    with arrow_errors(file, "arrow"):
        import pyarrow as pa

        with pa.memory_map(str(file)) as source:
            begin = len(_MAGIC) if source.read(len(_MAGIC)) == _MAGIC else 0
            source.seek(begin)
            _refuse_compressed(pa.ipc.MessageReader.open_stream(source), file.name)
            source.seek(begin)
            yield from _records(pa.ipc.open_stream(source), fields)


def _records(batches: Any, fields: Sequence[str] | None) -> Iterable[tuple[str, Any]]:
    columns = list(batches.schema.names)
    read = columns if fields is None else [name for name in dict.fromkeys(fields) if name in columns]
    number = 0
    for batch in batches:
        # offsets come from the file, and arrow follows them
        batch.validate(full=True)
        for at in range(batch.num_rows):
            number += 1
            yield f"row {number}", arrow_record(batch, at, read, columns)


def _refuse_compressed(messages: Any, name: str) -> None:
    """Raise `DataError` where a message is packed: arrow unpacks it at once, to whatever size it claims."""
    for message in messages:
        if message.type in ("record batch", "dictionary") and _is_packed(
            message.metadata.to_pybytes(), message.type
        ):
            raise DataError(f"{name!r} is compressed", "write it without compression, or as parquet")


def _is_packed(metadata: bytes, kind: str) -> bool:
    """Whether the header of a message has a `compression`, after arrow's `Message.fbs`."""

    def field(table: int, slot: int) -> int:
        """Where a field of a flatbuffer's table stands; 0 where the table has it not."""
        layout = table - struct.unpack_from("<i", metadata, table)[0]
        size = struct.unpack_from("<H", metadata, layout)[0]
        entry = 4 + 2 * slot
        offset = struct.unpack_from("<H", metadata, layout + entry)[0] if entry < size else 0
        return table + offset if offset else 0

    def followed(at: int) -> int:
        return at + int(struct.unpack_from("<I", metadata, at)[0])

    header = followed(field(followed(0), 2))
    batch = followed(field(header, 1)) if kind == "dictionary" else header
    return field(batch, 3) != 0
