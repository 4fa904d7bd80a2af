"""The ways in their order, and what is said of them."""

import pytest

from surgery.model import Way
from surgery.model.ways import LAYOUTS, decoding_note, decoding_ways, scoring_note


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ways_go_from_the_fastest_to_one_without_a_cache(layout):
    ways = list(decoding_ways(layout))
    assert ways[0] == Way(layout)
    assert (ways[-1].cached, ways[-1].decoding) == (False, layout)
    assert all(way.cached for way in ways[:-1])
    assert len(set(ways)) == len(ways)
    assert {way.scoring for way in ways} == {layout}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_way_but_the_fastest_is_told_in_one_sentence_of_its_own(layout):
    fastest, *others = decoding_ways(layout)
    assert decoding_note("Model", fastest) == ""
    notes = [decoding_note("Model", way) for way in others]
    assert len(set(notes)) == len(notes)
    assert all(note.startswith("Model ") and note.endswith(".") and ". " not in note for note in notes)
    assert bool(scoring_note("Model", layout)) == (layout != "left")
