"""Base directions and intruders on weights whose singular vectors are known by construction."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery import decompose, open_adapter
from surgery.errors import BaseModelError, PolicyError
from surgery.model import LiveModel, base_weight
from surgery.spectra import Spectrum, capture, find_intruders, leading_directions
from surgery.spectra import intruders as module_under_test
from tests.helpers.models import GPT2_TARGETS, loaded_base, save_adapter, tiny_gpt2, tiny_llama


def random_basis(rng, dimension, rank):
    return np.linalg.qr(rng.standard_normal((dimension, rank)))[0]


def weight(rng, out, into, sigma=None):
    """A weight with its U, σ, V; σ falls from 10 to 1 unless given."""
    m = min(out, into)
    sigma = np.linspace(10.0, 1.0, m) if sigma is None else np.asarray(sigma, dtype=np.float64)
    U, V = random_basis(rng, out, m), random_basis(rng, into, m)
    return (U * sigma) @ V.T, U, sigma, V


def update(U, V, sigma=None) -> Spectrum:
    sigma = np.arange(U.shape[1], 0, -1.0) if sigma is None else np.asarray(sigma, dtype=np.float64)
    return Spectrum("m", 0, "o", U, sigma, V)


shapes = st.tuples(st.integers(3, 30), st.integers(3, 30), st.integers(0, 10_000))


@given(shapes)
def test_leading_directions_are_the_singular_vectors(shape):
    out, into, seed = shape
    W, U, sigma, V = weight(np.random.default_rng(seed), out, into)
    top = 1 + seed % min(out, into)
    found = leading_directions(W, top)
    np.testing.assert_allclose(found.sigma, sigma[:top], rtol=1e-9)
    np.testing.assert_allclose(np.abs((found.U * U[:, :top]).sum(axis=0)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(
        (found.U * found.sigma) @ found.V.T, (U[:, :top] * sigma[:top]) @ V[:, :top].T, atol=1e-6
    )


@pytest.mark.parametrize(("out", "into"), [(300, 400), (400, 300)])
def test_the_range_finder_finds_the_directions_well_above_its_cut(monkeypatch, out, into):
    monkeypatch.setattr(module_under_test, "_DENSE", 100)
    m = min(out, into)
    W, U, sigma, V = weight(np.random.default_rng(0), out, into, 10 / np.sqrt(np.arange(1, m + 1)))
    found = leading_directions(W.astype(np.float32), 20, seed=1)
    np.testing.assert_allclose(found.sigma, sigma[:20], rtol=1e-3)
    assert np.abs((found.U * U[:, :20]).sum(axis=0)) == pytest.approx(np.ones(20), abs=5e-3)
    assert np.abs((found.V * V[:, :20]).sum(axis=0))[:10] == pytest.approx(np.ones(10), abs=1e-5)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(20), rtol=0, atol=1e-5)
    again = leading_directions(W.astype(np.float32), 20, seed=1)
    np.testing.assert_array_equal(found.U, again.U)


@given(st.integers(0, 10_000))
def test_a_direction_that_is_a_base_vector_is_captured_whole(seed):
    rng = np.random.default_rng(seed)
    W, U, _, V = weight(rng, 24, 18)
    # the 1st base vector, a mixture of the 2nd and 4th, the one just below the cut
    left = np.stack([U[:, 0], 0.6 * U[:, 1] + 0.8 * U[:, 3], U[:, 5]], axis=1)
    right = np.stack([V[:, 4], V[:, 0], V[:, 5]], axis=1)
    found = capture(update(left, right), W, top=5)
    assert found.output_cosine == pytest.approx([1.0, 0.8, 0.0], abs=1e-8)
    assert found.output_share == pytest.approx([1.0, 1.0, 0.0], abs=1e-8)
    assert found.input_cosine == pytest.approx([1.0, 1.0, 0.0], abs=1e-8)
    assert found.input_share == pytest.approx([1.0, 1.0, 0.0], abs=1e-8)
    assert (found.name, found.top) == ("m", 5)
    assert found.output_random == 5 / 24
    assert found.input_random == 5 / 18


def test_random_directions_are_captured_as_much_as_chance_says():
    rng = np.random.default_rng(0)
    W, *_ = weight(rng, 60, 50)
    found = capture(update(random_basis(rng, 60, 40), random_basis(rng, 50, 40)), W, top=12)
    assert found.output_share.mean() == pytest.approx(found.output_random, rel=0.1)
    assert found.input_share.mean() == pytest.approx(found.input_random, rel=0.1)
    assert found.output_random == 12 / 60
    assert (found.output_cosine**2 <= found.output_share + 1e-12).all()


def test_null_components_are_not_captured():
    rng = np.random.default_rng(0)
    W, U, _, V = weight(rng, 9, 8)
    found = capture(update(U[:, :2], V[:, :2], [1.0, 0.0]), W, top=3)
    assert np.isnan(found.output_share).tolist() == [False, True]
    assert np.isnan(found.input_cosine).tolist() == [False, True]


@pytest.mark.parametrize(("out", "into"), [(40, 30), (30, 40)])
def test_a_strong_foreign_update_makes_exactly_one_intruder(out, into):
    rng = np.random.default_rng(2)
    W, *_ = weight(rng, out, into)
    foreign = update(random_basis(rng, out, 1), random_basis(rng, into, 1), [30.0])
    found = find_intruders(foreign, W, top=10)
    assert found.count == 1
    assert found.intruder.tolist() == [True] + [False] * 9
    assert found.sigma == pytest.approx(np.linalg.svd(W + 30 * foreign.U @ foreign.V.T)[1][:10])
    assert found.component.tolist() == [0] * 10
    assert found.component_cosine[0] > 0.95
    # zeroed, and with a threshold of 0, there is none
    assert find_intruders(foreign, W, sigma=np.zeros(1)).count == 0
    assert find_intruders(foreign, W, threshold=0.0).count == 0


@given(shapes)
def test_an_update_along_base_vectors_makes_no_intruder(shape):
    out, into, seed = shape
    W, U, _, V = weight(np.random.default_rng(seed), out, into)
    found = find_intruders(update(U[:, [1]], V[:, [1]], [20.0]), W, top=2)
    assert found.count == 0
    assert found.nearest.tolist() == [1, 0]
    assert found.cosine == pytest.approx(np.ones(2), abs=1e-8)


@given(shapes, st.floats(0.1, 0.9))
@settings(max_examples=25)
def test_cosines_and_counts_equal_those_of_two_plain_decompositions(shape, threshold):
    out, into, seed = shape
    rng = np.random.default_rng(seed)
    W, *_ = weight(rng, out, into)
    rank = min(3, out, into)
    given_update = update(random_basis(rng, out, rank), random_basis(rng, into, rank), [15.0, 4.0, 1.0][:rank])
    found = find_intruders(given_update, W, top=3, threshold=threshold)
    before = np.linalg.svd(W, full_matrices=False)[0]
    after = np.linalg.svd(W + (given_update.U * given_update.sigma) @ given_update.V.T)[0][:, :3]
    cosines = np.abs(before.T @ after).max(axis=0)
    np.testing.assert_allclose(found.cosine, cosines, atol=1e-6)
    assert found.count == (cosines < threshold).sum()


@given(st.integers(0, 10_000))
def test_intruders_do_not_change_with_the_frames_of_both_spaces(seed):
    rng = np.random.default_rng(seed)
    W, *_ = weight(rng, 12, 9)
    U, V = random_basis(rng, 12, 2), random_basis(rng, 9, 2)
    P, Q = random_basis(rng, 12, 12), random_basis(rng, 9, 9)
    plain, turned = (
        find_intruders(update(U, V), W, top=4),
        find_intruders(update(P @ U, Q @ V), P @ W @ Q.T, top=4),
    )
    np.testing.assert_allclose(turned.cosine, plain.cosine, atol=1e-6)
    np.testing.assert_allclose(turned.sigma, plain.sigma, rtol=1e-9)


def test_directions_that_the_weight_lacks_count_as_foreign():
    rng = np.random.default_rng(0)
    W, U, _, V = weight(rng, 12, 8, [5.0, 4, 3, 2, 1, 0, 0, 0])
    found = find_intruders(update(U[:, [6]], V[:, [6]], [9.0]), W, top=1)
    assert found.count == 1
    assert found.cosine == pytest.approx([0.0], abs=1e-7)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, W: capture(m, W[:-1]), "weight is"),
        (lambda m, W: capture(m, W, top=0), "0 leading"),
        (lambda m, W: capture(m, W, top=7), "7 leading"),
        (lambda m, W: find_intruders(m, W.T), "weight is"),
        (lambda m, W: find_intruders(m, W, top=7), "7 leading"),
        (lambda m, W: find_intruders(m, W, top=2, threshold=1.5), "threshold"),
        (lambda m, W: find_intruders(m, W, top=2, threshold=float("nan")), "threshold"),
        (lambda m, W: find_intruders(m, W, top=2, sigma=np.ones(3)), "3 values"),
        (lambda m, W: capture(m, np.zeros_like(W), top=1), "zero or not finite"),
        (lambda m, W: find_intruders(m, W * np.nan, top=1), "zero or not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    rng = np.random.default_rng(0)
    W, U, _, V = weight(rng, 8, 6)
    with pytest.raises(PolicyError, match=words):
        call(update(U[:, :2], V[:, :2]), W)


@pytest.mark.parametrize(
    ("make", "options"), [(tiny_llama, {}), (tiny_gpt2, {"targets": GPT2_TARGETS, "fan_in_fan_out": True})]
)
def test_the_base_weight_is_what_the_layer_multiplies_with(make, options, tmp_path):
    model, adapter = make(), open_adapter(save_adapter(make(), tmp_path, **options))
    spectra = decompose(adapter)
    expected = {}
    for name in spectra:
        layer = model.get_submodule(name)
        # columns of W by feeding the axes
        inputs = torch.eye(spectra[name].V.shape[0])
        bias = layer.bias if layer.bias is not None else 0.0
        expected[name] = (layer(inputs) - bias).T.numpy()
    plain = {name: base_weight(model, name) for name in spectra}
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        for name, wanted in expected.items():
            for found in (plain[name], base_weight(live, name), base_weight(live.model, name)):
                np.testing.assert_allclose(found, wanted, atol=1e-6)
                assert not found.flags.writeable
        name = next(iter(spectra))
        assert capture(spectra[name], base_weight(live, name), top=4).output_share.shape == (spectra[name].rank,)


def test_a_half_precision_weight_keeps_its_values():
    model = tiny_llama().to(torch.bfloat16)
    name = "model.layers.0.self_attn.o_proj"
    found = base_weight(model, name)
    assert found.dtype == np.float32
    assert torch.equal(torch.from_numpy(found.copy()).to(torch.bfloat16), model.get_submodule(name).weight)


class Packed(torch.nn.Module):
    """Codes in place of a weight."""

    def __init__(self, weight):
        super().__init__()
        self.in_features, self.out_features, self.weight = 4, 4, weight


class Subclass(torch.Tensor):
    """What several quantisers make of a weight: it says float32 and holds codes."""


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Packed(None), "quantised"),
        (Packed(torch.zeros(8, 1, dtype=torch.uint8)), "quantised"),
        (Packed(torch.zeros(4, 4, dtype=torch.int8)), "quantised"),
        (Packed(torch.zeros(4, 4).as_subclass(Subclass)), "quantised"),
        (Packed(torch.zeros(4, 4).to(torch.float8_e4m3fn)), "quantised"),
        (Packed(torch.zeros(4, 4, device="meta")), "offloaded"),
        (torch.nn.Embedding(4, 4), "is a Embedding"),
        (torch.nn.Conv1d(4, 4, 1), "is a Conv1d"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(layer, words):
    with pytest.raises(BaseModelError, match=words):
        base_weight(torch.nn.ModuleDict({"layer": layer}), "layer")


def test_a_module_that_does_not_exist_is_refused():
    with pytest.raises(BaseModelError, match=r"has no module 'model\.layers\.9\.o_proj'"):
        base_weight(tiny_llama(), "model.layers.9.o_proj")
