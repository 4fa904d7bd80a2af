"""The cut that turns directions, against dense matrices and inputs that are really there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import activation_cuts, kept_of, make_edit, truncated, turned
from surgery.errors import PolicyError
from surgery.policies import Rank
from surgery.sensitivity import InputMoments
from surgery.spectra import Spectrum
from tests.helpers.policies import measured
from tests.helpers.refusals import refusal


def module(seed: int, rank: int = 4, name: str = "m.0.o_proj") -> tuple[Spectrum, np.ndarray]:
    """A spectrum, and inputs whose directions vary together."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((size, rank)))[0] for size in (9, 7))
    sigma = np.sort(rng.lognormal(size=rank))[::-1]
    inputs = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 7)) + 0.1 * rng.standard_normal((50, 7))
    return Spectrum(name, 0, "o_proj", U, sigma, V), inputs


def second_moment(spectrum: Spectrum, inputs: np.ndarray) -> np.ndarray:
    z = inputs @ spectrum.V
    return z.T @ z / len(inputs)


def dense(spectrum: Spectrum) -> np.ndarray:
    return spectrum.U * spectrum.sigma @ spectrum.V.T


def error(before: Spectrum, after: Spectrum, inputs: np.ndarray) -> float:
    return float((((dense(before) - dense(after)) @ inputs.T) ** 2).sum() / len(inputs))


@given(st.integers(0, 1000), st.integers(0, 4))
def test_its_error_is_what_the_singular_values_left_out_say_and_no_matrix_of_that_rank_has_less(seed, keep):
    spectrum, inputs = module(seed)
    found = turned(spectrum.sigma, second_moment(spectrum, inputs))
    part = truncated(spectrum, found, keep)
    assert part.rank <= keep
    scale = (found.size**2).sum()
    assert error(spectrum, part, inputs) == pytest.approx((found.size[keep:] ** 2).sum(), abs=1e-9 * scale)
    # Eckart and Young on ΔW·Xᵀ itself: an oracle that knows nothing of U, V or M
    values = np.linalg.svd(dense(spectrum) @ inputs.T / np.sqrt(len(inputs)), compute_uv=False)
    assert error(spectrum, part, inputs) == pytest.approx((values[keep:] ** 2).sum(), abs=1e-9 * scale)


@given(st.integers(0, 1000), st.integers(1, 3))
def test_turning_never_does_worse_than_the_best_cut_on_fixed_directions(seed, keep):
    spectrum, inputs = module(seed)
    M = second_moment(spectrum, inputs)
    best = np.sort(spectrum.sigma**2 * np.diagonal(M))[: 4 - keep].sum()
    part = truncated(spectrum, turned(spectrum.sigma, M), keep)
    assert error(spectrum, part, inputs) <= best * (1 + 1e-9)


def test_a_truncated_update_is_a_spectrum_with_orthonormal_directions_inside_the_span():
    spectrum, inputs = module(3)
    part = truncated(spectrum, turned(spectrum.sigma, second_moment(spectrum, inputs)), 2)
    for own, whole in ((part.U, spectrum.U), (part.V, spectrum.V)):
        np.testing.assert_allclose(own.T @ own, np.eye(2), atol=1e-12)
        np.testing.assert_allclose(whole @ (whole.T @ own), own, atol=1e-12)
    assert (np.diff(part.sigma) <= 0).all()


def test_with_inputs_that_do_not_vary_together_it_is_the_cut_by_functional_energy():
    spectrum, _ = module(5)
    q = np.array([0.1, 3.0, 1.0, 0.2])
    part = truncated(spectrum, turned(spectrum.sigma, np.diag(q)), 2)
    kept = np.argsort(-(spectrum.sigma**2) * q)[:2]
    expected = spectrum.U[:, kept] * spectrum.sigma[kept] @ spectrum.V[:, kept].T
    np.testing.assert_allclose(dense(part), expected, atol=1e-12)


def some_modules() -> tuple[dict[str, Spectrum], InputMoments]:
    made = {f"m.{i}.o_proj": module(i, rank, f"m.{i}.o_proj") for i, rank in enumerate((4, 2, 5))}
    sums = {name: second_moment(*each) for name, each in made.items()}
    return {name: spectrum for name, (spectrum, _) in made.items()}, InputMoments(
        sums, sums, {"prompt": 1, "answer": 1}
    )


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_one_threshold_over_the_scope_keeps_the_fewest_directions_that_hold_the_share(share):
    spectra, inputs = some_modules()
    cut, alone = activation_cuts(spectra, inputs, Rank(cut="para", share=share), spectra)
    assert alone == {}
    sizes = {name: turned(each.sigma, inputs.of(name)).size ** 2 for name, each in spectra.items()}
    pooled = np.sort(np.concatenate(list(sizes.values())))[::-1]
    least = pooled[int((np.cumsum(pooled) < share * pooled.sum()).sum())]
    for name, own in sizes.items():
        assert (cut[name] if name in cut else spectra[name]).rank == int((own >= least * (1 - 1e-12)).sum())


def test_what_has_no_moments_stays_as_it_is_and_says_why_and_without_any_it_is_refused():
    spectra, inputs = some_modules()
    first, *others = spectra
    some = InputMoments(*({name: inputs.of(name) for name in others},) * 2, {"prompt": 1, "answer": 1})
    cut, alone = activation_cuts(spectra, some, Rank(keep=1), spectra)
    assert set(cut) == set(others)
    assert list(alone) == [first]
    assert "measured" in alone[first]
    assert "surgery calibrate" in refusal(PolicyError, activation_cuts, spectra, None, Rank(), spectra)
    edit = make_edit(
        spectra,
        Rank(keep=1),
        sensitivity=measured({n: np.ones((2, s.rank)) for n, s in spectra.items()}),
        scope="all",
    )
    assert all(kept.kept == 1 for kept in kept_of(edit, None).values())
