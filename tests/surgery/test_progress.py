"""How work tells how far it is, and is stopped."""

import pytest

from surgery.errors import Cancelled
from surgery.progress import SILENT, Control, Pace, duration


def test_nobody_is_told_and_nothing_stops_by_itself():
    SILENT.begin("a step")
    SILENT.progress(1, 2)
    SILENT.resumed(1, 2)
    SILENT.heed()


def test_work_is_stopped_once_it_is_to_stop():
    answers = iter([False, True])
    control = Control(cancelled=lambda: next(answers))
    control.heed()
    with pytest.raises(Cancelled):
        control.heed()


def test_a_part_counts_from_what_was_before_it_and_in_the_whole():
    told = []
    control = Control(progress=lambda done, total: told.append((done, total)), cancelled=lambda: True)
    part = control.part(5, 20)
    part.progress(0, 3)
    part.progress(3, 3)
    assert told == [(5, 20), (8, 20)]
    with pytest.raises(Cancelled):
        part.heed()


def test_the_pace_of_tokens_counts_from_what_an_earlier_run_had_done():
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert (str(pace), pace.seconds_left, pace.share) == ("", None, 0.0)
    pace.tokens(400, 1000)
    assert str(pace) == "40% of the tokens"
    now[0] += 10
    pace.tokens(500, 1000)
    assert pace.seconds_left == 50
    assert str(pace) == "50% of the tokens, about 50 s left"
    pace.tokens(1000, 1000)
    assert str(pace) == ""
    pace.begin()
    assert (pace.total, pace.seconds_left) == (0, None)


def test_a_time_is_told_in_seconds_minutes_or_hours():
    assert [duration(seconds) for seconds in (0.2, 89, 90, 3600, 9000)] == [
        "1 s",
        "89 s",
        "2 min",
        "60 min",
        "2.5 h",
    ]
