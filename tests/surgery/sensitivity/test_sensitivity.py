"""Sensitivities against finite differences and dense gradients, and that batching cannot be seen in them."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from surgery.data import Encoding
from surgery.errors import DataError
from surgery.sensitivity import (
    Provenance,
    Sensitivity,
    load_sensitivity,
    save_sensitivity,
)
from tests.helpers.models import (
    relative,
)
from tests.helpers.rounding import assert_losses, sensitivities_apart
from tests.surgery.sensitivity.conftest import EXAMPLES, measure


def random_measurement() -> Sensitivity:
    rng = np.random.default_rng(0)
    provenance = Provenance(
        "adapter", "base", "examples", Encoding("plain", False, True, 77), ("a", "b"), "float32"
    )
    return Sensitivity(
        {"a": rng.normal(size=(7, 3)), "b": rng.normal(size=(7, 5))}, rng.normal(size=7), provenance
    )


def test_provenance_keys_differ_whenever_the_measurement_would():
    provenance = random_measurement().provenance
    changed = [
        replace(provenance, adapter="other"),
        replace(provenance, base="other"),
        replace(provenance, examples="other"),
        replace(provenance, encoding=Encoding()),
        replace(provenance, scope=("a",)),
        replace(provenance, dtype="bfloat16"),
    ]
    assert len({p.key for p in [provenance, *changed]}) == 7
    assert replace(provenance).key == provenance.key


def test_statistics_equal_a_direct_recomputation():
    measured = random_measurement()
    found = measured.statistics("a")
    g = measured.values["a"]
    for k in range(g.shape[1]):
        column = [float(value) for value in g[:, k]]
        mean = sum(column) / 7
        magnitude = sum(abs(value) for value in column) / 7
        spread = sum((value - mean) ** 2 for value in column) / 6
        spread_of_magnitude = sum((abs(value) - magnitude) ** 2 for value in column) / 6
        assert found.mean[k] == pytest.approx(mean)
        assert found.magnitude[k] == pytest.approx(magnitude)
        assert found.mean_error[k] == pytest.approx((spread / 7) ** 0.5)
        assert found.magnitude_error[k] == pytest.approx((spread_of_magnitude / 7) ** 0.5)
        assert found.agreement[k] == pytest.approx(sum((value > 0) == (mean > 0) for value in column) / 7)


def test_one_example_has_no_standard_error():
    found = random_measurement().head(1).statistics("b")
    assert np.isnan(found.mean_error).all()
    assert np.isnan(found.magnitude_error).all()
    assert np.isfinite(found.mean).all()


def test_the_head_of_a_measurement_is_the_measurement_of_the_head(live):
    head = measure(live).head(4)
    expected = measure(live, EXAMPLES[:4])
    assert head.examples == 4
    assert_losses(head.losses, expected.losses, live.model)
    for name, g in expected.values.items():
        assert relative(head.values[name], g) < sensitivities_apart(live.model)


@pytest.mark.parametrize("count", [-1, 0, 8])
def test_a_head_longer_than_the_measurement_or_empty_is_refused(count):
    with pytest.raises(DataError, match="of 7"):
        random_measurement().head(count)


def test_a_saved_measurement_loads_as_it_was(tmp_path):
    measured = random_measurement()
    save_sensitivity(measured, tmp_path / "deep" / "g.safetensors")
    loaded = load_sensitivity(tmp_path / "deep" / "g.safetensors")
    assert loaded.provenance == measured.provenance
    assert loaded.provenance.key == measured.provenance.key
    assert list(loaded.values) == ["a", "b"]
    np.testing.assert_array_equal(loaded.losses, measured.losses)
    for name, g in measured.values.items():
        assert loaded.values[name].dtype == np.float64
        np.testing.assert_array_equal(loaded.values[name], g)


def test_numbers_are_stored_in_half_the_size_where_that_loses_no_bit(tmp_path):
    narrow = np.array([[0.1, -0.0], [np.nan, -np.inf], [1e-45, 3.4e38]], dtype=np.float32).astype(np.float64)
    wide = [np.array([[0.1], [0.0], [0.0]]), np.array([[1e300], [1.0], [1.0]]), np.array([[1e-300], [1.0], [1.0]])]
    values = dict(zip("abcd", [narrow, *wide], strict=True))
    file = tmp_path / "g.safetensors"
    save_sensitivity(replace(random_measurement(), values=values, losses=np.float64([1.0, 0.5, 2.0])), file)
    with safe_open(str(file), framework="np") as handle:
        stored = {name: handle.get_slice(name).get_dtype() for name in sorted(handle.keys())}
    assert stored == {"g.0": "F32", "g.1": "F64", "g.2": "F64", "g.3": "F64", "losses": "F32"}
    for name, g in load_sensitivity(file).values.items():
        assert g.tobytes() == values[name].tobytes(), name


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    measured = random_measurement()
    save_sensitivity(measured, tmp_path / "g.safetensors")
    save_sensitivity(measured.head(2), tmp_path / "g.safetensors")
    assert load_sensitivity(tmp_path / "g.safetensors").examples == 2
    assert [file.name for file in tmp_path.iterdir()] == ["g.safetensors"]


def test_a_measurement_that_cannot_be_saved_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        save_sensitivity(random_measurement(), tmp_path / "taken")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def other_files(folder):
    good = folder / "good"
    save_sensitivity(random_measurement(), good)
    save_file({"losses": np.ones(3)}, folder / "unmarked")
    save_file({"losses": np.ones(3)}, folder / "bare", metadata={"format": "surgery-sensitivity-1"})
    save_file(
        {"losses": np.ones(3)},
        folder / "odd",
        metadata={"format": "surgery-sensitivity-1", "names": "[]", "provenance": '["no mapping"]'},
    )
    (folder / "text").write_text("not a measurement")
    (folder / "empty").touch()
    (folder / "torn").write_bytes(good.read_bytes()[:-20])
    (folder / "folder").mkdir()


@pytest.mark.parametrize("name", ["unmarked", "bare", "odd", "text", "empty", "torn", "folder", "missing"])
def test_a_file_that_is_no_measurement_is_refused_in_one_line(tmp_path, name):
    other_files(tmp_path)
    with pytest.raises(DataError) as caught:
        load_sensitivity(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1
