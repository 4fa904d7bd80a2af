"""`surgery calibrate`."""

import contextlib
import json
from types import SimpleNamespace

import pytest
import torch

from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.data import Encoding, Row, encode, read_rows
from surgery.model import BaseChoice, attach
from surgery.sensitivity import load_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import example_loss, save_adapter, save_model, tiny_llama, tiny_tokenizer
from tests.helpers.rounding import assert_losses
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
    live = SimpleNamespace(spectra={}, base=SimpleNamespace(tokenizer=None, task="CAUSAL_LM"))
    for command in ("calibrate", "evaluate"):
        monkeypatch.setattr(f"surgery.cli.{command}.attach", lambda *_, **__: contextlib.nullcontext(live))
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
    def attach(*_, **__):
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
    words += ["--data", str(tmp_path / "rows.jsonl"), "--examples", "8", "--max-length", "16"]
    words += [
        "--prompt-field",
        "Q: {question}",
        "--answer-field",
        "{sum}",
        "--out",
        str(tmp_path / "g.safetensors"),
    ]
    # <u>, "Q: ", i+i=, dots, <a>, the sum and </s>
    lengths = [1 + 3 + 4 + i + 1 + len(str(2 * i)) + 1 for i in range(8)]
    long = sum(length > 16 for length in lengths)
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


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A base and an adapter in folders, rows beside them, and a home of its own."""
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    rows = [{"prompt": f"{i}+{i}=", "answer": str(2 * i)} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def _calibrate(folder, *words):
    base, data = str(folder / "base"), str(folder / "rows.jsonl")
    return ["calibrate", str(folder / "adapter"), "--base", base, "--data", data, "--examples", "8", *words]


def test_the_preview_shows_tokens_and_what_is_scored_without_an_out_or_weights(tiny, capsys):
    (tiny / "base" / "model.safetensors").unlink()
    assert main(_calibrate(tiny, "--preview", "--json", "--seed", "0")) == 0
    record = strict(capsys.readouterr().out)
    tokens = record["rows"][0]["tokens"]
    assert record["examples"] == 8
    assert next(token["text"] for token in tokens if not token["scored"]) == "<u>"
    assert tokens[-1] == {"id": 2, "text": "</s>", "scored": True, "name": "end of turn, EOS"}
    assert record["notes"] == []
    assert main(_calibrate(tiny, "--preview", "--template", "plain", "--no-eos")) == 0
    text = capsys.readouterr().out
    assert "row 1 of 8:" in text
    assert "  prompt <s>⟨BOS⟩│" in text
    assert "note: 8 of 8 rows have no end that is scored" in text


def test_without_an_out_a_measurement_is_refused_before_the_base_is_loaded(tiny, fails):
    (tiny / "base" / "config.json").unlink()
    assert "--out" in fails(*_calibrate(tiny))


def test_every_option_of_the_encoding_reaches_the_tokens_and_the_measurement(tiny, capsys):
    """Template file, its arguments, a system prompt, a day and the tokenizer, each seen in what it changes."""
    mine = tiny_tokenizer()
    mine.add_tokens(["+"], special_tokens=True)
    mine.save_pretrained(tiny / "adapter")
    (tiny / "own.jinja").write_text(
        "{{ strftime_now('%Y') }}{% if loud %}!{% endif %}"
        "{% for m in messages %}{{ '=' if m['role'] == 'system' else '<u>' }}{{ m['content'] }}</s>{% endfor %}"
    )
    words = ["--template", str(tiny / "own.jinja"), "--template-args", '{"loud": true}', "--system", "abc"]
    words += ["--date", "2031-05-06", "--separator"]
    assert main(_calibrate(tiny, *words, "--preview", "--json")) == 0
    record = strict(capsys.readouterr().out)
    text = "".join(token["text"] for token in record["rows"][0]["tokens"])
    assert text.startswith("2031<unk>=abc</s><u>")
    assert any("2031-05-06 is used" in note for note in record["notes"])
    assert main(_calibrate(tiny, *words, "--out", str(tiny / "out"))) == 0
    encoding = load_sensitivity(tiny / "out").provenance.encoding
    assert (encoding.template, encoding.template_args) == (str(tiny / "own.jinja"), '{"loud": true}')
    assert (encoding.system, encoding.date, encoding.tokenizer) == ("abc", "2031-05-06", "adapter")
    capsys.readouterr()
    assert main(_calibrate(tiny, "--tokenizer", "base", "--out", str(tiny / "base-out"))) == 0
    assert load_sensitivity(tiny / "base-out").provenance.encoding.tokenizer == "base"


def test_a_tokenizer_that_cannot_be_loaded_is_one_line_with_an_option_that_works(tiny, fails, capsys):
    (tiny / "adapter" / "tokenizer.json").write_text("{")
    said = fails(*_calibrate(tiny, "--preview"))
    assert "--tokenizer base" in said
    assert main(_calibrate(tiny, "--preview", "--tokenizer", "base")) == 0


def _likeliest(folder, prompts):
    """Rows whose answer is the letter that the base itself finds likeliest, as if it knew them by heart."""
    model, letters = tiny_llama(), list(range(6, 54))
    rows = []
    for prompt in prompts:
        (example,) = encode([Row(prompt, "a")], tiny_tokenizer(), Encoding(eos=False)).examples
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.prompt_ids])).logits[0, -1, letters]
        rows.append({"prompt": prompt, "answer": tiny_tokenizer().decode([letters[int(logits.argmax())]])})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_doubtful_losses_are_told_in_text_and_record(tiny, capsys):
    _likeliest(tiny, [f"{i}+{i}=" for i in range(8)])
    save_adapter(tiny_llama(), tiny / "adapter", scale=2.0)
    assert main(_calibrate(tiny, "--no-eos", "--out", str(tiny / "out"))) == 0
    text = capsys.readouterr().out
    assert "note: mean loss" in text
    assert "note: the adapter makes its own rows worse" in text
    assert main(_calibrate(tiny, "--no-eos", "--out", str(tiny / "out"), "--json")) == 0
    record = strict(capsys.readouterr().out)
    assert len(record["notes"]) == 3
    assert record["loss"] > record["loss_without"]


def test_conversations_are_measured_and_evaluated_as_they_lie(tmp_path, monkeypatch, capsys, fails):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    talk = [("human", "1+1="), ("gpt", "2"), ("human", "and 1?"), ("gpt", "3")]
    rows = [[{"from": who, "value": f"{text}{n}"} for who, text in talk] for n in range(4)]
    (tmp_path / "rows.json").write_text(json.dumps([{"conversations": row} for row in rows]))
    base = ["--base", str(tmp_path / "base")]
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


def test_an_evaluation_reads_its_rows_as_its_options_say(tiny, capsys):
    (tiny / "own.jinja").write_text("{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}")
    base, data = str(tiny / "base"), str(tiny / "rows.jsonl")
    words = ["evaluate", str(tiny / "adapter"), "--base", base, "--data", data, "--limit", "4", "--json"]
    losses = []
    for options in ([], ["--template", str(tiny / "own.jinja"), "--system", "abc", "--tokenizer", "base"]):
        assert main([*words, *options]) == 0
        record = strict(capsys.readouterr().out)
        rows = record["question"]["rows"]
        losses.append(record["variants"]["unedited"]["means"]["loss"])
    assert (rows["system"], rows["tokenizer"], rows["template"]) == ("abc", "base", str(tiny / "own.jinja"))
    adapter = open_adapter(tiny / "adapter")
    with attach(adapter, decompose(adapter), BaseChoice(base)) as live:
        encoding = Encoding(str(tiny / "own.jinja"), system="abc", tokenizer="base")
        examples = live.encode(read_rows(data)[:4], encoding).examples
        with torch.no_grad():
            expected = [float(example_loss(live.model, example)) for example in examples]
        assert_losses(losses[1], sum(expected) / 4, live.model)
    assert losses[0] != pytest.approx(losses[1])
