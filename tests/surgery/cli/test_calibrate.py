"""`surgery calibrate`."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from surgery.cli import main
from surgery.sensitivity import load_sensitivity
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.surgery.cli.conftest import strict

BAD_ROWS = {
    "empty": ("", "no rows"),
    "blank": ("\n\n", "no rows"),
    "answerless": ('{"prompt": "a", "answer": "b"}\n{"prompt": "a"}\n', "line 2"),
    "empty answer": ('{"prompt": "a", "answer": " "}\n', "'answer'"),
    "no JSON": ("a,b\n", "line 1"),
    "too few": ('{"prompt": "a", "answer": "b"}\n', "128 rows"),
}


@pytest.mark.parametrize(("content", "said"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_calibration_rows_that_cannot_be_used_are_one_line(
    content, said, small_adapter, tmp_path, monkeypatch, fails
):
    # rows are refused with or without a base model, so a stand-in serves for it
    live = SimpleNamespace(spectra={}, base=SimpleNamespace(tokenizer=None))
    for command in ("calibrate", "evaluate"):
        monkeypatch.setattr(f"surgery.cli.{command}.attach", lambda *_: contextlib.nullcontext(live))
    data, out = tmp_path / "rows.jsonl", tmp_path / "measured.safetensors"
    data.write_text(content)
    words = ["calibrate", str(small_adapter), "--base", "some/base", "--data", str(data), "--out", str(out)]
    assert said in fails(*words, "--json")
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
    words = ["evaluate", str(small_adapter), "--base", "some/base", "--data", str(data)]
    if said != "128 rows":
        assert said in fails(*words, "--json")


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_rows_are_read_before_minutes_are_spent_on_the_base_model(
    command, small_adapter, tmp_path, monkeypatch, fails
):
    def attach(*_):
        raise AssertionError("the base model was loaded although there are no rows")

    monkeypatch.setattr(f"surgery.cli.{command}.attach", attach)
    words = [command, str(small_adapter), "--base", "some/base", "--data", str(tmp_path / "nowhere.jsonl")]
    assert "nowhere.jsonl" in fails(*words, *(["--out", str(tmp_path / "x")] if command == "calibrate" else []))


def test_calibrate_takes_other_fields_and_says_what_was_left_out_and_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    records = [{"question": f"{i}+{i}=" + "." * i, "sum": 2 * i} for i in range(8)]
    lines = [*map(json.dumps, records), "{", '{"question": "1"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    words = ["calibrate", str(tmp_path / "adapter"), "--base", str(tmp_path / "base")]
    words += ["--data", str(tmp_path / "rows.jsonl"), "--examples", "8", "--max-length", "17"]
    words += [
        "--prompt-field",
        "Q: {question}",
        "--answer-field",
        "{sum}",
        "--out",
        str(tmp_path / "g.safetensors"),
    ]
    # <u>, "Q: ", i+i=, dots, <a>, a space, the sum and </s>
    lengths = [1 + 3 + 4 + i + 1 + 1 + len(str(2 * i)) + 1 for i in range(8)]
    long = sum(length > 17 for length in lengths)
    for _ in range(2):  # measured, and found again in the store
        assert main([*words, "--json"]) == 0
        record = strict(capsys.readouterr().out)
        assert record["examples"] == 8 - long > 0
        assert record["dropped"] == long + 2
        assert record["dropped_by_reason"] == {"too long": long, "unreadable": 1, "missing field": 1}
        assert record["format"] == "Q: {question} → {sum}"
    assert main(words) == 0
    assert (
        f"{long + 2} rows left out: 1 unreadable, 1 missing field, {long} too long (line 9 of 'rows.jsonl'"
        in capsys.readouterr().out
    )
    assert load_sensitivity(tmp_path / "g.safetensors").examples == 8 - long


def test_conversations_are_measured_and_evaluated_as_they_lie(tmp_path, monkeypatch, capsys, fails):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    talk = [("human", "1+1="), ("gpt", "2"), ("human", "and 1?"), ("gpt", "3")]
    rows = [[{"from": who, "value": f"{text}{n}"} for who, text in talk] for n in range(4)]
    (tmp_path / "rows.json").write_text(json.dumps([{"conversations": row} for row in rows]))
    base = ["--base", str(tmp_path / "base"), "--template", "plain"]
    words = ["calibrate", str(tmp_path / "adapter"), *base, "--data", str(tmp_path / "rows.json"), "--json"]
    for turns, examples in (("last", 4), ("all", 8)):
        out = str(tmp_path / f"{turns}.safetensors")
        assert main([*words, "--examples", str(examples), "--turns", turns, "--out", out]) == 0
        record = strict(capsys.readouterr().out)
        assert record["examples"] == examples
        assert record["format"] == "conversations (messages, ShareGPT)" + ", every answer" * (turns == "all")
    assert "no format is called 'csv'" in fails(*words, "--format", "csv", "--out", "x")

    test = [*rows, [{"from": "human", "value": "alone"}]]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in test))
    words = ["evaluate", str(tmp_path / "adapter"), *base, "--data", str(tmp_path / "test.jsonl"), "--json"]
    assert "--leave-out" in fails(*words)
    assert main([*words, "--leave-out"]) == 0
    record = strict(capsys.readouterr().out)
    assert record["format"] == "conversations (messages, ShareGPT)"
    assert "1 row left out: 1 no assistant's turn" in record["notes"]
