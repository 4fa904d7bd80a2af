"""`surgery microscope`, from a measurement to its lines, its record and its CSV."""

import csv
import json

import pytest

from surgery.cli import main
from surgery.sensitivity import load_sensitivity
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.surgery.cli.conftest import strict

NAME = "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An adapter, the file that `surgery calibrate` wrote of it, and the home it was measured in."""
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(4) for b in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--base", str(folder / "base"), "--data", str(folder / "rows.jsonl"), "--examples", "12"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SURGERY_HOME", str(folder / "home"))
        assert main(["calibrate", str(folder / "adapter"), *words, "--out", str(folder / "g.safetensors")]) == 0
    return folder


@pytest.fixture
def measured(made, monkeypatch, capsys):
    monkeypatch.setenv("SURGERY_HOME", str(made / "home"))
    capsys.readouterr()
    return made / "adapter", made / "g.safetensors"


def test_shares_add_up_to_the_measurements_g_and_a_second_look_needs_no_base(
    measured, tmp_path, capsys, monkeypatch
):
    adapter, file = measured
    words = ["microscope", str(adapter), "--module", NAME, "--component", "1", "--rows", "2"]
    out = tmp_path / "shares.csv"
    assert main([*words, "--sensitivities", str(file), "--out", str(out), "--json"]) == 0
    record = strict(capsys.readouterr().out)
    g = load_sensitivity(file).values[NAME][:, 1]
    assert record["rows"][0]["row"] == int(g.argmax()) + 1
    for row in record["rows"]:
        assert row["g"] == g[row["row"] - 1]
        assert sum(token["share"] for token in row["tokens"]) == pytest.approx(row["g"], rel=1e-3)
    with out.open(encoding="utf-8", newline="") as opened:
        table = list(csv.DictReader(opened))
    shares = [token["share"] for row in record["rows"] for token in row["tokens"]]
    assert [float(each["share"]) for each in table] == shares
    assert record["written"] == str(out)

    def attach(*_, **__):
        raise AssertionError("the base model was loaded although the look is stored")

    monkeypatch.setattr("surgery.cli.microscope.attach", attach)
    assert main(words) == 0  # the newest measurement is the same one
    text = capsys.readouterr().out
    assert f"{NAME}, component 1" in text
    assert f"row {int(g.argmax()) + 1}: g {g.max():+.4g}: " in text
    assert "+u raises (" in text
    assert "% of random directions less" in text


def test_what_cannot_be_looked_at_is_one_line(measured, tmp_path, capsys, fails):
    adapter, file = measured
    words = ["microscope", str(adapter), "--module", NAME, "--component", "9"]
    assert "has no component 9" in fails(*words)
    assert "'elsewhere' is not measured" in fails(*words[:2], "--module", "elsewhere", "--component", "0")
    assert "no whole measurement" in fails(*words, "--sensitivities", str(tmp_path / "rows.jsonl"))
    other = save_adapter(tiny_llama(), tmp_path / "other", seed=3)
    assert "nothing is measured" in fails("microscope", str(other), *words[2:])
    assert "no whole measurement" in fails("microscope", str(other), *words[2:], "--sensitivities", str(file))
