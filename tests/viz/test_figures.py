"""Figures hold the numbers they were given; no data gives an empty titled figure."""

import colorsys

import numpy as np
import pytest

import viz
from viz.style import GAIN_SCALE, HARMFUL, HELPFUL, NEUTRAL


def bars(figure, name: str, row: int) -> dict[int, float]:
    """Component → value of the bars of one standing in a row of panels."""
    axis = "y" if row == 1 else f"y{row + 1}"  # the second axis belongs to the first panel's line
    (trace,) = [t for t in figure.data if t.type == "bar" and t.name == name and (t.yaxis or "y") == axis]
    return dict(zip(trace.x, trace.y, strict=True))


def test_a_module_is_drawn_by_standing_with_every_number() -> None:
    sigma, mean = np.array([3.0, 2.0, 1.0]), np.array([0.5, -0.5, 0.1])
    figure = viz.module_spectrum(
        sigma,
        np.cumsum(sigma**2) / 14,
        title="<m>",
        standing=np.array([1, -1, 0]),
        mean=mean,
        mean_error=np.array([0.1, 0.2, 0.3]),
        agreement=np.array([0.9, 0.8, 0.5]),
        magnitude=np.array([0.6, 0.7, 0.3]),
        magnitude_error=np.array([0.01, 0.02, 0.03]),
    )
    assert "<m>" not in figure.layout.title.text
    for row, values in enumerate([sigma, mean, np.array([90, 80, 50]), np.array([0.6, 0.7, 0.3])], start=1):
        assert bars(figure, "hurts", row) == {0: pytest.approx(values[0])}
        assert bars(figure, "helps", row) == {1: pytest.approx(values[1])}
        assert bars(figure, "neutral within noise", row) == {2: pytest.approx(values[2])}
    by_name = {trace.name: trace for trace in figure.data if trace.showlegend is not False}
    assert [by_name[name].marker.color for name in ("hurts", "helps")] == [HARMFUL, HELPFUL]
    assert by_name["neutral within noise"].marker.color == NEUTRAL
    assert by_name["hurts"].marker.pattern.shape  # a mark that needs no colour
    np.testing.assert_allclose(by_name["cumulative energy, %"].y, 100 * np.cumsum(sigma**2) / 14)
    assert [list(t.error_y.array) for t in figure.data if t.name == "helps" and t.error_y.array is not None] == [
        [0.2],
        [0.02],
    ]


def hue(colour: str) -> float:
    """In degrees: 0 is red, 180 cyan."""
    red, green, blue = (channel / 255 for channel in _ink(colour))
    return 360 * colorsys.rgb_to_hsv(red, green, blue)[0]


def is_red(colour: str) -> bool:
    return min(hue(colour), 360 - hue(colour)) < 15


def is_teal(colour: str) -> bool:
    return 165 < hue(colour) < 195


def test_what_helps_and_is_raised_is_teal_what_hurts_and_is_lowered_is_red_as_the_pages_say() -> None:
    # a gradient below 0 says that raising σ lowers the loss
    by_sign = {standing.code: standing for standing in viz.STANDINGS}
    assert [by_sign[code].name for code in (-1, 0, 1)] == ["helps", "neutral", "hurts"]
    assert is_teal(by_sign[-1].colour)
    assert is_red(by_sign[1].colour)
    assert not is_red(by_sign[0].colour)
    assert not is_teal(by_sign[0].colour)
    lowest, highest = GAIN_SCALE[0][1], GAIN_SCALE[-1][1]
    assert is_red(lowest)
    assert is_teal(highest)
    sent = {standing["code"]: standing["colour"] for standing in viz.PALETTE["standings"]}
    assert sent == {code: standing.colour for code, standing in by_sign.items()}
    assert viz.PALETTE["gains"] == [colour for _, colour in GAIN_SCALE]


def test_a_module_that_was_not_measured_is_sigma_and_energy_alone() -> None:
    figure = viz.module_spectrum(np.array([2.0, 1.0]), np.array([0.8, 1.0]), title="m", log=True)
    assert [trace.type for trace in figure.data] == ["bar", "scatter"]
    assert list(figure.data[0].y) == [2.0, 1.0]
    assert figure.layout.yaxis.type == "log"


def test_all_spectra_stand_in_their_rows_and_columns() -> None:
    figure = viz.all_spectra(
        ["o_proj", "no <layer>"],
        ["0", "1"],
        np.array([0, 0, 0, 1]),
        np.array([-0.2, 0.2, 1.0, 0.0]),
        np.array([0.4, 0.4, 0.8, 0.8]),
        np.array([3.0, 2.0, 1.0, 5.0]),
        ["a <0>", "a 1", "b 0", "c 0"],
        title="t",
        measure="σ",
        standing=np.array([1, -1, -1, 2]),
    )
    drawn = {(trace.name, trace.yaxis or "y"): dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert drawn == {
        ("helps", "y"): {0.2: 2.0, 1.0: 1.0},
        ("hurts", "y"): {-0.2: 3.0},
        ("not measured", "y2"): {0.0: 5.0},
    }
    assert not any("<" in words for trace in figure.data for words in trace.customdata)
    assert "<" not in figure.layout.yaxis2.title.text


def test_curves_over_depth_stand_beside_shares_of_energy() -> None:
    shares = np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    figure = viz.over_depth(
        {"o": ([0, 1], [2.0, 3.0]), "q": ([1], [4.0])}, [0, 1], shares, title="t", measure="rank", of="q"
    )
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert drawn["o"] == ([0, 1], [2.0, 3.0])
    assert drawn["q"] == ([1], [4.0])
    for column, name in enumerate(("helps", "neutral within noise", "hurts")):
        assert drawn[name] == ([0, 1], list(100 * shares[:, column]))


def test_stability_holds_its_curves_and_leaves_gaps_where_nothing_is_known() -> None:
    curves = {"a": [0.5, 0.9], "b": [-0.4, 0.1], "c": [float("nan"), 1.0]}
    figure = viz.ranking_stability([32, 128], curves, title="t")
    for trace, values in zip(figure.data, curves.values(), strict=True):
        assert list(trace.x) == ["32", "128"]
        np.testing.assert_equal(list(trace.y), values)
    assert figure.layout.yaxis.range[0] < -0.4


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
        viz.over_depth({}, [], np.zeros((0, 3)), title="t", measure="m", of="all"),
        viz.all_spectra([], [], np.zeros(0, int), *[np.zeros(0)] * 3, [], title="t", measure="m"),
        viz.ranking_stability([], {}, title="t"),
        viz.effect_intervals([], [], [], [], title="t", unit="u", lower_is_better=True),
        viz.sweep_curve([], [], [], [], [], title="t", knob="k"),
        viz.dose_response([], ([], [], []), ([], [], []), title="t", unit="nats"),
        viz.training_curve([], [], 0, title="t"),
    ]
    for figure in empty:
        assert figure.layout.title.text == "t"
        assert not figure.data
        assert figure.layout.annotations


def test_a_dose_curve_draws_the_edit_and_the_scale_of_its_size_with_their_intervals():
    edit, scale = ([0.0, -0.2], [0.0, -0.3], [0.0, -0.05]), ([0.0, 0.1], [0.0, 0.0], [0.0, 0.3])
    figure = viz.dose_response([0.0, 1.0], edit, scale, title="t", unit="nats")
    assert [trace.name for trace in figure.data] == ["edit", "plain scale of the same size"]
    for trace, (means, lows, highs) in zip(figure.data, (edit, scale), strict=True):
        assert list(trace.x) == [0.0, 1.0]
        assert list(trace.y) == means
        ends = [mean - down for mean, down in zip(trace.y, trace.error_y.arrayminus, strict=True)]
        assert ends == pytest.approx(lows)
        assert [m + up for m, up in zip(trace.y, trace.error_y.array, strict=True)] == pytest.approx(highs)


def test_a_training_curve_begins_with_the_tuning_rows_before_the_first_epoch() -> None:
    figure = viz.training_curve([3.0, 2.0], [2.5, 2.0, 2.25], 1, title="t")
    tuning, calibration = figure.data
    assert (list(tuning.x), list(tuning.y)) == ([0, 1, 2], [2.5, 2.0, 2.25])
    assert (list(calibration.x), list(calibration.y)) == ([1, 2], [3.0, 2.0])
    (mark,) = figure.layout.shapes
    assert mark.x0 == mark.x1 == 1


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


def test_budget_curves_keep_every_number_with_its_band_and_its_first_order_beside_it():
    bands = ([-0.01, -0.02], [-0.03, -0.03], [0.01, -0.01])
    figure = viz.budget_curves([viz.BudgetCurve("<p>", [32, 64], bands, [-0.05, -0.04])], title="t")
    curve, first = figure.data
    assert (list(curve.x), list(curve.y)) == ([32, 64], [-0.01, -0.02])
    np.testing.assert_allclose(curve.error_y.array, [0.02, 0.01])
    np.testing.assert_allclose(curve.error_y.arrayminus, [0.02, 0.01])
    assert list(first.y) == [-0.05, -0.04]
    assert "<p>" not in curve.name
    assert list(figure.layout.xaxis.tickvals) == [32, 64]
    assert not viz.budget_curves([viz.BudgetCurve("p", [], ([], [], []), [])], title="t").data


def test_a_protected_front_has_a_point_for_every_edit_with_its_bands():
    bands = [(-0.03, -0.04, -0.02), (-0.02, -0.03, -0.01)]
    costs = [(0.01, 0.0, 0.03), (0.0, -0.01, 0.02)]
    drawn = viz.protected_front(["μ 0", "μ 1"], bands, costs, title="t", chosen="μ 1").data[0]
    assert (drawn.x, drawn.y) == ((-0.03, -0.02), (0.01, 0.0))
    assert drawn.error_y.array == pytest.approx((0.02, 0.02))
    assert drawn.error_x.arrayminus == pytest.approx((0.01, 0.01))
    assert drawn.marker.size[1] > drawn.marker.size[0]
    assert not viz.protected_front([], [], [], title="t").data


TRIED = [
    viz.TriedPoint("trial 1", ((0.1, 0.0, 0.2), (0.3, 0.2, 0.4)), False),
    viz.TriedPoint("trial 2", ((-0.2, -0.3, -0.1), (0.2, 0.1, 0.3)), True),
    viz.TriedPoint("trial 3", ((-0.5, -0.6, 0.1), (0.4, -0.3, 0.5)), True, noise=True),
    viz.TriedPoint("trial 4", ((0.9, 0.8, 1.0), (0.9, 0.8, 1.0)), False, finished=False),
]


def test_a_search_draws_its_front_in_order_and_apart_from_what_was_dominated_or_stopped() -> None:
    x, y = viz.FrontAxis("loss"), viz.FrontAxis("right answers", higher_is_better=True)
    figure = viz.search_front(TRIED, x, y, title="t", chosen="trial 2")
    drawn = {trace.name: trace for trace in figure.data}
    assert list(drawn) == ["stopped early, first rows only", "dominated", "front", "unedited adapter"]
    front = drawn["front"]
    assert (list(front.x), list(front.customdata)) == ([-0.5, -0.2], ["trial 3", "trial 2"])
    np.testing.assert_allclose(front.error_x.array, [0.6, 0.1])
    np.testing.assert_allclose(front.error_y.arrayminus, [0.7, 0.1])
    assert list(front.marker.symbol) == ["circle-open", "circle"], "what is within noise is hollow"
    assert front.marker.size[1] > front.marker.size[0]
    assert (front.mode, front.line.shape) == ("lines+markers", "hv")
    other_way = viz.search_front(TRIED, y, x, title="t")
    assert next(trace for trace in other_way.data if trace.name == "front").line.shape == "vh"
    assert {trace.mode for trace in viz.search_front(TRIED, x, y, title="t", joined=False).data} == {"markers"}
    assert list(drawn["stopped early, first rows only"].customdata) == ["trial 4"]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (
        "loss (← better)",
        "right answers (↑ better)",
    )


def test_one_objective_is_drawn_along_the_trials_and_the_unedited_adapter_is_none_of_them() -> None:
    figure = viz.search_front(TRIED[:1], viz.FrontAxis("trial", unedited=None), viz.FrontAxis("loss"), title="t")
    assert [trace.name for trace in figure.data] == ["dominated"]
    assert figure.layout.xaxis.title.text == "trial"
    assert not viz.search_front([], viz.FrontAxis("a"), viz.FrontAxis("b"), title="t").data


def test_own_task_against_guards_has_every_variant_with_both_intervals_in_a_panel_for_each_guard() -> None:
    gains = {"edit": (2.0, 1.0, 3.5), "random 0": (-1.0, -2.0, 0.5), "other": (-6.0, -7.0, -5.0)}
    kinds = {"edit": "edit", "random 0": "control", "other": "other edit"}
    panels = [
        viz.GuardPanel("<a> text", "nats per token", {"edit": (0.01, -0.01, 0.02), "random 0": (0.0, -0.1, 0.1)}),
        *(viz.GuardPanel(f"task {n}", "points", dict.fromkeys(gains, (float(n), 0.0, 9.0))) for n in range(3)),
    ]
    figure = viz.own_against_guards(gains, kinds, panels, title="own", unit="points")
    drawn = {(trace.xaxis, text): (trace, at) for trace in figure.data for at, text in enumerate(trace.text)}
    assert len(drawn) == 2 + 3 * 3, "a variant that a guard was not asked of is in no panel of it"
    trace, at = drawn["x", "edit"]
    assert (trace.x[at], trace.y[at]) == (0.01, 2.0)
    assert (trace.error_x.array[at], trace.error_x.arrayminus[at]) == pytest.approx((0.01, 0.02))
    assert (trace.error_y.array[at], trace.error_y.arrayminus[at]) == (1.5, 1.0)
    assert {trace.name for trace in figure.data if trace.showlegend} == {"edit", "control", "other edit"}
    assert len([trace for trace in figure.data if trace.showlegend]) == 3
    assert figure.layout.xaxis.title.text == "cost, nats per token"
    assert not any("<a>" in note.text for note in figure.layout.annotations)
    assert viz.own_against_guards({}, {}, [], title="own", unit="points").layout.annotations
