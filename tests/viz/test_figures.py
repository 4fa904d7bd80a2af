"""Figures hold the numbers they were given; no data gives an empty titled figure."""

import numpy as np
import pytest

import viz
from viz.style import HARMFUL, HELPFUL, NEUTRAL


def test_alignment_heatmap_holds_its_values_and_their_ratio_to_random() -> None:
    values = np.array([[1.0, 0.2], [0.2, 1.0]])
    figure = viz.alignment_heatmap(values, ["0", "1"], ["0", "1"], title="t", measure="overlap", reference=0.01)
    heatmap = figure.data[0]
    np.testing.assert_allclose(heatmap.z, values)
    np.testing.assert_allclose(heatmap.customdata, values / 0.01)


def test_alignment_colours_are_cut_at_the_largest_value_between_different_modules() -> None:
    values = np.array([[1.0, 0.2], [0.3, 1.0]])
    figure = viz.alignment_heatmap(values, ["0", "1"], ["0", "1"], title="t", measure="overlap", reference=0.01)
    assert figure.data[0].zmax == pytest.approx(0.3)


def test_depth_curve_draws_the_random_reference() -> None:
    figure = viz.depth_curve([0, 1], np.array([0.3, 0.4]), title="t", measure="overlap", reference=0.01)
    assert list(figure.data[0].y) == [0.3, 0.4]
    assert [shape.y0 for shape in figure.layout.shapes] == [0.01]


def test_a_sign_within_two_standard_errors_is_drawn_neutral() -> None:
    figure = viz.module_spectrum(
        np.array([3.0, 2.0, 1.0]),
        title="m",
        mean=np.array([0.5, -0.5, 0.1]),
        mean_error=np.array([0.1, 0.1, 0.1]),
        magnitude=np.array([0.6, 0.6, 0.3]),
        magnitude_error=np.array([0.1, 0.1, 0.1]),
    )
    assert list(figure.data[1].marker.color) == [HARMFUL, HELPFUL, NEUTRAL]


def test_gain_map_shows_the_gain_itself_and_a_silenced_component() -> None:
    gains = np.array([[1.0, 0.0], [2.0, np.nan]])
    heatmap = viz.gain_map(gains, ["0", "1"], title="g").data[0]
    np.testing.assert_array_equal(heatmap.customdata, gains)
    np.testing.assert_array_equal(np.asarray(heatmap.z), [[0.0, -2.0], [1.0, np.nan]])


def test_before_and_after_holds_both_spectra() -> None:
    figure = viz.before_and_after(np.array([2.0, 1.0]), np.array([1.5, 1.5]), title="m")
    assert [list(trace.y) for trace in figure.data] == [[2.0, 1.0], [1.5, 1.5]]


@pytest.mark.parametrize(
    ("mean", "low", "high", "lower_is_better", "colour"),
    [
        (-0.03, -0.05, -0.01, True, HELPFUL),
        (0.03, 0.01, 0.05, True, HARMFUL),
        (0.03, 0.01, 0.05, False, HELPFUL),
        (-0.03, -0.07, 0.01, True, NEUTRAL),
        (5.0, -1.0, 11.0, False, NEUTRAL),
    ],
)
def test_an_effect_within_noise_is_grey_whatever_its_mean(mean, low, high, lower_is_better, colour) -> None:
    figure = viz.effect_intervals(
        ["edit"], [mean], [low], [high], title="t", unit="u", lower_is_better=lower_is_better
    )
    point = figure.data[0]
    assert point.marker.color == colour
    assert point.x[0] - point.error_x.arrayminus[0] == pytest.approx(low)
    assert point.x[0] + point.error_x.array[0] == pytest.approx(high)


def test_no_data_gives_an_empty_titled_figure() -> None:
    empty = [
        viz.alignment_heatmap(np.zeros((0, 0)), [], [], title="t", measure="m", reference=0.1),
        viz.depth_curve([], np.zeros(0), title="t", measure="m", reference=0.1),
        viz.rank_profile({}, title="t", measure="m"),
        viz.gain_map(np.zeros((0, 0)), [], title="t"),
        viz.effect_intervals([], [], [], [], title="t", unit="u", lower_is_better=True),
    ]
    for figure in empty:
        assert figure.layout.title.text == "t"
        assert not figure.data
        assert figure.layout.annotations
