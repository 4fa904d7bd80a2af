"""Records from YAML and JSON: checked value by value."""

import json
import math

import numpy as np
import pytest

from surgery.errors import RecipeError
from surgery.files import mapping_of, number_of, refuse_unknown, without_nan
from tests.helpers.refusals import refusal


def test_nothing_is_an_empty_mapping_and_another_value_is_none():
    assert mapping_of(None, "edit") == {}
    assert mapping_of({1: 2}, "edit") == {1: 2}
    for value in ([], "a: 1", 0, False):
        assert refusal(RecipeError, mapping_of, value, "edit.knobs").startswith("edit.knobs")


def test_numbers_are_numbers_and_neither_texts_nor_switches():
    assert [number_of(value, "x") for value in (2, 0.5, math.inf)] == [2.0, 0.5, math.inf]
    for value in (True, "1", None, [1]):
        assert "not a number" in refusal(RecipeError, number_of, value, "x")
    assert "too large" in refusal(RecipeError, number_of, 10**400, "x")


def test_an_unknown_setting_is_refused_with_the_known_ones():
    refuse_unknown({"a": 1}, {"a", "b"}, "edit")
    assert "'c'" in refusal(RecipeError, refuse_unknown, {"a": 1, "c": 2}, {"b", "a"}, "edit")
    assert "a, b" in refusal(RecipeError, refuse_unknown, {"c": 2}, {"b", "a"}, "edit")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_what_json_has_no_word_for_becomes_null_at_any_depth(bad):
    record = {"a": [1, (bad, np.int64(3))], "b": {"c": bad}, "d": np.float32(0.5), "e": True, "f": "nan"}
    plain = without_nan(record)
    expected = {"a": [1, [None, 3]], "b": {"c": None}, "d": 0.5, "e": True, "f": "nan"}
    assert json.loads(json.dumps(plain, allow_nan=False)) == expected
