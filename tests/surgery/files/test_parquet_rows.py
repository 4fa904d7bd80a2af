"""Records of parquet files, against what pyarrow reads at once."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from surgery.errors import DataError
from surgery.files import parquet_records, parquet_rows
from tests.helpers.refusals import refusal

TABLE = pa.table({"q": [f"q{i % 7}" for i in range(2500)], "a": list(range(2500)), "n": [None, {"x": [1]}] * 1250})


@pytest.fixture
def file(tmp_path):
    parquet.write_table(TABLE, tmp_path / "rows.parquet", row_group_size=700)
    return tmp_path / "rows.parquet"


def test_every_record_comes_in_order_with_its_place(file):
    found = list(parquet_records(file, None))
    assert [record for _, record in found] == TABLE.to_pylist()
    assert [place for place, _ in found] == [f"row {number}" for number in range(1, 2501)]


def test_columns_that_are_not_wanted_are_named_and_not_read(file):
    found = [record for _, record in parquet_records(file, ["a", "missing"])]
    assert found == [{"q": None, "a": number, "n": None} for number in range(2500)]


def test_a_file_without_any_wanted_column_tells_its_columns_once(file):
    assert list(parquet_records(file, ["missing"])) == [("row 1", {"q": None, "a": None, "n": None})]


def test_a_file_without_rows_has_no_record(tmp_path):
    parquet.write_table(TABLE.slice(0, 0), tmp_path / "empty.parquet")
    assert list(parquet_records(tmp_path / "empty.parquet", None)) == []
    assert list(parquet_records(tmp_path / "empty.parquet", ["missing"])) == []


def test_what_unpacks_to_more_than_fits_is_refused(file, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MOST_RECORDS", 2499)
    assert "2,500 rows" in refusal(DataError, lambda: list(parquet_records(file, None)))
    monkeypatch.setattr(parquet_rows, "MOST_RECORDS", 2500)
    monkeypatch.setattr(parquet_rows, "_MOST_BYTES", 100)
    assert "smaller row groups" in refusal(DataError, lambda: list(parquet_records(file, None)))


def test_a_file_that_is_missing_or_damaged_is_refused(file, tmp_path):
    assert "no file" in refusal(DataError, lambda: list(parquet_records(tmp_path / "none", None)))
    file.write_bytes(file.read_bytes()[:-9])
    assert "parquet" in refusal(DataError, lambda: list(parquet_records(file, None)))
