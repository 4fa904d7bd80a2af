"""The forest plot draws every adapter once, noise as noise, and the mean with both its intervals."""

import math

import pytest

from viz import ForestRow, Pooled, forest

ROWS = (
    ForestRow("run/a", 2.0, 1.0, 3.0, "win", "p 0.010", "key a"),
    ForestRow("run/<b>", -0.5, -2.0, 1.0, "tie", "p 0.300", "key b"),
    ForestRow("run/c", -2.0, -3.0, -1.0, "loss", "p 0.020", "key c"),
    ForestRow("one example", 0.5, math.nan, math.nan, "tie", "p unknown", "key d"),
)
POOLED = Pooled("mean over 4 adapters", 0.1, (-1.0, 1.2), (-1.5, 1.7), "tie")


def test_every_adapter_is_one_mark_with_its_interval_its_verdict_and_its_key():
    drawn = forest(ROWS, POOLED, title="Δ loss", unit="nats")
    marks = {}
    for trace in drawn.data[:3]:
        for at, name in enumerate(trace.y):
            bars = trace.error_x
            marks[name] = (
                trace.name.split(":")[0],
                trace.customdata[at][0],
                trace.x[at] - bars.arrayminus[at],
                trace.x[at] + bars.array[at],
            )
    assert marks["run/a"] == ("win", "key a", 1.0, 3.0)
    assert marks["run/&lt;b&gt;"] == ("tie", "key b", -2.0, 1.0)
    assert marks["run/c"] == ("loss", "key c", -3.0, -1.0)
    assert marks["one example"] == ("tie", "key d", 0.5, 0.5)
    symbols = {trace.name.split(":")[0]: trace.marker.symbol for trace in drawn.data[:3]}
    assert len(set(symbols.values())) == 3, "told apart without colour"
    assert list(drawn.layout.yaxis.categoryarray) == [
        "run/a",
        "run/&lt;b&gt;",
        "run/c",
        "one example",
        "mean over 4 adapters",
        "Student's interval",
    ]


def test_the_mean_has_both_intervals_and_the_bootstraps_is_shaded():
    drawn = forest(ROWS, POOLED, title="Δ loss", unit="nats")
    ends = [(t.x[0] - t.error_x.arrayminus[0], t.x[0] + t.error_x.array[0]) for t in drawn.data[3:]]
    assert ends == [pytest.approx(POOLED.interval), pytest.approx(POOLED.student)]
    shaded = [(shape.x0, shape.x1) for shape in drawn.layout.shapes if shape.type == "rect"]
    assert shaded == [POOLED.interval]
    alone = forest(
        ROWS[:1], Pooled("one adapter", 2.0, (1.0, 3.0), (math.nan, math.nan), "win"), title="", unit=""
    )
    assert [trace.y[0] for trace in alone.data[3:]] == ["one adapter"]


def test_nothing_answered_is_an_empty_figure_with_its_reason():
    assert "no adapter has answered" in forest((), None, title="x", unit="nats").layout.annotations[0].text
