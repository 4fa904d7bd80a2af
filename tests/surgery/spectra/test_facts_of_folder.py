"""Many adapters below one folder, some of them broken, read in one process and in several."""

import json
import shutil
import sys
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from surgery.cli import main
from surgery.errors import DataError
from surgery.progress import Control
from surgery.spectra import AdapterRow, adapter_folders, energy_at, inspect_many, inspect_one, write_parquet
from surgery.spectra import facts_of_folder as module
from tests.helpers.deadly import DEADLY, deadly
from tests.helpers.limited_system import files_of_at_most
from tests.helpers.models import LLAMA_TARGETS, save_adapter, singular_triplets, tiny_llama
from tests.helpers.refusals import refusal


@pytest.fixture(autouse=True)
def plain_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page under test leaves its script as the main module, which a fresh process would run."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Three sound adapters at several depths, one of them zero, and four that are refused for a reason each."""
    root = tmp_path_factory.mktemp("many")
    save_adapter(tiny_llama(), root / "small", r=2)
    save_adapter(tiny_llama(), root / "deep" / "down" / "large", r=4, scale=0.6)
    save_adapter(tiny_llama(), root / "zero", scale=0.0)
    shutil.copytree(root / "small", root / "torn")
    weights = root / "torn" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copytree(root / "small", root / "no weights")
    (root / "no weights" / "adapter_model.safetensors").unlink()
    shutil.copytree(root / "small", root / "no config")
    (root / "no config" / "adapter_config.json").unlink()
    shutil.copytree(root / "small", root / "other kind")
    config = json.loads((root / "small" / "adapter_config.json").read_text())
    (root / "other kind" / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    (root / "notes").mkdir()
    (root / "notes" / "readme.txt").write_text("no adapter")
    return root


def test_every_adapter_is_a_row_and_every_refused_one_says_why(many):
    rows = {row.folder: row for row in inspect_many(many)}
    assert set(rows) == {"small", "deep/down/large", "zero", "torn", "no weights", "no config", "other kind"}
    refused = {name for name, row in rows.items() if row.refusal}
    assert refused == {"torn", "no weights", "no config", "other kind"}
    assert "dora" in rows["other kind"].refusal.lower()
    assert all("→" in rows[name].refusal and not rows[name].digest for name in refused)


def test_numbers_are_those_of_the_dense_update(many):
    row = inspect_one(many / "deep" / "down" / "large", many)
    triplets = singular_triplets(tiny_llama(), many / "deep" / "down" / "large")
    sigmas = [sigma.numpy() for _, sigma, _ in triplets.values()]
    energy = sum((sigma**2).sum() for sigma in sigmas)
    assert row.modules == 3 * len(LLAMA_TARGETS)
    assert row.ranks == (4,)
    assert row.norm == pytest.approx(np.sqrt(energy), rel=1e-5)
    assert row.top == pytest.approx(max(sigma[0] for sigma in sigmas), rel=1e-5)
    shares = [sum((sigma[:k] ** 2).sum() for sigma in sigmas) / energy for k in range(1, 5)]
    assert row.energy_shares == pytest.approx(shares, rel=1e-5)
    assert [energy_at(row.energy_shares, k) for k in (1, 4, 9)] == pytest.approx([shares[0], 1.0, 1.0], rel=1e-5)
    stable = [(sigma**2).sum() / sigma[0] ** 2 for sigma in sigmas]
    assert row.stable_rank == pytest.approx(np.mean(stable), rel=1e-5)
    assert 1 < row.effective_rank < 4


def test_an_update_of_zero_has_no_shape(many):
    row = inspect_one(many / "zero", many)
    assert (row.norm, row.top, row.refusal) == (0, 0, "")
    assert np.isnan([row.effective_rank, row.stable_rank, energy_at(row.energy_shares, 1)]).all()


def test_rows_are_sorted_by_base_and_norm_with_the_refused_last(many):
    rows = inspect_many(many)
    assert [row.folder for row in rows][:3] == ["deep/down/large", "small", "zero"]
    assert [bool(row.refusal) for row in rows] == [False] * 3 + [True] * 4


def test_several_processes_give_the_rows_of_one(many):
    told = []
    rows = inspect_many(many, workers=2, control=Control(progress=lambda *step: told.append(step)))
    assert repr(rows) == repr(inspect_many(many))
    assert told[-1] == (7, 7)


def test_an_adapter_that_brings_its_process_down_costs_its_own_row_alone(many, tmp_path, monkeypatch):
    shutil.copytree(many / "small", tmp_path / DEADLY)
    for number in range(5):
        shutil.copytree(many / "small", tmp_path / f"fine {number}")
    monkeypatch.setattr(module, "inspect_one", deadly)
    monkeypatch.setattr(module, "_AHEAD", 1)
    rows = {row.folder: row for row in inspect_many(tmp_path, workers=2)}
    assert len(rows) == 6
    assert {name for name, row in rows.items() if row.refusal} == {DEADLY}
    assert "died" in rows[DEADLY].refusal


def test_the_parquet_file_holds_the_rows(many, tmp_path):
    rows = inspect_many(many)
    table = pq.read_table(write_parquet(rows, tmp_path / "rows.parquet"))
    assert table.num_rows == 7
    first = AdapterRow(**table.to_pylist()[0])
    assert (first.folder, first.norm, list(first.ranks)) == (rows[0].folder, rows[0].norm, [4])
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.parquet"]


def test_a_folder_without_adapters_and_a_file_that_cannot_be_written_are_refused(many, tmp_path):
    refusal(DataError, adapter_folders, tmp_path)
    refusal(DataError, adapter_folders, tmp_path / "nowhere")
    refusal(DataError, write_parquet, [], tmp_path / "nowhere" / "rows.parquet")


def test_a_write_that_breaks_off_leaves_the_file_that_was_there(many, tmp_path):
    file = write_parquet([], tmp_path / "rows.parquet")
    before = file.read_bytes()
    with files_of_at_most(200):
        refusal(DataError, write_parquet, inspect_many(many), file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_prints_a_table_or_json_and_writes_the_file(many, tmp_path, capsys):
    out = tmp_path / "rows.parquet"
    assert main(["inspect", "--many", str(many), "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["adapters"], record["refused"], len(record["rows"])) == (7, 4, 7)
    assert out.is_file()
    assert main(["inspect", "--many", str(many)]) == 0
    assert "7 adapters, 4 refused" in capsys.readouterr().out
    assert main(["inspect"]) == 2
    assert main(["inspect", "demo:kinship", "--many", str(many)]) == 2
