"""The controls of an encoding: what they show of the present one, and what they make of it."""

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from surgery.data import APART, TOGETHER, Encoding

EARLIER = Encoding(separator=True, tokenised=APART, tokenizer="base")


def script(present):
    import streamlit as st

    from app.encoding_form import encoding_controls

    st.session_state["made"] = encoding_controls(present, "test")


def shown(present: Encoding) -> AppTest:
    test = AppTest.from_function(script, args=(present,)).run()
    assert not test.exception
    return test


@pytest.mark.parametrize(
    "present",
    [
        Encoding(),
        Encoding("plain", separator=True, eos=False),
        Encoding(system="Be brief.", template_args='{"enable_thinking": false}', date="2026-01-31"),
        Encoding("own.jinja", tokenizer="base"),
        EARLIER,
    ],
)
def test_untouched_controls_make_the_encoding_that_they_show(present):
    assert shown(present).session_state["made"] == present


def test_the_rule_of_earlier_versions_is_shown_and_left_by_a_click():
    test = shown(EARLIER)
    test.checkbox(key="test-apart").uncheck().run()
    assert test.session_state["made"] == replace(EARLIER, tokenised=TOGETHER)
    assert "test-apart" not in [box.key for box in shown(Encoding()).checkbox]
