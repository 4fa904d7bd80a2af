"""Records of tables, against the csv module's own dictionaries."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from surgery.data import Row, UnusableRow, read_source, tables

cells = st.text("ab ,;|\t\"\n\r'é😀", max_size=8)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5), st.sampled_from(",;\t|"))
def test_a_table_that_was_written_is_read_back_whatever_its_cells_and_delimiter(rows, delimiter):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["prompt", "answer"], *rows])
    found = [record for _, record in tables.table_records(io.StringIO(text.getvalue(), newline=""), "rows.csv")]
    assert found == [dict(zip(("prompt", "answer"), row, strict=True)) for row in rows]


def test_a_line_with_more_cells_than_names_is_no_record():
    text = io.StringIO("a,b\n1,2\n1,2,3\n")
    (_, good), (place, odd) = tables.table_records(text, "rows.csv")
    assert good == {"a": "1", "b": "2"}
    assert isinstance(odd, UnusableRow)
    assert place == "line 3"


def test_a_text_longer_than_the_csv_module_takes_by_itself_is_read():
    long = "x" * 200_000  # its own limit is 131,072
    ((_, record),) = tables.table_records(io.StringIO(f"a,b\n{long},2\n"), "rows.csv")
    assert record == {"a": long, "b": "2"}


def test_odd_lines_of_a_table_are_left_out_and_counted(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,answer\n1+1,2\n\n2+2\nwho, me, too,yes\n3+3,6\n")
    found = read_source(str(tmp_path / "rows.csv"))
    assert found.rows == (Row("1+1", "2"), Row("3+3", "6"))
    assert found.left_out == {"missing field": 1, "unreadable": 1}
    assert "line 4 of 'rows.csv'" in found.problem
