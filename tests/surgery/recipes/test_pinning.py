"""A written recipe names the commits of what it took from the hub."""

from dataclasses import replace

import pytest

from surgery.data import CalibrationPlan, EvaluationPlan, TextPlan
from surgery.model import BaseChoice
from surgery.recipes import Recipe, demo_plans, dump_recipe, parse_recipe, pinned

MODEL, DATA = "a" * 40, "b" * 40
RECIPE = Recipe(
    "some/adapter",
    "abc",
    BaseChoice("owner/name"),
    CalibrationPlan("hub:owner/rows/main:train"),
    evaluation=EvaluationPlan("hub:owner/rows@main/main:test"),
    tuning=CalibrationPlan("rows.jsonl"),
    guards=(EvaluationPlan("hub:owner/rows@main/main:other"), TextPlan("demo:text")),
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub client's cache with one model and one data set."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for folder, commit in {"models--owner--name": MODEL, "datasets--owner--rows": DATA}.items():
        (tmp_path / folder / "refs").mkdir(parents=True)
        (tmp_path / folder / "refs" / "main").write_text(commit)
    return tmp_path


def test_names_on_the_hub_are_pinned_to_the_commits_in_the_cache(cache):
    found = pinned(RECIPE)
    assert found.base.revision == MODEL
    assert found.calibration.data == f"hub:owner/rows@{DATA}/main:train"
    assert found.evaluation.data == f"hub:owner/rows@{DATA}/main:test"
    assert found.tuning == RECIPE.tuning
    assert found.guards == (EvaluationPlan(f"hub:owner/rows@{DATA}/main:other"), TextPlan("demo:text"))
    assert pinned(found) == found


def test_a_revision_behind_a_name_is_pinned_as_one_beside_it(cache):
    (cache / "models--owner--name" / "refs" / "v1").write_text("c" * 40)
    text = dump_recipe(RECIPE).replace("location: owner/name", "location: owner/name@v1")
    assert pinned(parse_recipe(text)).base == BaseChoice("owner/name", "c" * 40)


def test_a_commit_that_was_chosen_stays(cache):
    chosen = replace(RECIPE, base=BaseChoice("owner/name", "c" * 40))
    assert pinned(chosen).base == chosen.base


def test_what_is_no_name_on_the_hub_or_was_never_fetched_stays(cache, tmp_path):
    base, calibration, evaluation = demo_plans("demo:kinship")
    demo = Recipe("demo:kinship", "", base, calibration, evaluation=evaluation)
    assert pinned(demo) == demo
    absent = replace(RECIPE, base=BaseChoice("other/name"), calibration=CalibrationPlan(f"hub:{tmp_path}:train"))
    assert pinned(absent).base == absent.base
    assert pinned(absent).calibration == absent.calibration


def test_a_reference_that_holds_no_commit_is_not_believed(cache):
    (cache / "models--owner--name" / "refs" / "main").write_text("../../evil")
    assert pinned(RECIPE).base.revision is None
