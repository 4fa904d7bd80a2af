"""YAML of any origin gives plain values, or an error of one line before much is built."""

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from surgery.errors import RecipeError
from surgery.files import LONGEST, load_yaml, parse_yaml
from tests.helpers.refusals import refusal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_plain_values_come_back_as_pyyaml_wrote_them(value):
    assert load_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x", "aliases"),
        ("!!python/object/apply:os.system ['true']", "constructor"),
        ("!mine a", "tags of other kinds"),
        ("%TAG !e! tag:example.org,2000:\n---\n!e!x a", "tags of other kinds"),
        ("a: 1\nb: 2\na: 3", "'a' stands there twice"),
        ("x: {k: [1], k: 2}", "'k' stands there twice"),
        ("[" * 33 + "]" * 33, "nested too deeply"),
        ("[" + "1," * 64_001 + "]", "more than 32,000 entries"),
        ("a: " + "1:" * 600 + "1", "a number is too long"),
        ("a: " + "9" * 1001, "a number is too long"),
        ("#" * (LONGEST + 1), "longer than"),
        ("a: [1", "flow sequence"),
        ("a: 1\n---\nb: 2", "single document"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_promptly_in_one_line(text, reason):
    began = time.process_time()
    with pytest.raises(ValueError, match=reason) as caught:
        load_yaml(text)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - began < 5


def test_what_lies_just_within_the_limits_is_read():
    value = 1
    for _ in range(32):
        value = [value]
    assert load_yaml("[" * 32 + "1" + "]" * 32) == value
    assert load_yaml("a: " + "9" * 1000) == {"a": int("9" * 1000)}
    # names of other mappings and a long text are no number and not there twice
    assert load_yaml("a: {k: 1}\nb: {k: " + "x" * 5000 + "}") == {"a": {"k": 1}, "b": {"k": "x" * 5000}}


def test_the_refusal_names_what_the_text_was_to_be():
    assert refusal(RecipeError, parse_yaml, "a: [", "the sweep").startswith("the sweep is not YAML (")


def test_a_marked_tag_becomes_what_its_mark_makes_and_others_stay_refused():
    marks = {"!function": lambda text: ("not run", text)}
    assert load_yaml("a: !function os.getcwd\nb: [!function 'x y', 1]", marks) == {
        "a": ("not run", "os.getcwd"),
        "b": [("not run", "x y"), 1],
    }
    for text in ("a: !function [1]", "a: !other x"):
        with pytest.raises(ValueError, match="tags of other kinds"):
            load_yaml(text, marks)
    with pytest.raises(ValueError, match="could not determine a constructor"):
        load_yaml("a: !!python/name:os.getcwd x", marks)
    with pytest.raises(ValueError, match="tags of other kinds"):
        load_yaml("a: !function os.getcwd")
