"""Every number of a matrix is that of the dense updates, and no more is held than the bound."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from surgery.adapter_sets import AdapterSet, compare_members, matrix_values, open_set
from surgery.adapter_sets import matrix as module
from surgery.errors import Cancelled, DataError
from surgery.progress import Control
from tests.helpers.adapter_folders import factors, write_adapter_at
from tests.helpers.refusals import refusal

SCOPES = [(None, None), ("q_proj", None), (None, 1), ("down_proj", 0)]


@pytest.fixture(scope="module")
def dense(related):
    """ΔW of every module of every member, from the files, in float64."""
    found = {}
    for member in related.opened:
        tensors = load_file(member.folder / "adapter_model.safetensors")
        for name, outline in member.modules.items():
            (B,) = (each for key, each in tensors.items() if f".{name}.lora_B" in key)
            (A,) = (each for key, each in tensors.items() if f".{name}.lora_A" in key)
            found[member.name, name] = 8 / outline.rank * B.astype(np.float64) @ A.astype(np.float64)
    return found


def in_scope(related, members, family, layer):
    """Modules of the scope that all the members have."""
    every = related.modules()
    return [
        name
        for name, outline in every.items()
        if family in (None, outline.family)
        and layer in (None, outline.layer)
        and all(name in related[member].modules for member in members)
    ]


def leading(update, k, side):
    U, sigma, Vt = np.linalg.svd(update, full_matrices=False)
    live = (sigma > 1e-9 * max(sigma[0], 1e-300)).sum() if sigma[0] else 0
    return (U[:, :k] if side == "output" else Vt[:k].T) if live >= k else None


@pytest.mark.parametrize("side", ["output", "input"])
@pytest.mark.parametrize(("family", "layer"), SCOPES)
def test_overlaps_are_means_of_those_of_dense_singular_value_decompositions(
    related, matrix, dense, side, family, layer
):
    for measure, k in [("overlap", 1), ("overlap", 2), ("overlap", 4), ("principal", 1)]:
        found = matrix_values(matrix, measure, k, side, family=family, layer=layer)
        for i, one in enumerate(matrix.members):
            for j, other in enumerate(matrix.members):
                expected = []
                for name in in_scope(related, [one, other], family, layer):
                    bases = [leading(dense[member, name], k, side) for member in (one, other)]
                    if all(basis is not None for basis in bases):
                        square = ((bases[0].T @ bases[1]) ** 2).sum()
                        expected.append(np.sqrt(square) if measure == "principal" else square / k)
                assert found.modules[i, j] == len(expected)
                value = np.mean(expected) if expected else np.nan
                # the sums are in float32
                assert found.values[i, j] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize(("family", "layer"), SCOPES)
def test_cosines_are_those_of_the_dense_updates(related, matrix, dense, family, layer):
    found = matrix_values(matrix, "cosine", 1, "output", family=family, layer=layer)
    names = in_scope(related, [], family, layer)

    def whole(member):
        shapes = {name: related.modules()[name].shape for name in names}
        return np.concatenate([dense.get((member, name), np.zeros(shapes[name])).ravel() for name in names])

    for i, one in enumerate(matrix.members):
        for j, other in enumerate(matrix.members):
            lengths = np.linalg.norm(whole(one)) * np.linalg.norm(whole(other))
            if not lengths or not found.modules[i, j]:
                assert np.isnan(found.values[i, j])
                continue
            assert found.values[i, j] == pytest.approx(whole(one) @ whole(other) / lengths, abs=1e-10)


def test_experts_of_a_layer_share_a_place_and_are_summed(related, matrix):
    assert len(matrix.places) == len(related.modules())
    assert [place.layer for place in matrix.places] == [outline.layer for outline in related.modules().values()]
    assert matrix.families == tuple(dict.fromkeys(outline.family for outline in related.modules().values()))
    assert matrix.layers == (0, 1)


@pytest.mark.parametrize("block", [1, 10_000])
def test_blocks_of_any_size_give_the_same_matrix(related, matrix, monkeypatch, block):
    monkeypatch.setattr(module, "_COSINES", block)
    again = compare_members(related, matrix.members)
    np.testing.assert_allclose(again.overlaps, matrix.overlaps, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(again.inner, matrix.inner, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(again.counts, matrix.counts)


def test_a_matrix_is_made_within_the_bound_and_is_refused_where_that_is_too_small(related, matrix):
    tight = AdapterSet(related.root, related.members, 2 * matrix.overlaps.nbytes + 60_000)
    again = compare_members(tight, matrix.members)
    np.testing.assert_array_equal(again.overlaps, matrix.overlaps)
    assert tight.held.peak <= tight.held.most
    small = AdapterSet(related.root, related.members, matrix.overlaps.nbytes)
    assert "compare fewer" in refusal(DataError, lambda: compare_members(small, matrix.members))


def test_it_stops_between_modules(related, matrix):
    done = []
    control = Control(progress=lambda at, _: done.append(at), cancelled=lambda: len(done) > 1)
    with pytest.raises(Cancelled):
        compare_members(related, matrix.members, control=control)
    assert len(done) == 2


def test_one_adapter_and_adapters_of_two_shapes_are_refused(related, tmp_path):
    assert "fewer than two" in refusal(DataError, lambda: compare_members(related, ["a", "a"]))
    write_adapter_at(tmp_path / "one", factors(2))
    write_adapter_at(tmp_path / "other", factors(2, shapes={"self_attn.q_proj": (14, 10)}))
    assert "one base shape" in refusal(DataError, lambda: compare_members(open_set(tmp_path), ["one", "other"]))
