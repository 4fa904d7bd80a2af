"""Values of arrow columns, against pyarrow's own."""

import pyarrow as pa
import pytest

from surgery.errors import DataError
from surgery.files import arrow_values
from tests.helpers.refusals import refusal

RECORDS = [
    {
        "text": "é",
        "number": 1.5,
        "flag": True,
        "list": ["a", None],
        "deep": {"x": [{"y": 2}], "z": None},
        "raw": b"b",
    },
    {"text": None, "number": None, "flag": False, "list": [], "deep": None, "raw": None},
]
BATCH = pa.RecordBatch.from_pylist(RECORDS)


def test_a_record_has_the_values_that_pyarrow_gives():
    names = BATCH.schema.names
    assert [arrow_values.arrow_record(BATCH, at, names, names) for at in range(2)] == RECORDS
    assert arrow_values.arrow_record(BATCH, 0, ["text"], names) == {**dict.fromkeys(names), "text": "é"}


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda inner: pa.list_(inner, 2)])
@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_lists_and_texts_of_every_kind_are_read(kind, text):
    batch = pa.RecordBatch.from_arrays(
        [pa.array([["a", "b"]], pa.list_(pa.string())).cast(kind(pa.string()))], ["l"]
    )
    if pa.types.is_dictionary(text):
        values = pa.array(["a", "b"]).dictionary_encode()
        batch = pa.RecordBatch.from_arrays(
            [pa.ListArray.from_arrays(pa.array([0, 2]).cast("int32"), values)], ["l"]
        )
    assert arrow_values.arrow_record(batch, 0, ["l"], ["l"]) == {"l": ["a", "b"]}


def test_a_short_column_that_stands_for_a_long_record_is_refused():
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 100_000]))
    offsets = pa.array([0, 1000], pa.int32())
    batch = pa.RecordBatch.from_arrays([pa.ListArray.from_arrays(offsets, dictionary)], ["texts"])
    assert "a record unpacks to more than 64 MiB" in refusal(
        DataError, arrow_values.arrow_record, batch, 0, ["texts"], ["texts"]
    )


def test_the_bound_counts_bytes_of_texts_and_one_for_other_values(monkeypatch):
    batch = pa.RecordBatch.from_pylist([{"v": ["é", "ab", None]}])
    monkeypatch.setattr(arrow_values, "_MOST_UNPACKED", 5)
    assert arrow_values.arrow_record(batch, 0, ["v"], ["v"]) == {"v": ["é", "ab", None]}
    monkeypatch.setattr(arrow_values, "_MOST_UNPACKED", 4)
    refusal(DataError, arrow_values.arrow_record, batch, 0, ["v"], ["v"])
