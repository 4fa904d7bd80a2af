"""While tests run, every call is held to the shapes and dtypes that annotations promise."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

import viz
from surgery.spectra import Spectrum, sigma_clusters


def test_a_call_with_an_array_of_another_shape_fails():
    with pytest.raises(TypeCheckError, match="sigma"):
        sigma_clusters(np.ones((3, 2)), 0.1)


def test_a_dataclass_with_arrays_of_two_ranks_fails():
    with pytest.raises(TypeCheckError, match="V"):
        Spectrum("m", 0, "q_proj", np.ones((5, 3)), np.ones(3), np.ones((4, 2)))


def test_a_figure_of_a_float32_array_fails():
    with pytest.raises(TypeCheckError, match="gains"):
        viz.gain_thumbnail(np.ones((2, 3), np.float32))
