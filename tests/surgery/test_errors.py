"""Errors of one line that travel between processes."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.errors import DataError, SurgeryError, first_line


@given(st.text(), st.text())
def test_every_message_is_one_line_of_bounded_length(problem, remedy):
    error = DataError(problem, remedy)
    assert len(str(error).splitlines()) <= 1
    assert error.problem == " ".join(problem.split())
    assert str(error) == f"{error.problem} → {error.remedy}"


def test_what_arrived_may_be_megabytes_and_the_message_is_not():
    error = SurgeryError("x" * 10**7, "y" * 10**7)
    assert len(error.problem) == len(error.remedy) == 1201
    assert error.problem.endswith("x…")


def test_an_error_is_the_same_after_it_was_pickled():
    back = pickle.loads(pickle.dumps(DataError("two words", "a way")))
    assert (type(back), back.problem, back.remedy, str(back)) == (
        DataError,
        "two words",
        "a way",
        "two words → a way",
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad size\nat line 3"), "bad size"),
        (OSError("\n  late\n"), "late"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 500), "x" * 160),
    ],
)
def test_an_error_of_another_library_is_its_first_line_or_its_class(error: Exception, said: str) -> None:
    assert first_line(error) == said
    name = type(error).__name__
    assert first_line(error, kind=True) == (name if said == name else f"{name}: {said}")
