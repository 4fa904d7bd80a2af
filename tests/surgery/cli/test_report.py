"""`surgery report`: the file that it writes, and one line where it cannot."""

import pytest

from surgery.runs import known_runs


@pytest.fixture
def shipped():
    return next(run for run in known_runs() if run.plan.adapter == "demo:kinship")


def test_a_run_is_written_as_one_file_whose_size_is_told(ok, shipped, tmp_path, monkeypatch):
    file = tmp_path / "proof.html"
    told = ok("report", shipped.plan.key, "--out", str(file), "--json")
    assert told == {"run": shipped.plan.key, "out": str(file), "bytes": file.stat().st_size}
    text = file.read_text(encoding="utf-8")
    assert "<title>Proof of demo:kinship on demo:kinship/test</title>" in text
    assert "The edit: loss lower." in text
    # without a name it lies beside what is there, named after the run
    monkeypatch.chdir(tmp_path)
    assert ok("report", shipped.plan.key).startswith(f"wrote {shipped.plan.key}.html, ")
    assert (tmp_path / f"{shipped.plan.key}.html").read_bytes() == file.read_bytes()


def test_what_cannot_be_written_or_found_is_one_line(fails, shipped, tmp_path):
    assert "there is no run 'none'" in fails("report", "none")
    assert "cannot be written" in fails("report", shipped.plan.key, "--out", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
