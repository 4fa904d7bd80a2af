"""Expressions of any origin are compiled within bounds."""

import math
import time

import pytest

from surgery.files import compile_pattern, seconds_of


def test_a_usual_expression_compiles_and_matches():
    assert compile_pattern(r"layers\.\d{1,3}\.").search("model.layers.12.mlp")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (None, "no text"),
        (3, "no text"),
        ("a" * 100_001, "longer than"),
        ("(?:a{3000}){3000}", "copies"),
        ("a{99999999999}", "copies"),
        ("(?:(?:a{20}){30}){20}", "copies"),
        ("(", "missing"),
        ("(" * 50_000 + ")" * 50_000, "nested"),
    ],
)
def test_what_cannot_be_used_is_refused_promptly_in_one_line(pattern, reason):
    began = time.process_time()
    with pytest.raises(ValueError, match=reason) as caught:
        compile_pattern(pattern)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - began < 2


def test_as_many_copies_as_are_allowed_compile():
    assert compile_pattern("(?:a{100}){100}").fullmatch("a" * 10_000)
    with pytest.raises(ValueError, match="copies"):
        compile_pattern("(?:a{100}){101}")


def test_what_is_left_of_a_budget_is_a_limit_and_nothing_left_is_none():
    assert seconds_of(0.5) == 0.5
    assert seconds_of(1e-9) == 1e-3
    for spent in (0.0, -1.0, math.nan):
        with pytest.raises(TimeoutError):
            seconds_of(spent)
