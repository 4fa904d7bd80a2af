"""The figure of pulls holds the numbers it was given."""

import viz
from viz.style import HARMFUL, HELPFUL, NEUTRAL


def test_a_bar_a_row_and_a_point_where_something_was_measured():
    figure = viz.pulls_by_row([-0.2, 0.0, 0.3], [-0.1, None, 0.4], title="t", name="n")
    told, measured = figure.data
    assert (list(told.x), list(told.y)) == ([1, 2, 3], [-0.2, 0.0, 0.3])
    assert list(told.marker.color) == [HELPFUL, NEUTRAL, HARMFUL]
    assert (list(measured.x), list(measured.y)) == ([1, 3], [-0.1, 0.4])


def test_without_measurements_there_are_bars_alone_and_without_rows_a_reason():
    assert len(viz.pulls_by_row([0.1], [None], title="t", name="n").data) == 1
    empty = viz.pulls_by_row([], [], title="t", name="n")
    assert not empty.data
    assert empty.layout.annotations
