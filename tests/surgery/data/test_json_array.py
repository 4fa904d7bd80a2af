"""Items of JSON arrays, against what json finds in the whole text."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import Row, json_array, read_source


@given(
    st.lists(st.recursive(st.none() | st.text(max_size=6) | st.integers(), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6), max_size=5),
    st.sampled_from([None, 1]),
    st.integers(0, 12),
)  # fmt: skip
def test_the_items_of_an_array_are_those_that_json_finds_however_the_text_is_cut(items, indent, cut):
    text = json.dumps(items, indent=indent).removeprefix("[")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_CHUNK", cut + 1)
        found = [json.loads(item) for item in json_array.array_items(io.StringIO(text), "a.json")]
    assert found == items


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        ('[{"prompt": "a", "answer": "b"}, {"prompt": "c", "ans', 1),  # cut off
        ('[{"prompt": "a", "answer": "b"},', 1),
        ('[{"prompt": "a", "answer": "b"}] [1]', 1),
        ('[{"prompt": "a", "answer": "b"},, 3]', 2),
        ('[{"prompt": "a", "answer": "b"},\n]\n', 0),
    ],
)
def test_an_array_that_is_damaged_gives_its_whole_items_and_says_what_is_odd(text, odd, tmp_path):
    (tmp_path / "rows.json").write_text(text)
    found = read_source(str(tmp_path / "rows.json"))
    assert found.rows == (Row("a", "b"),)
    assert sum(found.left_out.values()) == odd
    assert ("item 2 of 'rows.json'" in found.problem) == bool(odd)
