"""An edit at rest: the numbers of its maps and of its spectrum, and what is drawn without any."""

import numpy as np
import pytest

import viz
from viz.style import AFTER, BEFORE

NAN = np.nan


def test_a_map_has_the_octaves_of_every_gain_and_the_numbers_behind_them() -> None:
    sigma = np.array([[4.0, 2.0, 1.0], [3.0, 0.0, NAN]])
    after = np.array([[2.0, 2.0, 16.0], [0.0, 0.0, NAN]])
    figure = viz.gain_map(["<a>", "b"], ["0", "7"], sigma, after, title="<o>")
    (cells,) = figure.data
    # halved, kept, and past the scale's end; zeroed at its other end; no gain without a σ, and none beyond the rank
    np.testing.assert_array_equal(cells.z, [[-1, 0, 2], [-2, NAN, NAN]])
    names, *numbers = np.moveaxis(np.array(cells.customdata, dtype=object), -1, 0)
    assert list(names[:, 0]) == ["&lt;a&gt;", "b"]
    np.testing.assert_array_equal(np.array(numbers, dtype=float), [sigma, after, [[0.5, 1, 16], [0, NAN, NAN]]])
    assert figure.layout.title.text == "&lt;o&gt;"
    assert list(figure.layout.yaxis.ticktext) == ["0", "7"]


def test_no_module_gives_an_empty_titled_map() -> None:
    figure = viz.gain_map([], [], np.zeros((0, 0)), np.zeros((0, 0)), title="nothing")
    assert figure.layout.title.text == "nothing"
    assert not figure.data


def test_a_map_of_many_modules_stays_on_one_screen() -> None:
    rows = [str(n) for n in range(400)]
    figure = viz.gain_map(rows, rows, np.ones((400, 2)), np.ones((400, 2)), title="")
    assert figure.layout.height < 800
    assert len(figure.layout.yaxis.tickvals) <= 13


def test_a_spectrum_stands_before_and_after() -> None:
    figure = viz.spectrum_before_and_after(np.array([2.0, 1.0]), np.array([3.0, 0.0]), title="<m>")
    before, after = figure.data
    assert (before.name, after.name) == ("σ, before", "σ′, after")
    assert [before.marker.color, after.marker.color] == [BEFORE, AFTER]
    assert list(before.y) == [2, 1]
    assert list(after.y) == [pytest.approx(3), 0]
    assert figure.layout.title.text == "&lt;m&gt;"
