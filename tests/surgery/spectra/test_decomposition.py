"""Decompositions of many modules at once, whose bases are made when they are asked for."""

import gc
import pickle
import tracemalloc
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from surgery.adapter import Factors, Site, open_adapter
from surgery.spectra import decompose, decomposition

SHAPES = [(6, 4, 5), (5, 4, 6), (9, 4, 5), (3, 4, 7), (8, 2, 8), (40, 33, 36), (2, 8, 3)]
DTYPES = ["float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"]


def modules(dtype: str) -> list[Factors]:
    rng = np.random.default_rng(0)
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    found = []
    for i, (out, rank, into) in enumerate(3 * SHAPES):
        B, A = (rng.standard_normal(shape).astype(kind) for shape in ((out, rank), (rank, into)))
        found.append(Factors(f"m{i}", i, "m", 0.5 + i, B, A, "B", "A", Site("m")))
    return found


def adapter_of(lora_tensors, write_adapter, count: int):
    names = {f"model.layers.{i}.o_proj": (24, 4, 16) for i in range(count)}
    return open_adapter(write_adapter(lora_tensors(names)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_modules_of_many_shapes_at_once_are_their_dense_decompositions(dtype, monkeypatch):
    monkeypatch.setattr(decomposition, "_AT_ONCE", 5)
    several = {factors.name: factors for factors in modules(dtype)}
    spectra = decompose(SimpleNamespace(modules=several))
    for name, factors in several.items():
        spectrum = spectra[name]
        dense = factors.scaling * factors.B.astype(np.float64) @ factors.A.astype(np.float64)
        size, k = np.linalg.norm(dense, 2), spectrum.rank
        assert np.abs(spectrum.sigma - np.linalg.svd(dense, compute_uv=False)[:k]).max() <= 1e-13 * size
        assert np.abs(spectrum.U * spectrum.sigma @ spectrum.V.T - dense).max() <= 1e-13 * size
        for basis in (spectrum.U, spectrum.V):
            assert np.abs(basis.T @ basis - np.eye(k)).max() <= 1e-13
        assert spectrum.shape == dense.shape
        assert (np.sign(spectrum.U[np.abs(spectrum.U).argmax(axis=0), np.arange(k)]) == 1).all()


def test_bases_that_are_made_again_have_the_same_bits_in_any_order(lora_tensors, write_adapter, monkeypatch):
    adapter = adapter_of(lora_tensors, write_adapter, 12)
    kept = decompose(adapter)
    expected = {name: (spectrum.U.tobytes(), spectrum.V.tobytes()) for name, spectrum in kept.items()}
    monkeypatch.setattr(decomposition, "_ALL_KEPT", 0)
    monkeypatch.setattr(decomposition, "_SOME_KEPT", 0)
    again = decompose(adapter)
    for name in reversed(again):
        assert again[name].V.tobytes() == expected[name][1]
        assert again[name].U.tobytes() == expected[name][0]
        assert again[name].U is not kept[name].U


def test_bases_of_an_adapter_that_fits_are_made_once(lora_tensors, write_adapter):
    spectra = decompose(adapter_of(lora_tensors, write_adapter, 3))
    first = {name: (spectrum.U, spectrum.V) for name, spectrum in spectra.items()}
    assert all(spectra[name].U is U and spectra[name].V is V for name, (U, V) in first.items())


def test_bases_of_a_large_adapter_do_not_stay_in_memory(lora_tensors, write_adapter, monkeypatch):
    adapter = adapter_of(lora_tensors, write_adapter, 200)
    monkeypatch.setattr(decomposition, "_ALL_KEPT", 0)
    monkeypatch.setattr(decomposition, "_SOME_KEPT", 10_000)
    spectra = decompose(adapter)
    gc.collect()
    tracemalloc.start()
    for spectrum in spectra.values():
        assert spectrum.U.shape[0] == 24
        assert spectrum.V.shape[0] == 16
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # all of them are 200 · 8 · 4 · 40 bytes
    assert left < 100_000


def test_a_spectrum_knows_its_own_factors_and_no_others(lora_tensors, write_adapter):
    adapter = adapter_of(lora_tensors, write_adapter, 2)
    spectra = decompose(adapter)
    first, second = adapter.modules
    assert spectra[first].is_of(adapter.modules[first])
    assert not spectra[first].is_of(adapter.modules[second])


def test_a_spectrum_goes_to_another_process(lora_tensors, write_adapter):
    (spectrum,) = decompose(adapter_of(lora_tensors, write_adapter, 1)).values()
    there = pickle.loads(pickle.dumps(spectrum))
    assert there.U.tobytes() == spectrum.U.tobytes()
    assert there.V.tobytes() == spectrum.V.tobytes()
