"""How work tells how far it is, and is stopped."""

import pytest

from surgery.errors import Cancelled
from surgery.progress import SILENT, Control


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
