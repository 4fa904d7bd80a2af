"""Answers and near-duplicates on the command line: what is asked, what is refused pair by pair, and what is kept."""

import json
from dataclasses import replace

import pytest

from surgery.cli import main
from surgery.data import NearDuplicate, Row
from surgery.edits import EditPlan
from surgery.policies import Scale
from surgery.recipes import dump_recipe
from surgery.runs import stored_run
from tests.helpers.workplace import ROWS, write_rows

STORY = "a dog and a cat went to the park where they met two birds and one small bee on the big green tree"


@pytest.fixture
def words(place, tmp_path):
    """`surgery evaluate` of a recipe whose calibration has a row that a held-out one repeats in another dress."""
    seen = write_rows(tmp_path / "seen.jsonl", [Row(STORY, "so"), *ROWS[:9]])
    held = write_rows(tmp_path / "held.jsonl", [*ROWS[30:33], Row(f"Q: {STORY.upper()}.", "so")])
    calibration = replace(place.calibration, data=seen, examples=10)
    edit = EditPlan(Scale(1.5), scope="all", energy="none")
    recipe = replace(place.recipe(), calibration=calibration, edit=edit, evaluation=None)
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    return ["evaluate", place.adapter, "--base", place.base.location, "--data", held, "--variant", str(file)]


def test_near_duplicates_are_refused_pair_by_pair_before_the_base_is_loaded(words, capsys, tmp_path):
    lost = [str(tmp_path / "no base") if word.endswith("base") and "/" in word else word for word in words]
    assert main(lost) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0].startswith("surgery: 1 of 4 held-out examples is nearly the same")
    assert "--allow-near-duplicates" in lines[0]
    assert lines[1].startswith("row 3 and ")
    assert lines[1].endswith(", the same words:")
    assert lines[2:] == [f"  Q: {STORY.upper()}.", f"  {STORY}"]
    assert main([*lost, "--json"]) == 2
    (pair,) = json.loads(capsys.readouterr().out)["near_duplicates"]
    assert NearDuplicate(**pair).held == "row 3"


def test_what_is_allowed_and_how_answers_are_marked_is_kept_with_the_run(words, capsys):
    asked = ["--allow-near-duplicates", "--filter", "lower", "remove: x", "--stop", "#", "--stop", "\n"]
    assert main([*words, *asked, "--json"]) == 0
    run = stored_run(json.loads(capsys.readouterr().out)["run"])
    assert run is not None
    rows = run.plan.question["rows"]
    assert (rows["filters"], rows["stop"], rows["near_duplicates"]) == (
        ["lower", "remove: x"],
        ["#", "\n"],
        "allow",
    )
    assert [pair["held"] for pair in run.plan.question["near_duplicates"]] == ["row 3"]
    assert [metric.name for metric in run.evaluation.metrics] == ["loss", "exact"]
    assert main([*words, "--allow-near-duplicates", "--loss-only"]) == 0
    told = capsys.readouterr().out
    assert "exact match, higher" not in told
    assert "nothing was generated" in told
    assert "row 3 and " in told


def test_a_filter_that_does_not_exist_is_one_line(words, capsys):
    assert main([*words, "--filter", "upper"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no filter 'upper'" in line
