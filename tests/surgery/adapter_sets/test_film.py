"""A training's film against dense decompositions of every update."""

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from surgery.adapter import Factors, Site, open_adapter
from surgery.adapter_sets import film_means, make_film, open_set, training_film
from surgery.errors import AdapterError
from surgery.progress import Cancelled, Control
from surgery.spectra import SIDES, Spectrum, decompose, decompose_factors
from tests.helpers.adapter_folders import factors as adapter_factors
from tests.helpers.adapter_folders import write_adapter_at
from tests.helpers.rounding import apart

STEPS = (10, 20, 40)
OUT, IN, RANK = 12, 9, 4
# of two products of orthonormal columns with OUT entries, themselves rounded in a QR of RANK columns
NEAR = apart(OUT * RANK)


def factors(B, A, *, name="m", scaling=0.5, layer=0, family="o_proj") -> Factors:
    return Factors(name, layer, family, scaling, B, A, "B", "A", Site(name))


def spectrum(B, A, **about) -> Spectrum:
    return decompose_factors(factors(B, A, **about))


@cache
def training(seed: int = 0, rank: int = RANK) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Float64 factors after each step: A starts at random and B at zero, both walk at random."""
    rng = np.random.default_rng(seed)
    B, A = np.zeros((OUT, rank)), rng.standard_normal((rank, IN))
    found = []
    for _ in STEPS:
        B, A = B + rng.standard_normal(B.shape), A + 0.2 * rng.standard_normal(A.shape)
        found.append((B, A))
    return tuple(found)


def film_of(*updates):
    """The film of one module with these factors, None where a checkpoint has none."""
    spectra = [None if each is None else spectrum(*each) for each in updates]
    return make_film(tuple(range(1, len(spectra) + 1)), [("m", spectra)]).modules["m"]


def dense(B, A, scaling=0.5):
    U, sigma, Vt = np.linalg.svd(scaling * B @ A, full_matrices=False)
    return U[:, :RANK], sigma[:RANK], Vt[:RANK].T


@pytest.mark.parametrize("seed", range(3))
def test_every_number_is_that_of_dense_decompositions(seed):
    updates = training(seed)
    film = make_film(STEPS, [("m", [spectrum(*each) for each in updates])])
    assert film.steps == STEPS
    found, exact = film.modules["m"], [dense(*each) for each in updates]
    for at, (U, sigma, V) in enumerate(exact):
        assert found.sigma[at] == pytest.approx(sigma, rel=1e-12)
        assert found.norm[at] == pytest.approx(np.linalg.norm(0.5 * updates[at][0] @ updates[at][1]), rel=1e-12)
        share = sigma / sigma.sum()
        assert found.effective_rank[at] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-12)
        likeness = np.abs((U.T @ exact[-1][0]) * (V.T @ exact[-1][2]))
        assert found.match[at].tolist() == likeness.argmax(axis=1).tolist()
        assert found.likeness[at] == pytest.approx(likeness.max(axis=1), abs=1e-12)
        for i, basis in enumerate((U, V)):
            last, before = exact[-1][2 * i], exact[at - 1][2 * i]
            for k in range(1, RANK + 1):
                angles = subspace_angles(basis[:, :k], last[:, :k])
                assert found.with_last[i, at, k - 1] == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-12)
                angles = subspace_angles(basis[:, :k], before[:, :k])
                if at:
                    assert found.with_before[i, at, k - 1] == pytest.approx(
                        np.mean(np.cos(angles) ** 2), abs=1e-12
                    )
            for k, match in enumerate(found.match[at]):
                (angle,) = subspace_angles(basis[:, [k]], last[:, [match]])
                assert found.angles[i, at, k] == pytest.approx(np.degrees(angle), abs=1e-9)
    assert np.isnan(found.with_before[:, 0]).all()


def test_a_small_turn_keeps_its_digits():
    turn = 1e-9
    B, A = np.eye(OUT)[:, :2] * [2.0, 1.0], np.eye(IN)[:2]
    turned = B.copy()
    turned[:, 0] = 2 * (np.cos(turn) * np.eye(OUT)[0] + np.sin(turn) * np.eye(OUT)[5])
    found = film_of((B, A), (turned, A))
    assert found.angles[SIDES.index("output"), 0, 0] == pytest.approx(np.degrees(turn), rel=1e-6)
    assert found.angles[SIDES.index("input"), 0, 0] == 0


def test_components_that_change_places_are_matched_and_have_not_turned():
    A = np.eye(IN)[:2]
    found = film_of((np.eye(OUT)[:, :2] * [2.0, 1.0], A), (np.eye(OUT)[:, :2] * [1.0, 3.0], A))
    assert found.match.tolist() == [[1, 0], [0, 1]]
    assert found.angles.max() == 0
    # the leading direction is another one all the same
    assert found.with_last[:, 0].tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_a_zero_update_has_a_norm_and_no_directions():
    B, A = training()[-1]
    found = film_of((0 * B, A), (B, A))
    assert found.sigma[0].tolist() == [0.0] * RANK
    assert (found.norm[0], found.effective_rank[0]) == (0.0, 0.0)
    assert found.match[0].tolist() == [-1] * RANK
    for values in (found.with_last, found.with_before, found.angles):
        assert np.isnan(values[:, 0]).all()
    assert np.isnan(found.with_before[:, 1]).all()  # there was nothing before it to overlap with
    assert found.with_last[:, 1] == pytest.approx(1.0, abs=NEAR)

    found = film_of((B, A), (0 * B, A))
    assert np.isnan(found.with_last).all()
    assert found.matchable == 0
    assert found.match.max() == -1


def test_a_rank_that_shrinks_or_grows_is_compared_as_far_as_both_have_components():
    B, A = training()[-1]
    found = film_of((B, A), (B[:, :2], A[:2]), (B[:, :3], A[:3]))
    assert found.rank == RANK
    assert np.isfinite(found.sigma).sum(axis=1).tolist() == [4, 2, 3]
    assert np.isfinite(found.with_last).sum(axis=2).tolist() == [[3, 2, 3]] * 2
    assert np.isfinite(found.with_before).sum(axis=2).tolist() == [[0, 2, 2]] * 2
    assert (found.match >= 0).sum(axis=1).tolist() == [4, 2, 3]
    assert found.match.max() < found.matchable == 3


def test_a_module_that_a_checkpoint_lacks_has_no_numbers_there():
    (first, second, third) = training()
    found = film_of(first, None, third)
    assert np.isnan(found.sigma[1]).all()
    assert np.isnan([found.norm[1], found.effective_rank[1]]).all()
    assert np.isnan(found.with_before).all()
    assert found.with_last[:, 0] == pytest.approx(film_of(first, third).with_last[:, 0], abs=0)

    missing_last = film_of(first, second, None)
    assert np.isnan(missing_last.with_last).all()
    assert np.isfinite(missing_last.with_before[:, 1]).all()
    assert missing_last.match.max() == -1


def test_components_that_share_their_sigma_are_named_on_either_side():
    A, even, apart_ = np.eye(IN)[:2], np.eye(OUT)[:, :2], np.eye(OUT)[:, :2] * [2.0, 1.0]
    assert film_of((apart_, A), (apart_, A)).degenerate.tolist() == [[False, False], [False, False]]
    assert film_of((even, A), (apart_, A)).degenerate.tolist() == [[True, True], [False, False]]
    assert film_of((apart_, A), (even, A)).degenerate.all()


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.integers(-20, 20), st.sampled_from([-1.0, 1.0]))
def test_scaling_factors_against_each_other_changes_nothing_and_scaling_the_update_its_norms_alone(
    seed, power, sign
):
    updates, scale = training(seed % 50)[1:], sign * 2.0**power
    plain = film_of(*updates)
    against = film_of(*((B * scale, A / scale) for B, A in updates))
    scaled = film_of(*((B * scale, A) for B, A in updates))
    # powers of two round nothing
    assert np.array_equal(against.sigma, plain.sigma)
    assert np.array_equal(scaled.sigma, plain.sigma * abs(scale))
    for found in (against, scaled):
        for name in ("with_last", "with_before", "match", "effective_rank"):
            assert np.array_equal(getattr(found, name), getattr(plain, name), equal_nan=True)
        assert found.angles == pytest.approx(plain.angles, abs=1e-9)


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_a_subspace_overlaps_itself_by_one_and_all_overlaps_lie_between_zero_and_one(seed):
    updates = training(seed % 200)
    found = film_of(*updates, updates[-1])
    for values in (found.with_last[:, -1], found.with_last[:, -2], found.with_before[:, -1]):
        assert values == pytest.approx(1.0, abs=NEAR)
    assert found.match[-1].tolist() == found.match[-2].tolist() == list(range(RANK))
    assert found.likeness[-1] == pytest.approx(1.0, abs=NEAR)
    every = np.concatenate([found.with_last.ravel(), found.with_before.ravel(), found.likeness.ravel()])
    every = every[np.isfinite(every)]
    assert every.min() >= 0
    assert every.max() <= 1


@pytest.mark.parametrize(
    ("steps", "modules", "words"),
    [
        ((5,), [], "1 checkpoint cannot show"),
        ((), [], "0 checkpoints cannot show"),
        ((5, 5), [], "do not ascend"),
        ((7, 5), [], "do not ascend"),
        ((5, 7), [("m", (None, None))], "none of the checkpoints has a module"),
    ],
)
def test_what_is_no_training_is_refused(steps, modules, words):
    with pytest.raises(AdapterError, match=words):
        make_film(steps, modules)


def test_a_module_that_changes_its_shape_is_refused_with_both():
    B, A = training()[0]
    with pytest.raises(AdapterError, match=r"m is 12 × 9 at step 3 and 12 × 8 at step 4"):
        make_film((3, 4), [("m", [spectrum(B, A), spectrum(B, A[:, :8])])])


def test_a_training_in_folders_is_the_film_of_its_spectra_whatever_the_bound(tmp_path):
    for step, rank in ((100, 3), (20, 4), (3, 4)):
        tensors = adapter_factors(rank, seed=step)
        if step == 20:  # one module is added to the training later, one is dropped in between
            tensors = {key: each for key, each in tensors.items() if "layers.1.self_attn.q_proj" not in key}
        write_adapter_at(tmp_path / f"checkpoint-{step}", tensors)
    apart_ = [decompose(open_adapter(str(tmp_path / f"checkpoint-{step}"))) for step in (3, 20, 100)]
    expected = make_film((3, 20, 100), [(name, [each.get(name) for each in apart_]) for name in apart_[0]])
    for most in (2 << 30, 60_000):
        adapters = open_set(tmp_path, most_bytes=most)
        (checkpoints,) = adapters.trainings.values()
        found = training_film(adapters, checkpoints)
        assert found.steps == expected.steps
        assert found.modules.keys() == expected.modules.keys()
        assert adapters.held.peak <= most
        for name, module in found.modules.items():
            for field in ("sigma", "norm", "with_last", "with_before", "match", "angles"):
                assert np.array_equal(
                    getattr(module, field), getattr(expected.modules[name], field), equal_nan=True
                )


def test_a_film_tells_how_far_it_is_and_stops(tmp_path):
    for step in (1, 2):
        write_adapter_at(tmp_path / f"checkpoint-{step}", adapter_factors(2, seed=step))
    adapters, told = open_set(tmp_path), []
    (checkpoints,) = adapters.trainings.values()
    training_film(adapters, checkpoints, control=Control(progress=lambda done, total: told.append((done, total))))
    assert told[-1] == (12, 12)
    with pytest.raises(Cancelled):
        training_film(adapters, checkpoints, control=Control(cancelled=lambda: True))


def test_the_training_that_ships_has_turned_towards_its_end():
    adapters = open_set("demo:kinship-training")
    (checkpoints,) = adapters.trainings.values()
    found = training_film(adapters, checkpoints)
    assert found.steps == (4, 8, 16, 32, 64)
    card = json.loads((adapters.root / "card.json").read_text(encoding="utf-8"))
    assert {str(each.step): each.digest for each in checkpoints} == card["digest_of_step"]
    assert len(found.modules) == 60
    norm, last = film_means(found, "norm", "family").values, film_means(found, "last", "family", k=2).values
    assert (np.diff(norm, axis=0) > 0).all()
    assert (np.diff(last, axis=0) > 0).all()
    assert last[-1] == pytest.approx(1.0, abs=NEAR)
    # neighbours are nearer than the end
    assert (film_means(found, "before", "family", k=2).values[1:-1] > last[:-2]).all()
