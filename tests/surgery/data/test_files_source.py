"""Rows in files of one's own: every kind of file gives the rows that another reader finds in it."""

import csv
import gzip
import io
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from surgery.data import SUFFIXES, Row, RowFields, json_array, left_out_text, read_rows, read_source, tables
from surgery.errors import DataError
from surgery.files import arrow_values, text_file
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import QA, write_lines

RECORDS = [
    {"prompt": 'say "no", é;\t|', "answer": "{[,]}\\"},
    {"prompt": "two\nlines 😀", "answer": '\\"'},
    {"prompt": "c", "answer": "4"},
]
ROWS = tuple(Row(**record) for record in RECORDS)


def lines(records) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def table(records, delimiter: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["prompt", "answer"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


TEXTS = {
    "lines.jsonl": lines(RECORDS),
    "lines.json": lines(RECORDS),
    "windows.jsonl": lines(RECORDS).replace("\n", "\r\n"),
    "array.json": json.dumps(RECORDS, ensure_ascii=False),
    "pretty.json": "\n " + json.dumps(RECORDS, ensure_ascii=False, indent=2),
    "array.jsonl": json.dumps(RECORDS),
    "table.csv": table(RECORDS, ","),
    "european.csv": table(RECORDS, ";"),
    "table.tsv": table(RECORDS, "\t"),
    "no-suffix": lines(RECORDS),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_text_file_is_read_in_any_encoding_packed_or_not(name, encoding, packed, tmp_path):
    data = TEXTS[name].encode(encoding)
    file = tmp_path / (f"{name}.gz" if packed else name)
    file.write_bytes(gzip.compress(data) if packed else data)
    found = read_source(str(file))
    assert found.rows == ROWS
    assert found.left_out == {}


def test_a_packed_file_is_known_by_its_content_whatever_its_name(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(gzip.compress(lines(RECORDS).encode()))
    assert read_source(str(file)).rows == ROWS


@pytest.mark.parametrize("kind", ["parquet", "stream.arrow", "file.arrow"])
def test_columns_give_the_rows_of_their_records(kind, tmp_path):
    file = tmp_path / f"rows.{kind}"
    found = pa.Table.from_pylist(RECORDS)
    if kind == "parquet":
        parquet.write_table(found, file)
    else:
        writer = pa.ipc.new_stream if kind.startswith("stream") else pa.ipc.new_file
        with writer(str(file), found.schema) as out:
            out.write_table(found, max_chunksize=2)
    assert read_source(str(file)).rows == ROWS


@pytest.mark.parametrize("kind", ["json", "parquet", "arrow"])
def test_conversations_are_read_alike_from_lines_and_from_columns(kind, tmp_path):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    tools = [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "tool_calls": [{"id": "1"}]}]
    saved = datasets.Dataset.from_list([{"messages": talk, "id": 1}, {"messages": tools, "id": 2}])
    file = tmp_path / f"rows.{kind}"
    if kind == "json":
        saved.to_json(file)
    elif kind == "parquet":
        saved.to_parquet(file)
    else:
        with pa.ipc.new_stream(str(file), saved.data.table.schema) as out:
            out.write_table(saved.data.table)
    found = read_source(str(file))
    assert [(row.prompt, row.answer, len(row.messages)) for row in found.rows] == [("a", "b", 2)]
    assert found.left_out == {"with tools": 1}


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
    assert "line 3 of 'rows.jsonl' is not JSON" in refusal(DataError, read_rows, file)


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


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".jsonl"])
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + b"\0" * 200 + b"PAR1", b"\x1f\x8b\x08\0", b"\xff\xfe\xff", None]
)
def test_a_file_that_is_none_of_its_kind_is_refused(suffix, content, tmp_path):
    if content is not None:
        (tmp_path / f"rows{suffix}").write_bytes(content)
    assert f"rows{suffix}" in refusal(DataError, read_source, str(tmp_path / f"rows{suffix}"))


def test_what_unpacks_to_more_than_fits_is_refused(tmp_path, monkeypatch):
    for name, text in (("rows.jsonl.gz", "{}\n"), ("rows.csv.gz", "a,b\n"), ("rows.json.gz", "[{},")):
        (tmp_path / name).write_bytes(gzip.compress(text.encode() * (1 << 19)))
        assert "unpacks to more" in refusal(DataError, read_source, str(tmp_path / name))
    monkeypatch.setattr(arrow_values, "_MOST_UNPACKED", 1000)
    talk = [{"role": "user", "content": "x" * 200}] * 9
    parquet.write_table(pa.table({"messages": [talk]}), tmp_path / "rows.parquet")
    assert "a record unpacks to more" in refusal(DataError, read_source, str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", '{"prompt": "' + "x" * 300),
        ("rows.json", '[{"prompt": "' + "x" * 300),
        ("rows.csv", "prompt,answer\n" + "x" * 300),
        ("rows.csv", 'prompt,answer\n"' + "x\n" * 300),
    ],
)
def test_a_record_without_end_is_refused(name, text, tmp_path, monkeypatch):
    for module in (text_file, json_array, tables):
        monkeypatch.setattr(module, "LONGEST_LINE", 100)
    monkeypatch.setattr(json_array, "_CHUNK", 50)
    (tmp_path / name).write_text(text)
    assert "'rows." in refusal(DataError, read_source, str(tmp_path / name))
