"""The command line: numbers of every policy, one JSON object, and one line for every mistake."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from surgery.cli import main
from tests.surgery.cli.conftest import NUMBERS, rescaled, strict

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ["inspect", "gains", "calibrate", "edit", "evaluate", "run"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["inspect", "nowhere\nat all"],
        ["inspect", "x" * 5000],
        ["inspect", "~no-such-user-here/adapter"],
        ["inspect", ""],
        ["--json", "inspect", "."],
        ["run"],
        ["run", "nowhere.yaml"],
        ["run", "~no-such-user-here/recipe.yaml"],
        ["evaluate", "nowhere"],
        ["calibrate", "nowhere"],
        ["calibrate", "nowhere", "--out", "x", "--examples", "-1"],
        ["calibrate", "nowhere", "--out", "x", "--batch-size", "0"],
        ["calibrate", "nowhere", "--out", "x", "--examples", "many"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_mistake_on_the_command_line_is_one_line(words, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(*words)
    assert list(tmp_path.iterdir()) == []


def test_an_installation_without_its_demos_says_so(fails, tmp_path, monkeypatch):
    monkeypatch.setattr("surgery.files.demo.DEMO_FOLDER", tmp_path)
    assert "install the project again" in fails("inspect", "demo:kinship")


@pytest.mark.parametrize("content", ["{", "[]", "recipe: 2", "recipe: 1\nadapter: {source: a, digest: b}"])
def test_a_recipe_that_cannot_be_read_is_one_line(content, tmp_path, fails):
    (tmp_path / "recipe.yaml").write_text(content)
    assert "recipe" in fails("run", str(tmp_path / "recipe.yaml"), "--json")
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_an_adapter_that_is_no_demo_needs_a_base_and_rows(command, small_adapter, tmp_path, fails):
    out = ["--out", str(tmp_path / "x")] if command == "calibrate" else []
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "answer": "b"}\n' * 128)
    assert "--base" in fails(command, str(small_adapter), "--data", str(data), *out)
    assert "--data" in fails(command, str(small_adapter), "--base", "some/base", *out)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_stopping_with_the_keyboard_is_one_line_and_exit_code_130(monkeypatch, capsys, small_adapter):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery.cli.inspect.open_adapter", stopped)
    assert main(["inspect", str(small_adapter), "--json"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*([command] if command else []), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: surgery" in text
    if not command:
        assert all(name in text for name in COMMANDS)


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "surgery", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_the_program_prints_one_json_object_and_returns_zero():
    done = program("gains", *NUMBERS, "--policy", "abs_select", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert strict(done.stdout.decode())["gains"] == pytest.approx(rescaled([1.25, 0.8, 1, 1]), rel=1e-12)


def test_the_program_writes_to_a_terminal_that_knows_ascii_only(lora_tensors, write_adapter):
    # the note on rank-stabilised scaling and the arrow before every remedy are no ASCII
    folder = write_adapter(lora_tensors({"layers.0.o_proj": (6, 4, 5)}), use_rslora=True)
    done = program("inspect", str(folder), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr.decode()
    refused = program("inspect", "nowhere", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        # as a shell counts a program that the signal of a closed pipe ended
        (["inspect", "demo:kinship"], 128 + signal.SIGPIPE),
        (["gains", *NUMBERS, "--policy", "scale", "--json"], 128 + signal.SIGPIPE),
        (["edit", "--help"], 0),
    ],
    ids=["much", "little", "help"],
)
def test_a_program_whose_reader_has_gone_ends_without_a_word(words, code):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "surgery", *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=300
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


def test_an_edit_whose_words_nobody_reads_is_written_all_the_same(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    words = ["edit", "demo:kinship", "--policy", "grad_direction", "--out", str(tmp_path / "out")]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "surgery", *words], cwd=ROOT, stderr=writer, stdout=subprocess.PIPE
        )
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
