"""The shuffled-gains control: the edit's own gains on other components, as large a move, under the same rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import Edit, ModuleEdit
from surgery.errors import PolicyError
from surgery.experiments import shuffled_gains
from tests.helpers.refusals import refusal

SIGMA = np.array([5.0, 3.0, 2.0, 1.0])


def edit_of(after, sigma=SIGMA) -> Edit:
    after, sigma = np.asarray(after, dtype=float), np.asarray(sigma, dtype=float)
    return Edit({"m": ModuleEdit(after / sigma, sigma, after)})


def control(edit: Edit, seed: int, energy: str = "none", sigma_min: float = 0.0) -> np.ndarray:
    return shuffled_gains(edit, energy=energy, sigma_min=sigma_min, seed=seed).modules["m"].sigma_after


@given(st.lists(st.floats(0.1, 3.0), min_size=4, max_size=4), st.integers(0, 99))
def test_a_control_moves_a_module_exactly_as_far_as_its_edit(gains, seed):
    edit = edit_of(SIGMA * gains)
    wanted = np.linalg.norm(SIGMA * gains - SIGMA)
    assert np.linalg.norm(control(edit, seed) - SIGMA) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("energy", "order"), [("l1", 1), ("l2", 2)])
@given(gains=st.lists(st.floats(0.5, 1.6), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_the_energy_rule_holds_whatever_the_length_of_the_step(energy, order, gains, seed):
    after = SIGMA * gains
    after *= np.linalg.norm(SIGMA, order) / np.linalg.norm(after, order)
    found = control(edit_of(after), seed, energy)
    assert np.linalg.norm(found, order) == pytest.approx(np.linalg.norm(SIGMA, order), rel=1e-12)
    assert (found >= 0).all()


def test_the_gains_are_those_of_the_edit_where_nothing_has_to_be_rescaled():
    # equal singular values: whatever component a gain falls on, the module moves as far
    sigma, gains = np.full(4, 2.0), np.array([1.5, 1.0, 0.5, 0.25])
    seen = set()
    for seed in range(40):
        found = control(edit_of(sigma * gains, sigma), seed) / sigma
        np.testing.assert_allclose(np.sort(found), np.sort(gains), rtol=1e-12)
        seen.add(tuple(found.round(6)))
    assert len(seen) > 10, "seeds draw other components"


def test_a_plain_scale_has_no_gains_to_deal_out_and_gets_random_gates_of_its_size():
    found = control(edit_of(0.8 * SIGMA), 0)
    assert np.linalg.norm(found - SIGMA) == pytest.approx(0.2 * np.linalg.norm(SIGMA))
    assert np.ptp(found / SIGMA) > 0.1


def test_components_that_meet_the_clamp_leave_the_distance_to_the_others():
    # two components are cut off: dealt to small ones they would have to fall below the clamp
    edit = edit_of([0.5, 0.5, 2.0, 1.0])
    for seed in range(20):
        found = control(edit, seed, sigma_min=0.5)
        assert found.min() >= 0.5
        assert np.linalg.norm(found - SIGMA) <= np.linalg.norm([4.5, 2.5]) * (1 + 1e-9)


def test_what_the_edit_leaves_alone_stays_so_and_null_components_keep_their_values():
    alone = edit_of(SIGMA)
    np.testing.assert_array_equal(control(alone, 3), SIGMA)
    sigma = np.array([4.0, 2.0, 1.0, 1e-17])
    found = control(edit_of([2.0, 3.0, 1.0, 1e-17], sigma), 1)
    assert found[3] == 1e-17


def test_a_module_of_one_component_cannot_move_under_an_energy_rule_and_says_so():
    module = shuffled_gains(edit_of([2.0], [1.0]), energy="l1", sigma_min=0.0, seed=0).modules["m"]
    assert "keeps to the edit's rules" in module.skipped
    assert module.sigma_after.tolist() == [1.0]


def test_a_draw_depends_on_the_seed_and_the_module_alone():
    two = Edit(
        {"m": edit_of(SIGMA * [2, 1, 1, 0.5]).modules["m"], "n": edit_of(SIGMA * [2, 1, 1, 0.5]).modules["m"]}
    )
    found = shuffled_gains(two, energy="none", sigma_min=0.0, seed=5)
    backwards = shuffled_gains(Edit(dict(reversed(two.modules.items()))), energy="none", sigma_min=0.0, seed=5)
    np.testing.assert_array_equal(found.modules["m"].sigma_after, control(Edit({"m": two.modules["m"]}), 5))
    np.testing.assert_array_equal(found.modules["n"].sigma_after, backwards.modules["n"].sigma_after)


def test_the_functional_rule_without_moments_is_refused():
    edit = edit_of([4.0, 3.5, 2.0, 1.0])
    assert "calibrate again" in refusal(
        PolicyError, shuffled_gains, edit, energy="functional", sigma_min=0.0, seed=0
    )


def test_the_functional_rule_holds_the_functional_energy():
    q = np.array([1.0, 5.0, 0.2, 3.0])
    after = SIGMA * [1.3, 0.7, 1.0, 1.1]
    after *= np.sqrt((SIGMA**2 * q).sum() / (after**2 * q).sum())
    for seed in range(10):
        found = shuffled_gains(edit_of(after), energy="functional", sigma_min=0.0, seed=seed, q={"m": q})
        values = found.modules["m"].sigma_after
        assert (values**2 * q).sum() == pytest.approx((SIGMA**2 * q).sum(), rel=1e-12)
