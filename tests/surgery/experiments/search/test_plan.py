"""Plans of searches and their records."""

import json
from dataclasses import replace

import pytest

from surgery.data import CalibrationPlan
from surgery.edits import EditPlan
from surgery.errors import DataError, PolicyError
from surgery.experiments.search import SearchPlan, SearchSpace, parse_search, read_judges, search_record, settings
from surgery.policies import Clip, Rank, knob_values
from tests.helpers.refusals import refusal
from tests.surgery.experiments.search.conftest import OTHER, TUNING

NAME = "model.layers.0.mlp.up_proj"
PLAN = SearchPlan(
    EditPlan(Clip(cap=float("inf")), manual={NAME: {2: 0.5}}, scope="gate-up"),
    TUNING,
    ("exact", "protected", "parameters"),
    SearchSpace(("cap",), ("strength", "scope")),
    OTHER,
    seed=7,
    race=False,
)


@pytest.mark.parametrize("plan", [PLAN, SearchPlan(EditPlan(), TUNING)])
def test_a_record_that_went_through_json_gives_the_same_plan(plan):
    assert parse_search(json.loads(json.dumps(search_record(plan)))) == plan


@pytest.mark.parametrize(
    "change",
    [{"seed": "7"}, {"seed": True}, {"race": 1}, {"more": 1}, {"objectives": ["speed"]}, {"space": {"knobs": None}},
     {"tuning": None}, {"start": {}}, {"space": 3}],
)  # fmt: skip
def test_a_record_that_was_made_up_is_no_plan(change):
    with pytest.raises((ValueError, LookupError, TypeError)):
        parse_search({**search_record(PLAN), **change})


def test_rows_are_read_for_the_objectives_that_ask_for_them():
    assert PLAN.slices == {"own": TUNING, "protected": OTHER}
    assert replace(PLAN, objectives=("protected-kl",)).slices == {"protected": OTHER}
    assert replace(PLAN, objectives=("loss",)).slices == {"own": TUNING}


def test_a_protected_objective_without_its_rows_and_a_seed_out_of_range_are_refused():
    assert "--protected-data" in refusal(PolicyError, replace, PLAN, protected=None)
    for seed in (-1, 2**32):
        assert "seed" in refusal(PolicyError, replace, PLAN, seed=seed)


def test_rows_that_edits_are_made_from_judge_none(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) for n in range(9)))
    calibration = CalibrationPlan(str(file), 4)
    apart = SearchPlan(EditPlan(), CalibrationPlan(str(file), 5, start=4))
    assert [len(each.rows) for each in read_judges(apart, calibration).values()] == [5]
    same = SearchPlan(EditPlan(), CalibrationPlan(str(file), 6, start=3))
    assert "1 of the own rows" in refusal(DataError, read_judges, same, calibration)
    assert list(read_judges(same, None)) == ["own"]


def test_settings_are_the_knobs_and_what_else_was_varied():
    start = EditPlan(Rank(keep=3), scope="all", energy="l2")
    own = knob_values(start.policy)
    assert settings(start, start) == own
    turned = replace(start, policy=Rank(keep=1), strength=0.5, energy="none")
    assert settings(start, turned) == {**own, "keep": 1, "energy": "none", "strength": 0.5}
    assert settings(turned, start)["strength"] == 1.0
    assert settings(start, None) == {}
