"""Whatever is asked of it, no more bytes are held than the bound."""

from hypothesis import given
from hypothesis import strategies as st

from surgery.adapter_sets import holding as module

ACTS = st.lists(st.tuples(st.sampled_from(["put", "get", "aside"]), st.integers(0, 5), st.integers(1, 60)))


@given(ACTS, st.integers(20, 100))
def test_no_more_bytes_are_held_than_the_bound(acts, most):
    holding = module.Holding(most)
    sizes = {}
    for act, key, size in acts:
        if act == "put":
            holding.put(key, ("value", key), sizes.setdefault(key, size))
        elif act == "get":
            assert holding.get(key) in (None, ("value", key))
        elif size <= most:
            with holding.aside(size):
                holding.put(key, ("value", key), sizes.setdefault(key, 10))
                assert size <= holding.held <= most
        assert holding.held <= holding.peak <= most
        assert holding.held == sum(sizes[key] for key in sizes if holding.get(key))


def test_what_was_used_last_stays():
    holding = module.Holding(30)
    for key in "abc":
        holding.put(key, key, 10)
    holding.get("a")
    holding.put("d", "d", 10)
    assert [holding.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_what_fits_nowhere_is_not_kept_and_costs_nothing_its_place():
    holding = module.Holding(30)
    holding.put("small", 1, 10)
    holding.put("large", 2, 31)
    assert (holding.get("small"), holding.get("large")) == (1, None)
