"""Errors of one line that travel between processes."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from surgery.errors import DataError, SurgeryError


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
