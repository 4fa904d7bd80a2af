"""Factors written back: rounded once, to the nearest number of their dtype."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from peft import PeftModel
from safetensors.torch import load_file, save_file

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.errors import ExportError
from surgery.export import export, round_to
from surgery.policies import Identity, RandomIndex, Scale
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, tiny_llama
from tests.surgery.export.conftest import DTYPES, EPS, random_edit, update

# mantissa bits with the hidden one, smallest and largest exponent of a normal number
FORMATS = {np.float16: (11, -14, 15), bfloat16: (8, -126, 127), np.float32: (24, -126, 127)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(14, 4, 11), (4, 8, 6), (11, 4, 14)])
def test_the_written_update_has_the_new_singular_values_in_the_old_directions(
    dtype, shape, lora_tensors, write_adapter, tmp_path
):
    out, rank, into = shape
    source = write_adapter(lora_tensors({"o_proj": shape}, dtype, seed=3), r=rank, lora_alpha=3, use_rslora=True)
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    edit = random_edit(spectra)
    report = export(adapter, spectra, edit, tmp_path / "out")
    found = update(open_adapter(tmp_path / "out").modules["o_proj"])
    U, _, Vt = np.linalg.svd(update(adapter.modules["o_proj"]))
    k = min(out, rank, into)
    after = edit.modules["o_proj"].sigma_after
    expected = U[:, :k] * after @ Vt[:k]
    assert np.linalg.norm(found - expected) <= 4 * EPS[dtype] * np.linalg.norm(expected) + 1e-14
    assert report.rounding == pytest.approx(
        np.linalg.norm(found - expected) / np.linalg.norm(expected), rel=0.01, abs=1e-14
    )


@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_small_weights_are_exported_whatever_their_dtype_can_hold(
    dtype, size, lora_tensors, write_adapter, tmp_path
):
    # float16 has fewer than eleven bits below 6e-5, and B is small after a short training
    tensors = lora_tensors({"o_proj": (32, 8, 24)}, "float64", scale=1.0)
    tensors["base_model.model.o_proj.lora_B.weight"] *= size
    adapter = open_adapter(write_adapter({key: t.astype(dtype) for key, t in tensors.items()}, r=8))
    spectra = decompose(adapter)
    report = export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    assert report.edited == 1


def test_an_edit_beyond_the_range_of_float16_is_refused_and_both_ways_out_arrive(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=["o_proj"])
    file = folder / "adapter_model.safetensors"
    sizes = {"A": 1e-4, "B": 8e4}
    halves = {key: tensor * sizes[key.split("lora_")[1][0]] for key, tensor in load_file(file).items()}
    save_file({key: tensor.half() for key, tensor in halves.items()}, file)
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Scale(gamma=4.0), energy="none")
    with pytest.raises(
        ExportError, match=r"new B of module 'model.*o_proj' reaches .*float16 ends at 65504"
    ) as told:
        export(adapter, spectra, edit, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [folder]
    assert "lower the gains of this module; or load the original with PeftModel.from_pretrained" in str(told.value)
    assert export(adapter, spectra, make_edit(spectra, Scale(gamma=1.1), energy="none"), tmp_path / "lower").edited
    PeftModel.from_pretrained(tiny_llama(), str(folder)).save_pretrained(tmp_path / "again")
    again = open_adapter(tmp_path / "again")
    spectra = decompose(again)
    assert (
        export(again, spectra, make_edit(spectra, Scale(gamma=4.0), energy="none"), tmp_path / "out").edited == 3
    )


def test_factors_far_larger_than_their_product_are_exported(write_adapter, tmp_path):
    # the same update through an M of condition 10⁴: B's rounding weighs 10⁴ times more in ΔW
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((8, 8)))[0] for _ in range(2))
    sizes = np.geomspace(1, 1e4, 8)
    B, A = rng.standard_normal((32, 8)) @ (left * sizes @ right), (right.T / sizes @ left.T) @ np.eye(8, 24)
    tensors = {
        "base_model.model.o_proj.lora_B.weight": B.astype(np.float32),
        "base_model.model.o_proj.lora_A.weight": A.astype(np.float32),
    }
    adapter = open_adapter(write_adapter(tensors, r=8))
    spectra = decompose(adapter)
    report = export(adapter, spectra, random_edit(spectra), tmp_path / "out")
    found, spectrum = update(open_adapter(tmp_path / "out").modules["o_proj"]), spectra["o_proj"]
    expected = spectrum.U * random_edit(spectra).modules["o_proj"].sigma_after @ spectrum.V.T
    assert report.rounding == pytest.approx(np.linalg.norm(found - expected) / np.linalg.norm(expected), rel=0.01)
    assert report.rounding < 1e-4


def test_a_clamp_on_an_update_of_lower_rank_is_exported(write_adapter, tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "base_model.model.o_proj.lora_B.weight": rng.standard_normal((16, 2)) @ rng.standard_normal((2, 4)),
        "base_model.model.o_proj.lora_A.weight": rng.standard_normal((4, 12)),
    }
    adapter = open_adapter(write_adapter(tensors))
    spectra = decompose(adapter)
    edit = make_edit(spectra, RandomIndex(), sigma_min=0.1, energy="none")
    export(adapter, spectra, edit, tmp_path / "out")
    sigma = np.linalg.svd(update(open_adapter(tmp_path / "out").modules["o_proj"]), compute_uv=False)
    assert (sigma > 1e-9 * sigma[0]).sum() == 2


def test_gains_that_leave_the_range_of_the_dtype_are_refused_and_nothing_is_written(
    lora_tensors, write_adapter, tmp_path
):
    tensors = lora_tensors({"o_proj": (6, 4, 5)}, "float16")
    tensors["base_model.model.o_proj.lora_B.weight"][:] = np.float16(6e4)
    adapter = open_adapter(write_adapter(tensors))
    spectra = decompose(adapter)
    edit = make_edit(spectra, Identity(), manual={"o_proj": {0: 2.0}}, energy="none")
    with pytest.raises(ExportError), np.errstate(over="ignore"):
        export(adapter, spectra, edit, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def nearest(value: float, dtype) -> Fraction | float:
    """The representable number nearest to `value`, ties to even, in exact arithmetic; ±inf beyond the range."""
    bits, low, high = FORMATS[dtype]
    exact = Fraction(value)
    if exact == 0:
        return exact
    exponent = math.frexp(value)[1] - 1
    unit = Fraction(2) ** (max(exponent, low) - bits + 1)
    units = round(exact / unit)  # Fraction rounds ties to even
    if abs(units * unit) >= Fraction(2) ** (high + 1):
        return math.copysign(math.inf, value)
    return units * unit


@st.composite
def awkward(draw):
    """Numbers near a midpoint of bfloat16 or float16, off by something float32 cannot see."""
    bits = draw(st.sampled_from([8, 11, 24]))
    mantissa = draw(st.integers(2 ** (bits - 1), 2**bits - 1))
    halves = Fraction(2 * mantissa + draw(st.sampled_from([0, 1])), 2**bits)
    nudge = draw(st.sampled_from([0, 1, -1])) * Fraction(1, 2 ** draw(st.integers(20, 51)))
    sign = draw(st.sampled_from([1, -1]))
    return float(sign * (halves + nudge) * Fraction(2) ** draw(st.integers(-150, 128)))


@given(st.one_of(awkward(), st.floats(allow_nan=False, allow_infinity=False)))
@example(1 + 2**-8 + 2**-40)
@example(1 + 2**-8 - 2**-40)
@example(1 + 2**-8)
@example(1 + 3 * 2**-8)
@example(1 + 2**-8 + 2**-24)
@example(1 + 2**-8 + 2**-25)
@example(-(1 + 2**-8 + 2**-40))
@example(1 + 2**-11 + 2**-40)
@example(2.0**-133 * (1 + 2**-30))
@example(2.0**-134)
@example(2.0**-134 * (1 + 2**-52))
@example(3e-46)
@example(5e-324)
@example(3.3961775292304957e38)
@example(3.3961775292304957e38 * (1 - 2**-52))
@example(3.4028235677973366e38)
@example(1.7e308)
@example(0.0)
def test_rounding_is_to_the_nearest_number_of_the_dtype_with_ties_to_even(value):
    for dtype in FORMATS:
        with np.errstate(over="ignore"):
            found = round_to(np.array([value, -value]), np.dtype(dtype))
        assert found.dtype == np.dtype(dtype)
        expected = nearest(value, dtype)
        for entry, sign in zip(found.astype(np.float64).tolist(), (1, -1), strict=True):
            if isinstance(expected, float):
                assert entry == sign * expected
            else:
                assert Fraction(entry) == sign * expected


def test_rounding_once_differs_from_rounding_through_float32():
    value = np.array([1 + 2**-8 + 2**-40])
    assert float(value.astype(np.float32).astype(bfloat16)[0]) == 1.0
    assert float(round_to(value, np.dtype(bfloat16))[0]) == 1 + 2**-7


def test_rounding_keeps_shapes_signs_of_zero_and_float64():
    values = np.array([[0.0, -0.0, 1.0], [-1.0, 0.1, -0.1]])
    for dtype in (*FORMATS, np.float64):
        found = round_to(values, np.dtype(dtype))
        assert found.shape == values.shape
        assert np.signbit(found.astype(np.float64)).tolist() == np.signbit(values).tolist()
    assert round_to(values, np.dtype(np.float64)).tobytes() == values.tobytes()
    assert round_to(np.array(1 + 2**-8 + 2**-40), np.dtype(bfloat16)).shape == ()
