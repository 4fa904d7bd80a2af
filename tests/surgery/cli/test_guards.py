"""`surgery evaluate` on plain text and with guards: tables, JSON, the group found again, and what is refused."""

import pytest

from surgery.cli import main
from tests.helpers.workplace import ROWS, write_rows


@pytest.fixture
def asked(workplace_files, tmp_path, monkeypatch, capsys):
    """Runs a command on a tiny adapter; its exit code, output and errors."""
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    given = ["--base", str(workplace_files / "base"), "--random", "1", "--scope", "all", "--template", "plain"]

    def run(command, *more):
        words = [str(workplace_files / "adapter"), *given] if command == "evaluate" else []
        code = main([command, *words, *more])
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith("surgery: ")]

    return run


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{n}+{7 * n % 23}={n + 7 * n % 23}. " for n in range(16)))
    return str(file)


def test_a_text_is_evaluated_and_its_run_and_group_are_told_again(asked, text, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", ROWS[30:34])
    more = ["--text", text, "--window", "24", "--stride", "12", "--limit", "3"]
    guards = [
        "--guard",
        f"text: {text}, window: 16, stride: 4, limit: 2",
        "--guard",
        f"rows: {rows}, template: plain",
    ]
    code, out, errors = asked("evaluate", *more, *guards)
    assert (code, errors) == (0, [])
    assert "cross-entropy, lower is better:" in out
    assert "KL from the unedited adapter, lower is better:" in out
    assert "36 of" in out
    assert "rows read as: plain text" in out
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert table[0].startswith(
        f"| variant | own {text}: cross-entropy | own {text}: KL from the unedited adapter |"
    )
    assert f"guard {rows}: exact match |" in table[0]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| random 0"]
    assert {line.count("|") for line in table} == {table[0].count("|")}
    key = out.rsplit("kept as group ", 1)[1].strip()
    assert asked("runs", key)[1].splitlines()[1:] == [*table, f"kept as group {key}"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--text", "none.txt"], "no file at 'none.txt'"),
        (["--text", "demo:text", "--data", "rows.jsonl"], "rows and a text were asked for"),
        (["--window", "3"], "--window is for plain text"),
        (["--text", "demo:text", "--window", "4", "--stride", "4"], "windows of 4 tokens every 4"),
        (["--text", "demo:text", "--divergence"], "--divergence is for rows"),
        (["--text", "demo:text", "--guard", "demo:text"], "names no question"),
        (["--text", "demo:text", "--window", "1000"], "positions for"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(asked, more, said):
    code, out, errors = asked("evaluate", *more)
    assert (code, out) == (2, "")
    assert len(errors) == 1
    assert said in errors[0]
