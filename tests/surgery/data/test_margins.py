"""Margins are read from short texts, written as they are read, and refused where they could not be missed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import EvaluationPlan, Margins, margins_from, parse_plan, plan_record
from surgery.errors import DataError, RecipeError


@pytest.mark.parametrize(
    ("texts", "points", "nats"),
    [(["1point", "0.005nats"], 1, 0.005), (["2.5 points"], 2.5, None), (["1e-3 nat"], None, 0.001)],
)
def test_texts_name_margins(texts: list[str], points: float | None, nats: float | None) -> None:
    assert margins_from(texts) == Margins(points, nats)


def test_no_text_names_no_margin() -> None:
    assert margins_from(()) is None


@pytest.mark.parametrize(
    "texts",
    [["1"], ["0points"], ["100 points"], ["-1 point"], ["1point", "2points"], ["1.2.3 nats"], ["inf nats"]],
)
def test_what_is_no_margin_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError):
        margins_from(texts)


@given(st.none() | st.floats(1e-6, 99), st.none() | st.floats(1e-9, 1e9))
def test_the_texts_of_margins_name_them_again(points: float | None, nats: float | None) -> None:
    if points is None and nats is None:
        with pytest.raises(DataError):
            Margins(points, nats)
        return
    margins = Margins(points, nats)
    assert margins_from(margins.texts) == margins


def test_a_plan_of_rows_keeps_its_margins_and_a_broken_one_is_told_by_its_place() -> None:
    plan = EvaluationPlan("rows.jsonl", margin=("1.0 points", "0.005 nats"))
    assert plan.margins == Margins()
    assert parse_plan(EvaluationPlan, plan_record(plan), "evaluation") == plan
    assert "margin" not in plan_record(EvaluationPlan("rows.jsonl"))
    with pytest.raises(RecipeError, match="evaluation: 'much' is no margin"):
        parse_plan(EvaluationPlan, {"data": "rows.jsonl", "margin": ["much"]}, "evaluation")
