"""What an example counts of its tokens, for one sequence and for two."""

import pytest

from surgery.data import Example

CASES = [("CAUSAL_LM", 5, (5,), 5), ("SEQ_2_SEQ_LM", 5, (2, 3), 3)]


@pytest.mark.parametrize(("task", "length", "lengths", "span"), CASES)
def test_places_are_needed_for_the_longest_sequence_and_tokens_counted_in_all(task, length, lengths, span):
    example = Example("k", (7, 8), (9, 10, 2), "a", task=task)
    assert (example.length, example.lengths, example.span) == (length, lengths, span)
