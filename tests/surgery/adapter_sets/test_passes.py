"""Modules are taken as many at a time as fit, each once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.adapter_sets import passes
from surgery.errors import DataError

SIZES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20)


@given(SIZES, st.integers(0, 50), st.integers(180, 400))
def test_every_module_has_one_place_and_no_portion_is_larger_than_the_room(sizes, largest, room):
    factors = {str(at): size for at, (size, _) in enumerate(sizes)}
    spectra = {str(at): size for at, (_, size) in enumerate(sizes)}
    if largest + 3 * max(spectra.values()) + max(factors.values()) > room:
        with pytest.raises(DataError, match="one module of all these adapters"):
            passes.portions(factors, spectra, largest, room)
        return
    found = passes.portions(factors, spectra, largest, room)
    assert [name for portion in found for name in portion.modules] == list(factors)
    assert all(portion.size <= room for portion in found)
    # greedy: the next module would not have fitted
    for portion, after in pairwise(found):
        assert portion.size + factors[after.modules[0]] > room


def test_where_all_fits_it_is_one_portion():
    (portion,) = passes.portions({"a": 5, "b": 6}, {"a": 10, "b": 20}, 7, 100)
    assert (portion.modules, portion.size) == (("a", "b"), 78)
