"""What an export writes, compared byte by byte and as updates, and what it leaves behind when it fails."""

import importlib
import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from surgery.adapter import Adapter, open_adapter
from surgery.edits import Edit, ModuleEdit, make_edit
from surgery.errors import ExportError, SurgeryError
from surgery.export import export, write_back
from surgery.policies import Identity, Rank
from surgery.spectra import decompose
from tests.surgery.export.conftest import DTYPES, EPS, random_edit, update

# the package names the function `export` after its module, so the module needs asking for
export_module = importlib.import_module("surgery.export.folder")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def entries(folder: Path) -> tuple[dict, dict[str, tuple[str, list[int], bytes]]]:
    """Metadata and every tensor's dtype, shape and bytes, read without any library."""
    raw = (folder / WEIGHTS).read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:end])
    metadata = header.pop("__metadata__", {})
    return metadata, {
        key: (entry["dtype"], entry["shape"], raw[end:][slice(*entry["data_offsets"])])
        for key, entry in header.items()
    }


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def opened(small_adapter):
    adapter = open_adapter(small_adapter)
    return adapter, decompose(adapter)


@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_edit_is_byte_equal(dtype, lora_tensors, write_adapter, tmp_path):
    tensors = lora_tensors({"layers.0.o_proj": (9, 4, 7), "layers.0.q_proj": (3, 4, 2)}, dtype)
    source = write_adapter(tensors)
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    for energy in ("l1", "l2", "none"):
        edit = make_edit(spectra, Identity(), scope="all", energy=energy)
        assert write_back(adapter, spectra, edit) == {}
        report = export(adapter, spectra, edit, tmp_path / energy)
        assert (report.edited, report.untouched, report.rounding) == (0, 4, 0.0)
        assert entries(tmp_path / energy) == entries(source)
        assert (tmp_path / energy / CONFIG).read_bytes() == (source / CONFIG).read_bytes()
        assert open_adapter(tmp_path / energy).digest == adapter.digest


@given(
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(9, 4, 7), (12, 2, 3), (16, 6, 16)]),
    energy=st.sampled_from(["l1", "l2", "none"]),
)
def test_only_the_b_of_edited_modules_changes_and_everything_else_stays_byte_equal(
    dtype, seed, shape, energy, lora_tensors, write_adapter, tmp_path_factory
):
    names = {"layers.0.o_proj": shape, "layers.0.q_proj": (5, shape[1], 4), "layers.1.o_proj": shape}
    tensors = lora_tensors(names, dtype, seed=seed)
    tensors["base_model.model.lm_head.bias"] = np.arange(3)
    source = write_adapter(tensors, r=shape[1])
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    target = tmp_path_factory.mktemp("export") / "out"
    edit = random_edit(spectra, energy=energy, noise_frac=0.5)
    report = export(adapter, spectra, edit, target)
    (metadata, before), (metadata_after, after) = entries(source), entries(target)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {f"base_model.model.layers.{i}.o_proj.lora_B.weight" for i in (0, 1)}
    assert (report.folder, report.edited, report.untouched) == (target, 2, 5)
    assert metadata_after == metadata == {"format": "pt"}
    assert list(after) == list(before)
    assert all(after[key][:2] == before[key][:2] for key in before)
    assert (target / CONFIG).read_bytes() == (source / CONFIG).read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_decomposing_the_export_finds_the_same_directions(dtype, write_adapter, tmp_path):
    rng = np.random.default_rng(0)
    U, _ = np.linalg.qr(rng.standard_normal((20, 4)))
    V, _ = np.linalg.qr(rng.standard_normal((16, 4)))
    # well apart, and in the same order after the edit: only then are the directions determined
    sigma, gains = np.array([8.0, 4.0, 2.0, 1.0]), np.array([1.5, 1.0, 1.2, 0.5])
    tensors = {
        "base_model.model.o_proj.lora_B.weight": (U * sigma).astype(dtype),
        "base_model.model.o_proj.lora_A.weight": np.ascontiguousarray(V.T).astype(dtype),
    }
    adapter = open_adapter(write_adapter(tensors, lora_alpha=4))
    spectra = decompose(adapter)
    before = spectra["o_proj"]
    edit = Edit({"o_proj": ModuleEdit(gains, before.sigma, gains * before.sigma)})
    export(adapter, spectra, edit, tmp_path / "out")
    after = decompose(open_adapter(tmp_path / "out"))["o_proj"]
    allowed = 1e-13 + 8 * EPS[dtype]
    assert after.sigma == pytest.approx(gains * before.sigma, rel=allowed)
    for name in ("U", "V"):
        cosines = (getattr(before, name) * getattr(after, name)).sum(axis=0)
        assert cosines == pytest.approx(np.ones(4), abs=allowed)


def test_peft_loads_the_export_and_computes_the_edited_update(lora_tensors, write_adapter, tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.o_proj = torch.nn.Linear(11, 14)

    tensors = lora_tensors({"o_proj": (14, 4, 11)})
    source = write_adapter(tensors, target_modules=["o_proj"], base_model_name_or_path=None, task_type=None)
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    edit = random_edit(spectra)
    export(adapter, spectra, edit, tmp_path / "out")
    loaded = peft.PeftModel.from_pretrained(Model(), str(tmp_path / "out"))
    delta = loaded.base_model.model.o_proj.get_delta_weight("default").detach().numpy()
    spectrum = spectra["o_proj"]
    expected = spectrum.U * edit.modules["o_proj"].sigma_after @ spectrum.V.T
    assert np.abs(delta - expected).max() <= 1e-6 * np.abs(expected).max()


def test_tensors_of_any_kind_travel_untouched(lora_tensors, write_adapter, tmp_path):
    extra = {
        "flag": np.array([True, False]),
        "steps": np.arange(5, dtype=np.int64),
        "bytes": np.arange(7, dtype=np.uint8),
        "scalar": np.array(3.5, np.float64),
        "nothing": np.zeros((0, 3), np.float32),
        "half": np.array([1.5, np.nan, -0.0], np.float16),
        "brain": np.array([1.5, np.inf], bfloat16),
    }
    source = write_adapter({**lora_tensors({"o_proj": (6, 4, 5)}), **extra})
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    report = export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    before, after = entries(source)[1], entries(tmp_path / "out")[1]
    assert report.untouched == len(extra) + 1
    assert {key: after[key] for key in extra} == {key: before[key] for key in extra}


def test_a_file_without_metadata_or_in_another_order_is_exported_as_it_came(lora_tensors, write_adapter, tmp_path):
    tensors = lora_tensors({"layers.0.o_proj": (6, 4, 5), "layers.1.o_proj": (6, 4, 5)})
    header, data = {}, b""
    for key in sorted(tensors, reverse=True):
        header[key] = {
            "dtype": "F32",
            "shape": list(tensors[key].shape),
            "data_offsets": [len(data), len(data) + 80 + 16 * ("lora_B" in key)],
        }
        data += tensors[key].tobytes()
    head = json.dumps(header).encode()
    folder = write_adapter(raw_weights=struct.pack("<Q", len(head)) + head + data, target_modules=["o_proj"])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    report = export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    metadata, after = entries(tmp_path / "out")
    assert (report.edited, report.untouched) == (2, 2)
    assert metadata == {}
    assert all(after[key][2] == tensors[key].tobytes() for key in tensors if "lora_A" in key)


def test_exporting_twice_gives_the_same_bytes(opened, tmp_path):
    adapter, spectra = opened
    documents = {"recipe.yaml": "recipe: 1\n", "README.md": "σ′\n"}
    for name in ("one", "two"):
        export(adapter, spectra, random_edit(spectra), tmp_path / name, documents=documents)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert set(tree(tmp_path / "one")) == {CONFIG, WEIGHTS, "recipe.yaml", "README.md"}
    assert (tmp_path / "one" / "README.md").read_text(encoding="utf-8") == "σ′\n"


def test_the_folder_and_its_files_can_be_read_by_others(opened, tmp_path):
    adapter, spectra = opened
    export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {0o644}


def test_a_zeroed_component_is_gone_from_the_written_update(lora_tensors, write_adapter, tmp_path):
    adapter = open_adapter(write_adapter(lora_tensors({"o_proj": (14, 4, 11)})))
    spectra = decompose(adapter)
    for keep in (0, 1, 3):
        edit = make_edit(spectra, Rank(keep=keep), energy="none")
        export(adapter, spectra, edit, tmp_path / str(keep))
        found = np.linalg.svd(update(open_adapter(tmp_path / str(keep)).modules["o_proj"]), compute_uv=False)
        assert (found > 1e-6 * spectra["o_proj"].sigma[0]).sum() == keep


def test_an_existing_folder_stays_as_it_is(opened, tmp_path):
    adapter, spectra = opened
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(ExportError, match="exists"):
        export(adapter, spectra, random_edit(spectra), target)
    assert tree(tmp_path) == {"out/mine.txt": b"keep"}


def test_a_file_in_the_way_stays_as_it_is(opened, tmp_path):
    adapter, spectra = opened
    (tmp_path / "out").write_text("keep")
    for target in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(ExportError):
            export(adapter, spectra, random_edit(spectra), target)
    assert tree(tmp_path) == {"out": b"keep"}


def test_the_folder_of_the_original_is_never_written_to(opened, small_adapter):
    adapter, spectra = opened
    before = tree(small_adapter)
    with pytest.raises(ExportError, match="exists"):
        export(adapter, spectra, random_edit(spectra), small_adapter)
    assert tree(small_adapter) == before


def test_an_empty_folder_and_new_parents_are_used(opened, tmp_path, monkeypatch):
    adapter, spectra = opened
    (tmp_path / "empty").mkdir()
    export(adapter, spectra, random_edit(spectra), tmp_path / "empty")
    export(adapter, spectra, random_edit(spectra), tmp_path / "new" / "deeper")
    monkeypatch.chdir(tmp_path)
    export(adapter, spectra, random_edit(spectra), "relative")
    assert tree(tmp_path / "empty") == tree(tmp_path / "new" / "deeper") == tree(tmp_path / "relative")
    assert sorted(os.listdir(tmp_path)) == ["empty", "new", "relative"]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250, "~no-such-user-here/out"])
def test_a_path_that_cannot_be_made_is_refused_on_one_line(name, opened, tmp_path, monkeypatch):
    adapter, spectra = opened
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError) as caught:
        export(adapter, spectra, random_edit(spectra), name)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def stops(where, fault, monkeypatch) -> None:
    """Let the export's own `where` raise `fault`; a write fails only after its file is there."""
    real = getattr(export_module, where)

    def fails(*args, **options):
        if where == "save_file":
            real(*args, **options)
        raise fault

    monkeypatch.setattr(export_module, where, fails)


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (OSError(28, "No space left on device"), ExportError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
    ],
    ids=["full", "interrupted", "memory"],
)
@pytest.mark.parametrize("where", ["save_file", "_read_back", "flush"])
def test_an_export_that_stops_half_way_leaves_nothing_behind(where, fault, raised, opened, tmp_path, monkeypatch):
    adapter, spectra = opened
    stops(where, fault, monkeypatch)
    with pytest.raises(raised):
        export(adapter, spectra, random_edit(spectra), tmp_path / "out", documents={"README.md": "text"})
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("where", ["save_file", "_read_back"])
def test_an_export_that_stops_half_way_leaves_no_new_parent_folders(where, opened, tmp_path, monkeypatch):
    adapter, spectra = opened
    (tmp_path / "old").mkdir()
    stops(where, OSError(28, "No space left on device"), monkeypatch)
    for target in (tmp_path / "new" / "deeper" / "out", tmp_path / "old" / "out"):
        with pytest.raises(ExportError):
            export(adapter, spectra, random_edit(spectra), target)
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_a_half_written_export_over_an_empty_folder_leaves_it_empty(opened, tmp_path, monkeypatch):
    adapter, spectra = opened
    (tmp_path / "out").mkdir()
    stops("save_file", OSError(28, "No space left on device"), monkeypatch)
    with pytest.raises(ExportError, match="No space left"):
        export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def _flip(folder: Path, key: str) -> None:
    """Change the lowest bit of the first number of `key`."""
    file = folder / WEIGHTS
    raw = bytearray(file.read_bytes())
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    raw[end + json.loads(raw[8:end])[key]["data_offsets"][0]] ^= 1
    file.write_bytes(bytes(raw))


def _overwrite(folder: Path, key: str, number: float) -> None:
    file = folder / WEIGHTS
    raw = bytearray(file.read_bytes())
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    begin = end + json.loads(raw[8:end])[key]["data_offsets"][0]
    raw[begin : begin + 4] = struct.pack("<f", number)
    file.write_bytes(bytes(raw))


O0 = "base_model.model.model.layers.0.self_attn.o_proj"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _flip(folder, f"{O0}.lora_A.weight"),
        lambda folder: _flip(folder, "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"),
        lambda folder: _overwrite(folder, f"{O0}.lora_B.weight", 7.0),
        lambda folder: _overwrite(folder, f"{O0}.lora_B.weight", math.nan),
        lambda folder: (folder / CONFIG).write_bytes((folder / CONFIG).read_bytes() + b"\n"),
        lambda folder: (folder / WEIGHTS).unlink(),
        lambda folder: (folder / WEIGHTS).write_bytes(b""),
    ],
    ids=["factor-A", "outside-scope", "wrong-B", "nan", "config", "missing", "empty"],
)
def test_a_written_folder_that_differs_is_found_by_reading_it_back(damage, opened, tmp_path, monkeypatch):
    adapter, spectra = opened
    read_back = export_module._read_back

    def of_damaged(adapter: Adapter, folder: Path) -> Adapter:
        damage(folder)
        return read_back(adapter, folder)

    monkeypatch.setattr(export_module, "_read_back", of_damaged)
    with pytest.raises(ExportError):
        export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_spectra_of_another_adapter_of_the_same_shapes_are_refused(lora_tensors, write_adapter, tmp_path):
    # the bytes would read back as written, but the update would not be U·diag(σ′)·Vᵀ
    mine, other = (
        open_adapter(write_adapter(lora_tensors({"o_proj": (14, 4, 11)}, seed=seed))) for seed in (0, 1)
    )
    spectra = decompose(other)
    with pytest.raises(SurgeryError):
        export(mine, spectra, random_edit(spectra), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
