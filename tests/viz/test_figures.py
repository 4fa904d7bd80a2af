"""Figures hold the numbers they were given; no data gives an empty titled figure."""

import numpy as np
import pytest

import viz
from viz.style import GAIN_SCALE, HARMFUL, HELPFUL, NEUTRAL


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
        viz.effect_intervals([], [], [], [], title="t", unit="u", lower_is_better=True),
        viz.sweep_curve([], [], [], [], [], title="t", knob="k"),
    ]
    for figure in empty:
        assert figure.layout.title.text == "t"
        assert not figure.data
        assert figure.layout.annotations


def test_a_sweep_holds_what_was_measured_and_what_was_predicted() -> None:
    values, means = [0.0, 0.5, 1.0], [0.0, -0.2, 0.3]
    figure = viz.sweep_curve(
        values, means, [-0.1, -0.3, 0.1], [0.2, -0.1, 0.4], [0.0, None, 0.25], title="t", knob="k"
    )
    measured, predicted = figure.data
    assert list(measured.x) == values
    assert list(measured.y) == means
    np.testing.assert_allclose(measured.error_y.array, [0.2, 0.1, 0.1])
    np.testing.assert_allclose(measured.error_y.arrayminus, [0.1, 0.1, 0.2])
    assert list(measured.marker.color) == [NEUTRAL, HELPFUL, HARMFUL]
    assert (list(predicted.x), list(predicted.y)) == ([0.0, 1.0], [0.0, 0.25])
    assert figure.layout.xaxis.title.text == "k"


def test_a_sweep_without_predictions_draws_the_measurement_alone() -> None:
    figure = viz.sweep_curve([1.0], [0.1], [0.0], [0.2], [None], title="t", knob="k")
    assert [trace.name for trace in figure.data] == ["measured, tuning rows"]


def _ink(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_a_thumbnail_has_the_colours_of_the_map() -> None:
    gains = np.array([[1.0, 4.0, 0.25, 0.0], [2.0, 0.5, 100.0, np.nan]])
    picture = viz.gain_thumbnail(gains)
    assert picture.dtype == np.uint8
    high, wide, channels = picture.shape
    assert (high % 2, wide % 4, channels) == (0, 0, 3)
    cells = picture[:: high // 2, :: wide // 4].tolist()
    low, less, one, more, most = (_ink(colour) for _, colour in GAIN_SCALE)
    assert cells == [[one, most, low, low], [more, less, most, [128, 128, 128]]]
    blocks = picture.reshape(2, high // 2, 4, wide // 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()


@pytest.mark.parametrize("shape", [(1, 1), (60, 16), (500, 256), (3, 7)])
def test_a_thumbnail_of_any_size_is_a_picture(shape: tuple[int, int]) -> None:
    picture = viz.gain_thumbnail(np.full(shape, 1.0))
    assert picture.shape[0] >= shape[0]
    assert picture.shape[1] >= shape[1]
    assert (picture == _ink(GAIN_SCALE[2][1])).all()


def test_a_map_without_colours_breaks_no_thumbnail() -> None:
    assert (viz.gain_thumbnail(np.full((2, 3), np.nan)) == 128).all()
