"""Plain values on their way between two processes, and hostile data."""

import contextlib
import json
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from surgery.sandbox import pack, unpack

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=5)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.integers(2**62, 2**70),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_plain_values_come_back_as_they_were(value):
    back = unpack(json.loads(json.dumps(pack(value))))
    assert back == value
    assert repr(back) == repr(value)


def test_exact_numbers_keep_their_kind():
    for value in (Decimal("1.50"), Fraction(2, 4), 1 + 2j, -0.0, frozenset([1])):
        back = unpack(json.loads(json.dumps(pack(value))))
        assert (repr(back), type(back)) == (repr(value), type(value))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.sampled_from(
            ["int", "list", "dict", "range", "fraction", "decimal", "iterator", "complex", "bytes", "set"]
        ),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=10,
    )
)
def test_hostile_data_is_a_plain_value_or_an_ordinary_error(data):
    with contextlib.suppress(ValueError, TypeError, ArithmeticError):
        assert type(unpack(data)).__module__ in ("builtins", "decimal", "fractions")
