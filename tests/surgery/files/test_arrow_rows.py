"""Records of arrow files, against what pyarrow reads at once."""

import struct

import pyarrow as pa
import pytest

from surgery.errors import DataError
from surgery.files import arrow_records
from tests.helpers.refusals import refusal

TABLE = pa.table({"q": [f"q{i % 7}" for i in range(250)], "n": [None, {"x": [1]}] * 125})
WITH_DICTIONARY = pa.table({"q": TABLE["q"].combine_chunks().dictionary_encode(), "n": TABLE["n"]})
WRITERS = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}


def write(file, table, kind: str, compression: str | None = None):
    with WRITERS[kind](str(file), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
        out.write_table(table, max_chunksize=70)
    return file


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("table", [TABLE, WITH_DICTIONARY], ids=["texts", "dictionary"])
def test_every_record_comes_in_order_with_its_place(kind, table, tmp_path):
    file = write(tmp_path / "rows.arrow", table, kind)
    found = list(arrow_records(file, None))
    assert [record for _, record in found] == TABLE.to_pylist()
    assert [place for place, _ in found] == [f"row {number}" for number in range(1, 251)]
    assert next(iter(arrow_records(file, ["n", "missing"])))[1] == {"q": None, "n": None}
    assert list(arrow_records(write(tmp_path / "empty.arrow", table.slice(0, 0), kind), None)) == []


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("table", [TABLE, WITH_DICTIONARY], ids=["texts", "dictionary"])
def test_a_compressed_file_is_refused_before_anything_of_it_is_unpacked(kind, compression, table, tmp_path):
    file = write(tmp_path / "rows.arrow", table, kind, compression)
    message = refusal(DataError, lambda: next(iter(arrow_records(file, None))))
    assert "'rows.arrow' is compressed" in message


def test_offsets_that_lead_elsewhere_are_refused_and_not_followed(tmp_path):
    file = write(tmp_path / "rows.arrow", pa.table({"q": ["abcdefg" * 9, "hij"]}), "stream")
    data = file.read_bytes()
    offsets = struct.pack("<3i", 0, 63, 66)
    assert data.count(offsets) == 1
    file.write_bytes(data.replace(offsets, struct.pack("<3i", 0, 2**30, 2**30 + 9)))
    assert "could not be read as arrow" in refusal(DataError, lambda: list(arrow_records(file, None)))


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"{}\n" * 99, None])
def test_a_file_that_is_missing_or_no_arrow_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "rows.arrow").write_bytes(content)
    refusal(DataError, lambda: list(arrow_records(tmp_path / "rows.arrow", None)))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_was_cut_gives_its_records_or_is_refused(kind, tmp_path):
    data = write(tmp_path / "rows.arrow", TABLE, kind).read_bytes()
    for length in range(8, len(data), 301):
        (tmp_path / "cut.arrow").write_bytes(data[:length])
        try:
            found = [record for _, record in arrow_records(tmp_path / "cut.arrow", None)]
        except DataError:
            continue
        assert found == TABLE.to_pylist()[: len(found)]
