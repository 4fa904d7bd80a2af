"""Rows from files, from a demo and from copies of hub datasets: which fields, which files, what is left out."""

import json
import socket
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import (
    HubSource,
    NotFetchedError,
    Row,
    RowFields,
    UnusableRow,
    left_out_text,
    parse_hub,
    read_rows,
    read_source,
)
from surgery.errors import DataError
from surgery.files import data_file

DATASETS = Path(__file__).resolve().parents[4] / "shared" / "data" / "datasets"
QA = RowFields("question", "answer")


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.problem
    assert caught.value.remedy
    return str(caught.value)


def write_lines(file: Path, records) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8"
    )
    return str(file)


# ---- fields and templates ----


def test_a_template_puts_top_level_fields_into_its_text():
    fields = RowFields("{context}\nQ: {question} {{x}}", "{label}")
    row = fields.row({"context": "c", "question": "q?", "label": 3, "other": [1]})
    assert row == Row("c\nQ: q? {x}", "3")
    assert fields.names == ("context", "question", "label")
    assert RowFields("{a}{b}", "a").row({"a": "x", "b": ""}) == Row("x", "x")
    assert RowFields("{a}", "{b}").row({"a": 0.5, "b": True}) == Row("0.5", "true")


@pytest.mark.parametrize("name", ["a.__class__", "a[0]", "a!r", "0", "a:>9", "__init__.__globals__"])
def test_nothing_in_a_template_is_evaluated(name):
    # each is the name of a field, there or not
    fields = RowFields(f"{{{name}}}", "a")
    assert fields.row({name: "field", "a": "x"}).prompt == "field"
    with pytest.raises(UnusableRow) as caught:
        fields.row({"a": "x"})
    assert caught.value.reason == "missing field"


@pytest.mark.parametrize("text", ["", "  ", "{", "}", "{a", "a}", "{}", "{ }", "{{a}}", "{a}{"])
def test_a_template_that_cannot_be_read_is_refused(text):
    refusal(RowFields, text)
    refusal(RowFields, "prompt", text)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="{}"), min_size=1).filter(str.strip), st.text(), min_size=1
    )
)
def test_a_template_of_every_field_joins_their_texts_whatever_they_hold(record):
    template = "<" + "|".join(f"{{{name}}}" for name in record) + ">"
    expected = "<" + "|".join(record.values()) + ">"
    try:
        expected.encode()
    except UnicodeEncodeError:
        return
    assert RowFields(template, template).row(record).prompt == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": "q"}, "missing field"),
        ({"answer": "a"}, "missing field"),
        ({"question": "", "answer": "a"}, "empty prompt"),
        ({"question": "q", "answer": " \n"}, "empty answer"),
        ({"question": "q", "answer": None}, "empty answer"),
        ({"question": "q", "answer": 4}, "unreadable"),
        ({"question": ["q"], "answer": "a"}, "unreadable"),
        ({"question": "\ud800", "answer": "a"}, "unreadable"),
        (["q", "a"], "unreadable"),
        ("q", "unreadable"),
    ],
)
def test_a_record_that_is_no_row_says_why(record, reason):
    with pytest.raises(UnusableRow) as caught:
        QA.row(record)
    assert caught.value.reason == reason


# ---- files ----


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
    file = write_lines(tmp_path / "rows.jsonl", [{"instruction": "i", "output": "o"}] * 2)
    message = refusal(read_source, file)
    assert "'prompt'" in message
    assert "'instruction', 'output'" in message
    assert read_source(file, RowFields("instruction", "output")).rows == (Row("i", "o"),) * 2


def test_a_demo_slice_has_the_rows_of_the_strict_reader():
    found = read_source("demo:kinship/calibration")
    assert list(found.rows) == read_rows(data_file("demo:kinship/calibration"))
    assert found.left_out == {}


def test_parquet_has_the_rows_of_its_columns(tmp_path):
    table = {"question": ["a", "b", None], "answer": ["1", "2", "3"], "id": [7, 8, 9], "blob": [b"x"] * 3}
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet", row_group_size=2)
    found = read_source(str(tmp_path / "rows.parquet"), QA)
    assert found.rows == (Row("a", "1"), Row("b", "2"))
    assert found.left_out == {"empty prompt": 1}
    assert found.names == ("question", "answer", "id", "blob")
    assert "row 3" in found.problem
    assert read_source(str(tmp_path / "rows.parquet"), RowFields("{id}", "answer")).rows[1] == Row("8", "2")
    assert "'question', 'answer', 'id', 'blob'" in refusal(read_source, str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 200 + b"PAR1", None])
def test_a_parquet_file_that_is_none_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "rows.parquet").write_bytes(content)
    assert "rows.parquet" in refusal(read_source, str(tmp_path / "rows.parquet"))


# ---- hub ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:openai/gsm8k/main:train", HubSource("openai/gsm8k", "train", "main")),
        ("hub:owner/name:test", HubSource("owner/name", "test")),
        ("hub:owner/name", HubSource("owner/name", "train")),
        ("hub:owner/name@abc123/c:test", HubSource("owner/name", "test", "c", "abc123")),
        ("hub:squad:validation", HubSource("squad", "validation")),
        ("hub:squad@main/v2:validation", HubSource("squad", "validation", "v2", "main")),
        ("hub:/a/b c/d:train", HubSource("/a/b c/d", "train")),
    ],
)
def test_a_hub_source_is_read_and_written(text, expected):
    assert parse_hub(text) == expected
    assert parse_hub(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["hub:", "hub::train", "hub:a/b/c/d:train", "hub:a b:train", "hub:../x@y z/:", "hub:a/b:"]
)
def test_a_hub_source_that_names_no_dataset_is_refused(text):
    refusal(read_source, text, download=False)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A cache as huggingface_hub keeps it, with one dataset in two configurations."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    storage = tmp_path / "hub" / "datasets--owner--name"
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text("c0ffee")
    folder = storage / "snapshots" / "c0ffee"
    for config in ("main", "socratic"):
        for split in ("train", "test"):
            records = [{"question": f"{config} {split} {i}", "answer": str(i)} for i in range(3)]
            write_lines(folder / config / f"{split}-00000-of-00001.jsonl", records)
    return folder


def test_a_cached_dataset_is_read_without_a_network(hub_cache, monkeypatch):
    def offline(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    found = read_source("hub:owner/name/socratic:test", QA)
    assert [row.prompt for row in found.rows] == [f"socratic test {i}" for i in range(3)]
    assert read_source("hub:owner/name@c0ffee/main:train", QA, download=False).rows[0].prompt == "main train 0"


def test_files_that_could_be_two_configurations_are_not_guessed(hub_cache):
    with pytest.raises(DataError):
        read_source("hub:owner/name:test", QA, download=False)
    assert "'main', 'socratic'" in refusal(read_source, f"hub:{hub_cache}:test", QA)


def test_the_card_of_a_dataset_says_which_files_are_a_split(hub_cache):
    write_lines(hub_cache / "data" / "a.jsonl", [{"question": "a", "answer": "1"}])
    write_lines(hub_cache / "data" / "b.jsonl", [{"question": "b", "answer": "2"}])
    (hub_cache / "README.md").write_text(
        "---\nconfigs:\n- config_name: both\n  default: true\n  data_files:\n  - split: train\n    path: data/*\n"
        "- config_name: one\n  data_files:\n  - split: train\n    path: [data/b.jsonl]\n---\n# x\n"
    )
    assert [row.prompt for row in read_source("hub:owner/name:train", QA, download=False).rows] == ["a", "b"]
    assert [row.prompt for row in read_source("hub:owner/name/one:train", QA, download=False).rows] == ["b"]
    assert "use one of train" in refusal(read_source, f"hub:{hub_cache}:test", QA)
    assert "use one of both, one" in refusal(read_source, "hub:owner/name/two:train", QA)


def test_a_split_with_a_lacking_shard_counts_as_absent(hub_cache):
    write_lines(hub_cache / "main" / "extra-00001-of-00002.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(NotFetchedError):
        read_source("hub:owner/name/main:extra", QA, download=False)
    write_lines(hub_cache / "main" / "extra-00000-of-00002.jsonl", [{"question": "p", "answer": "a"}])
    assert [r.prompt for r in read_source("hub:owner/name/main:extra", QA, download=False).rows] == ["p", "q"]


def test_without_a_network_an_absent_dataset_is_refused_with_the_way_on(hub_cache, monkeypatch):
    def offline(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    message = refusal(read_source, "hub:other/name:train")
    assert "'hub:other/name:train' is not on this machine" in message
    assert "copy its files here" in message
    with pytest.raises(NotFetchedError):
        read_source("hub:other/name:train", download=False)


def test_a_dataset_is_fetched_file_by_file(hub_cache, monkeypatch):
    names = ["README.md", "main/train-00000-of-00001.jsonl", "main/test-00000-of-00001.jsonl", "x.py"]
    info = type("Info", (), {"sha": "c0ffee", "siblings": [type("S", (), {"rfilename": n}) for n in names]})
    asked = []

    def fetch(**options):
        asked.append(options["allow_patterns"])
        return str(hub_cache)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    found = read_source("hub:new/name:train", QA)
    assert [row.prompt for row in found.rows] == [f"main train {i}" for i in range(3)]
    assert asked == [["README.md"], ["main/train-00000-of-00001.jsonl"]]


# ---- real datasets ----


def real(name: str) -> Path:
    if not (DATASETS / name).exists():
        pytest.skip(f"no datasets at {DATASETS}")
    return DATASETS / name


def lines_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


def test_gsm8k_as_a_file_and_as_a_folder_of_splits():
    folder = real("gsm8k")
    expected = tuple(Row(r["question"], r["answer"]) for r in lines_of(folder / "test.jsonl"))
    assert len(expected) == 1319
    assert read_source(str(folder / "test.jsonl"), QA).rows == expected
    assert read_source(f"hub:{folder}:test", QA).rows == expected
    assert len(read_source(f"hub:{folder}:train", QA).rows) == 7473
    assert "'train.jsonl'" in refusal(read_source, f"hub:{folder}:validation", QA)


def test_humaneval_and_mbpp_by_their_own_fields():
    records = lines_of(real("humaneval") / "HumanEval.jsonl")
    found = read_source(str(DATASETS / "humaneval" / "HumanEval.jsonl"), RowFields("prompt", "canonical_solution"))
    assert found.rows == tuple(Row(r["prompt"], r["canonical_solution"]) for r in records)
    records = lines_of(real("mbpp") / "mbpp.jsonl")
    template = RowFields("{text}\nTask {task_id}.", "code")
    found = read_source(str(DATASETS / "mbpp" / "mbpp.jsonl"), template)
    assert found.rows == tuple(Row(f"{r['text']}\nTask {r['task_id']}.", r["code"]) for r in records)


def test_rows_without_answers_are_no_calibration_rows():
    message = refusal(read_source, str(real("ifeval") / "input_data.jsonl"))
    assert "'instruction_id_list'" in message
    # a nested field is not looked into
    assert "'stem'" in refusal(
        read_source, str(real("commonsenseqa") / "dev_rand_split.jsonl"), RowFields("stem", "answerKey")
    )
