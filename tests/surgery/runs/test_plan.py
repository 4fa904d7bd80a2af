"""What makes a run another run."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.evaluation import AGAIN, BASELINE
from tests.surgery.runs.conftest import PLAN

DEPENDS = [
    {"adapter_digest": "b" * 64},
    {"fingerprint": "0" * 64},
    {"asked": "r" * 64},
    *({"settings": {**PLAN.settings, name: "other"}} for name in PLAN.settings),
    {"settings": {**PLAN.settings, "lm-eval": "0.4"}},
]
VARIANTS = [
    {"variants": {BASELINE: "", "edit": "0" * 64}},
    {"variants": {BASELINE: "", "other name": "e" * 64}},
    {"variants": {BASELINE: ""}},
    {"variants": {"edit": "e" * 64, BASELINE: ""}},
    {"variants": {**PLAN.variants, AGAIN: AGAIN}},
    {"edit": "1" * 64},
    {"purpose": "dose"},
]
FREE = [
    {"adapter": "/moved/adapter"},
    {"base": {**PLAN.base, "location": "/moved/base"}},
    {"question": {"rows": {"data": "/moved/rows.jsonl"}}},
    {"edits": {}},
]


@pytest.mark.parametrize("change", DEPENDS, ids=lambda change: next(iter(change)))
def test_another_model_question_or_precision_is_another_run_and_shares_nothing(change):
    assert replace(PLAN, **change).key != PLAN.key
    assert replace(PLAN, **change).context != PLAN.context


@pytest.mark.parametrize("change", VARIANTS, ids=lambda change: next(iter(change)))
def test_other_variants_or_another_purpose_are_another_run_that_shares_answers(change):
    assert replace(PLAN, **change).key != PLAN.key
    assert replace(PLAN, **change).context == PLAN.context


@pytest.mark.parametrize("change", FREE, ids=lambda change: next(iter(change)))
def test_names_of_paths_do_not_make_another_run(change):
    assert replace(PLAN, **change).key == PLAN.key


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    st.text(max_size=3),
    st.text(max_size=3),
)
def test_no_two_sets_of_variants_have_one_key(first, second, edit, purpose):
    one = replace(PLAN, variants=first, edit=edit, purpose=purpose)
    other = replace(PLAN, variants=second, edit=edit, purpose=purpose)
    assert (one.key == other.key) == (list(first.items()) == list(second.items()))
