"""Errors of updates against dense matrices."""

import numpy as np
import pytest

from surgery.conversion import error_of_dense, error_of_product


@pytest.mark.parametrize(("r", "k"), [(3, 3), (3, 5), (9, 2)])
def test_the_error_of_a_product_is_that_of_the_dense_matrices(r, k):
    rng = np.random.default_rng(0)
    B, A = rng.standard_normal((7, r)), rng.standard_normal((r, 8))
    D, C = rng.standard_normal((7, k)), rng.standard_normal((k, 8))
    found = error_of_product((0.5, B, A), (3.0, D, C))
    assert found.norm == pytest.approx(np.linalg.norm(0.5 * B @ A), rel=1e-12)
    assert found.error == pytest.approx(np.linalg.norm(3 * D @ C - 0.5 * B @ A), rel=1e-12)
    assert found.rank == k
    assert error_of_dense(0.5 * B @ A, (3.0, D, C)).error == pytest.approx(found.error, rel=1e-12)


def test_the_same_factors_differ_by_their_scalings_alone_and_not_at_all_where_these_are_the_same():
    rng = np.random.default_rng(0)
    B, A = rng.standard_normal((7, 2)), rng.standard_normal((2, 8))
    assert error_of_product((0.5, B, A), (0.5, B, A)).error == 0
    tiny = error_of_product((0.5, B, A), (0.5 + 1e-15, B, A)).error
    assert tiny == pytest.approx(1e-15 * np.linalg.norm(B @ A), rel=0.2)
