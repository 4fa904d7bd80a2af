"""The ways in their order, and what is said of them."""

import pytest

from surgery.model import Way, ways


@pytest.mark.parametrize("layout", ways.LAYOUTS)
def test_ways_go_from_the_fastest_to_one_without_a_cache(layout):
    order = list(ways.decoding_ways(layout))
    assert order[0] == Way(layout)
    assert (order[-1].cached, order[-1].decoding) == (False, layout)
    assert all(way.cached for way in order[:-1])
    assert len(set(order)) == len(order)
    assert {way.scoring for way in order} == {layout}


@pytest.mark.parametrize("layout", ways.LAYOUTS)
def test_every_way_but_the_fastest_is_told_in_one_sentence_of_its_own(layout):
    fastest, *others = ways.decoding_ways(layout)
    assert ways.decoding_note("Model", fastest) == ""
    notes = [ways.decoding_note("Model", way) for way in others]
    assert len(set(notes)) == len(notes)
    assert all(note.startswith("Model ") and note.endswith(".") and ". " not in note for note in notes)
    assert bool(ways.scoring_note("Model", layout)) == (layout != "left")
