"""The flow of right answers: heights are counts, nothing overlaps, and a mark carries the stream it stands for."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viz import Stream, outcome_flow
from viz.style import AFTER, CHOSEN, HARMFUL, HELPFUL, NEUTRAL

PATHS = ["".join(path) for path in product("10", repeat=3)]
COLUMNS = ("Base", "Adapter", "Edited")


def drawn(counts):
    return outcome_flow([Stream(path, f"way {path}", n) for path, n in counts.items()], COLUMNS, title="<t>")


def spans(figure, counts) -> list[dict[str, tuple[float, float]]]:
    """Top and bottom of each stream in every column, read off the shapes."""
    shown = sorted((path for path, count in counts.items() if count), reverse=True)
    ribbons = dict(zip(shown, figure.data, strict=False))
    found = []
    for column in range(3):
        found.append({})
        for path, trace in ribbons.items():
            ends = np.unique(np.round(np.array(trace.y)[np.array(trace.x) == column], 12))
            found[-1][path] = (ends[0], ends[-1])
    return found


@settings(max_examples=8)
@given(st.lists(st.integers(0, 50), min_size=8, max_size=8).filter(any))
def test_each_stream_is_as_high_as_its_count_and_right_ones_stand_above_wrong_ones(numbers) -> None:
    counts = dict(zip(PATHS, numbers, strict=True))
    total = sum(numbers)
    for column, places in enumerate(spans(drawn(counts), counts)):
        for path, (top, bottom) in places.items():
            assert bottom - top == pytest.approx(counts[path] / total)
        ordered = sorted(places.items(), key=lambda item: item[1])
        for (_, (_, end)), (_, (begin, _)) in pairwise(ordered):
            assert begin >= end - 1e-9
        assert [path[column] for path, _ in ordered] == sorted((p[column] for p in places), reverse=True)


@settings(max_examples=8)
@given(st.lists(st.integers(0, 400), min_size=8, max_size=8).filter(any))
def test_marks_carry_their_paths_in_the_order_of_the_streams_and_can_be_told_apart(numbers) -> None:
    counts = dict(zip(PATHS, numbers, strict=True))
    figure = drawn(counts)
    marks = figure.data[-1]
    assert sorted(marks.customdata) == sorted(path for path, count in counts.items() if count)
    ends = spans(figure, counts)[-1]
    assert list(marks.customdata) == sorted(ends, key=lambda path: sum(ends[path]))
    assert all(np.diff(marks.y) >= 0.068 - 1e-9)
    words = [note.text for note in figure.layout.annotations]
    assert all(any(f"<b>{counts[path]}</b>  way {path}" in text for text in words) for path in marks.customdata)


def test_colours_tell_what_the_last_column_changed_and_headings_count() -> None:
    figure = drawn(dict.fromkeys(PATHS, 2))
    inks = dict(zip(figure.data[-1].customdata, figure.data[-1].marker.color, strict=True))
    assert inks == {
        "111": NEUTRAL, "000": NEUTRAL, "101": HELPFUL, "001": HELPFUL,
        "110": HARMFUL, "010": HARMFUL, "011": AFTER, "100": CHOSEN,
    }  # fmt: skip
    headings = [note.text for note in figure.layout.annotations if note.text.startswith("<b>Adapter")]
    assert headings == ["<b>Adapter</b>, 50.0%<br>8 right, 8 wrong"]
    assert "<t>" not in figure.layout.title.text


def test_without_an_example_it_says_so() -> None:
    assert "no example" in drawn(dict.fromkeys(PATHS, 0)).layout.annotations[0].text
