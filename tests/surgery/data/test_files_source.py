"""Rows in files of one's own, as lines of JSON and as Parquet."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from surgery.data import (
    Row,
    RowFields,
    left_out_text,
    read_source,
)
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import QA, write_lines


def test_rows_that_cannot_be_used_are_left_out_and_counted(tmp_path):
    good = [{"question": f"q{i}", "answer": str(i)} for i in range(5)]
    bad = ["{", "[1]", {"question": "q", "answer": ""}, {"question": "q"}, {"question": " ", "answer": "a"}]
    file = write_lines(tmp_path / "rows.jsonl", [*good[:2], *bad, "", *good[2:]])
    found = read_source(file, QA)
    assert found.rows == tuple(Row(f"q{i}", str(i)) for i in range(5))
    assert found.left_out == {"unreadable": 2, "empty answer": 1, "missing field": 1, "empty prompt": 1}
    assert "line 3 of 'rows.jsonl' is not JSON" in found.problem
    assert found.names == ("question", "answer")
    assert left_out_text(found.left_out) == (
        "5 rows left out: 2 unreadable, 1 empty answer, 1 missing field, 1 empty prompt"
    )
    assert left_out_text({"too long": 1}) == "1 row left out: 1 too long"
    assert left_out_text({}) == left_out_text({"too long": 0}) == ""


def test_a_file_of_another_shape_is_refused_with_the_fields_that_it_has(tmp_path):
    file = write_lines(tmp_path / "rows.jsonl", [{"wish": "i", "reply": "o"}] * 2)
    message = refusal(DataError, read_source, file)
    assert "'prompt'" in message
    assert "'wish', 'reply'" in message
    assert read_source(file, RowFields("wish", "reply")).rows == (Row("i", "o"),) * 2


def test_parquet_has_the_rows_of_its_columns(tmp_path):
    table = {"question": ["a", "b", None], "answer": ["1", "2", "3"], "id": [7, 8, 9], "blob": [b"x"] * 3}
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet", row_group_size=2)
    found = read_source(str(tmp_path / "rows.parquet"), QA)
    assert found.rows == (Row("a", "1"), Row("b", "2"))
    assert found.left_out == {"empty prompt": 1}
    assert found.names == ("question", "answer", "id", "blob")
    assert "row 3" in found.problem
    assert read_source(str(tmp_path / "rows.parquet"), RowFields("{id}", "answer")).rows[1] == Row("8", "2")
    other = RowFields("wish", "answer")
    assert "'question', 'answer', 'id', 'blob'" in refusal(
        DataError, read_source, str(tmp_path / "rows.parquet"), other
    )


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 200 + b"PAR1", None])
def test_a_parquet_file_that_is_none_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "rows.parquet").write_bytes(content)
    assert "rows.parquet" in refusal(DataError, read_source, str(tmp_path / "rows.parquet"))
