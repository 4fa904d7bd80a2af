"""`surgery resize`, and what `inspect` says that a cut would save."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.data import Encoding
from surgery.edits import EditPlan, activation_cuts
from surgery.export import Smaller, edited_layout, read_record
from surgery.policies import Rank
from surgery.sensitivity import InputMoments, Provenance, Sensitivity, save_sensitivity
from surgery.spectra import decompose
from tests.surgery.export.conftest import update


@pytest.fixture
def inputs(small_adapter: Path) -> InputMoments:
    """Second moments of directions that vary together, of every module."""
    roots = np.random.default_rng(5).standard_normal((6, 4, 4)) * [3.0, 0.1, 1.0, 0.2]
    sums = {name: root.T @ root for name, root in zip(open_adapter(small_adapter).modules, roots, strict=True)}
    return InputMoments(sums, sums, {"prompt": 1, "answer": 1})


@pytest.fixture
def measured(small_adapter: Path, inputs: InputMoments, tmp_path: Path) -> Path:
    adapter = open_adapter(small_adapter)
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal((3, 4)) for name in adapter.modules}
    provenance = Provenance(adapter.digest, "base", "examples", Encoding(), tuple(values), "float32")
    save_sensitivity(Sensitivity(values, np.ones(3), provenance, inputs=inputs), tmp_path / "measured.safetensors")
    return tmp_path / "measured.safetensors"


CUTS = {
    "to-rank": (["--to-rank", "2"], Rank(keep=2)),
    "energy": (["--keep-energy", "0.7"], Rank(cut="energy", share=0.7)),
    "para": (["--para", "0.7"], Rank(cut="para", share=0.7)),
    "effective": (["--effective"], Rank(cut="effective")),
    "knee": (["--knee"], Rank(cut="knee")),
}


@pytest.mark.parametrize("by", ["sigma", "functional", "gradient", "sensitivity"])
@pytest.mark.parametrize("cut", CUTS)
def test_it_writes_the_cut_that_it_names_and_says_what_it_kept(cut, by, small_adapter, measured, tmp_path, ok):
    words, policy = CUTS[cut]
    read = [] if by == "sigma" else ["--sensitivities", str(measured)]
    record = ok("resize", str(small_adapter), *words, "--by", by, *read, "-o", str(tmp_path / "out"), "--json")
    adapter, written = open_adapter(small_adapter), open_adapter(tmp_path / "out")
    plan = read_record(tmp_path / "out").edit
    assert (plan.policy, plan.scope) == (replace(policy, by=by), "all")
    kept = {name: each["kept"] for name, each in record["kept"]["modules"].items()}
    assert {name: factors.rank for name, factors in written.modules.items()} == {
        name: rank for name, rank in record["ranks"].items() if rank
    }
    assert {name: rank for name, rank in record["ranks"].items() if name not in record["zeros"]} == {
        name: rank for name, rank in kept.items() if name not in record["zeros"]
    }
    assert record["parameters"] == sum(factors.parameters for factors in written.modules.values())
    assert record["bytes_before"] == sum(4 * factors.parameters for factors in adapter.modules.values())
    text = ok("resize", str(small_adapter), *words, "--by", by, *read, "-o", str(tmp_path / "told"))
    assert f"→ {record['parameters']:,} parameters" in text
    assert "vLLM takes it from --max-lora-rank" in text


@pytest.mark.parametrize(("pad", "rank"), [(["--pad"], 2), (["--pad", "8"], 8)])
def test_padded_it_has_one_rank(pad, rank, small_adapter, tmp_path, ok):
    out = str(tmp_path / "out")
    record = ok("resize", str(small_adapter), "--to-rank", "2", *pad, "--scope", "all", "--out", out, "--json")
    assert set(record["ranks"].values()) == {rank}
    assert record["padded"]
    assert {factors.rank for factors in open_adapter(tmp_path / "out").modules.values()} == {rank}


def test_an_activation_aware_cut_is_written_as_an_adapter_of_its_own(
    small_adapter, inputs, measured, tmp_path, ok
):
    words = ["--para", "0.9", "--by", "activation", "--sensitivities", str(measured), "--json"]
    record = ok("resize", str(small_adapter), *words, "-o", str(tmp_path / "out"))
    assert any("adapter of its own" in note for note in record["notes"])
    assert read_record(tmp_path / "out").measured["directions"] == "turned by an activation-aware cut"
    adapter = open_adapter(small_adapter)
    written = open_adapter(tmp_path / "out").modules
    cut, _ = activation_cuts(decompose(adapter), inputs, Rank(cut="para", share=0.9), adapter.modules)
    assert {name: part.rank for name, part in cut.items() if part.rank} == {
        name: written[name].rank for name in cut if name in written
    }
    for name, part in cut.items():
        if part.rank:
            exact = part.U * part.sigma @ part.V.T
            assert np.abs(update(written[name]) - exact).max() <= 1e-6 * np.linalg.norm(exact)


def test_what_cannot_be_cut_is_refused_and_nothing_is_written(small_adapter, measured, tmp_path, fails):
    out = ["-o", str(tmp_path / "out")]
    for words, said in [
        (["--para", "1.5"], "share cannot be 1.5"),
        (["--to-rank", "300"], "keep cannot be 300"),
        ([], "required"),
        (["--para", "0.9", "--knee"], "not allowed"),
        (["--para", "0.9", "--by", "functional"], "surgery calibrate"),
        (["--para", "0.9", "--by", "activation"], "surgery calibrate"),
        (["--to-rank", "3", "--pad", "2"], "pad to 3 or more"),
        (["--para", "0.9", "--scope", "nothing"], "scope"),
    ]:
        assert said in fails("resize", str(small_adapter), *words, *out)
    assert not (tmp_path / "out").exists()


def test_inspect_says_what_a_cut_at_three_shares_would_save(small_adapter, ok):
    adapter = open_adapter(small_adapter)
    record = ok("inspect", str(small_adapter), "--json")
    assert [cut["share"] for cut in record["cuts"]] == [0.9, 0.95, 0.99]
    for cut in record["cuts"]:
        edit = EditPlan(Rank(cut="para", share=cut["share"]), "all").apply(decompose(adapter), None)
        ragged, padded = (edited_layout(adapter, edit, Smaller(pad)) for pad in (None, 0))
        assert (cut["parameters"], cut["bytes"], cut["saved"]) == (ragged.parameters, ragged.bytes, ragged.saved)
        assert (cut["padded_bytes"], cut["largest_rank"]) == (padded.bytes, padded.largest)
    text = ok("inspect", str(small_adapter))
    assert f"a cut at 95% of all σ² saves {record['cuts'][1]['saved']:.1%}" in text
