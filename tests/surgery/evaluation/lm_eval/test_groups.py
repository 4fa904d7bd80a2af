"""Groups of tasks: every task as `simple_evaluate` scores it, added up as it adds them up, changes paired likewise."""

import json
from dataclasses import replace

import numpy as np
import pytest

from surgery.data import TaskPlan
from surgery.errors import DataError
from surgery.evaluation import BASELINE
from surgery.evaluation.lm_eval import benchmarked, catalogue, load_task, run_task, task_files
from surgery.model import LoadedBase
from tests.helpers.lm_eval_reference import assert_same, theirs_by_name
from tests.helpers.own_tasks import own_tasks
from tests.surgery.evaluation.lm_eval.conftest import OneByOne, tiny_base

COUNTS = {"colours": 4, "numbers": 2, "words": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return own_tasks(tmp_path_factory.mktemp("own"), **COUNTS)


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedBase]:
    return {BASELINE: tiny_base(), "edited": tiny_base(seed=1)}


def engine(models: dict[str, LoadedBase]) -> OneByOne:
    return OneByOne({name: base.model for name, base in models.items()})


@pytest.mark.parametrize(
    ("name", "limit"), [("equal", None), ("sized", 2), ("nested", None), ("colours", 2), ("spoken", None)]
)
def test_every_name_scores_as_simple_evaluate_scores_it(name, limit, folder, models, datasets_cache):
    loaded = load_task(TaskPlan(name, limit, include_path=str(folder)))
    scores = run_task(loaded, engine(models), models[BASELINE])
    for variant, base in models.items():
        assert_same(scores, variant, theirs_by_name(name, folder, base, limit=limit), base.model)
    assert scores.macro == ({"acc,none"} if name == "equal" else frozenset())
    if name in ("equal", "sized", "nested"):
        sizes = [min(limit or count, count) for count in COUNTS.values()]
        assert len(scores.documents) == sum(sizes)
        found = [scores.aggregates["edited"][f"{task}/acc,none"] for task in COUNTS]
        expected = np.mean(found) if name == "equal" else np.average(found, weights=sizes)
        assert scores.aggregates["edited"]["acc,none"] == pytest.approx(expected)


def test_the_tasks_that_a_tag_names_are_asked_together_and_added_up_by_nobody(folder, models, datasets_cache):
    loaded = load_task(TaskPlan("choosing", include_path=str(folder)))
    scores = run_task(loaded, engine(models), models[BASELINE])
    base = models["edited"]
    assert_same(scores, "edited", theirs_by_name("choosing", folder, base), base.model)
    assert all("/" in key for key in scores.aggregates["edited"])
    assert len(scores.numbers("edited")) == sum(COUNTS.values())


def test_the_paired_change_of_a_group_is_the_change_of_its_total(folder, models):
    for name in ("equal", "sized"):
        loaded = load_task(TaskPlan(name, include_path=str(folder)))
        found = benchmarked(loaded, engine(models), models[BASELINE])
        totals = {variant: found.aggregates[variant]["acc,none"] for variant in models}
        effect = found.effect("edited", "acc,none")
        assert effect.mean == pytest.approx(totals["edited"] - totals[BASELINE])
        assert found.mean("edited", "acc,none") == pytest.approx(totals["edited"])
        assert effect.low <= effect.mean <= effect.high
        assert [sample.part for sample in found.samples] == [
            n for n, count in COUNTS.items() for _ in range(count)
        ]
        # the exact test counts documents, whatever their task
        test = found.tests("acc,none")["edited"]
        change = found.numbers("edited", "acc,none") - found.numbers(BASELINE, "acc,none")
        assert (test.gained, test.lost) == (int((change > 0).sum()), int((change < 0).sum()))
        assert change.any()


def test_local_files_of_a_group_are_named_by_task_and_split(folder, tmp_path, models):
    lines = (folder / "numbers.jsonl").read_text().splitlines()
    (tmp_path / "fewer.jsonl").write_text("\n".join(lines[:2]))
    shown = str(folder / "numbers-train.jsonl")
    plan = TaskPlan("equal", include_path=str(folder))
    own = {"numbers:test": str(tmp_path / "fewer.jsonl"), "numbers:train": shown}
    documents = load_task(replace(plan, data_files=own)).documents
    assert [d.task for d in documents].count("numbers") == 2
    for place, said in [("test", "names none of them"), ("mine:test", "'mine' is no task of equal")]:
        with pytest.raises(DataError, match=said) as caught:
            load_task(replace(plan, data_files={place: shown}))
        assert ":test=FILE" in caught.value.remedy


def test_more_examples_are_shown_where_the_definition_lets_them(folder, models, datasets_cache):
    # colours shows none by its definition, which lm-eval keeps
    loaded = load_task(TaskPlan("sized", 2, fewshot=2, include_path=str(folder)))
    scores = run_task(loaded, engine(models), models[BASELINE])
    results = theirs_by_name("sized", folder, models[BASELINE], limit=2, num_fewshot=2)
    assert_same(scores, BASELINE, results, models[BASELINE].model)
    assert scores.notes == ("1 of the 3 tasks show no examples by their definition, as colours",)
    with pytest.raises(DataError, match="colours shows no examples"):
        load_task(TaskPlan("colours", fewshot=2, include_path=str(folder)))


def test_tasks_without_a_metric_in_common_are_to_be_asked_one_by_one(tmp_path, models):
    folder = own_tasks(tmp_path, colours=2, words=2)
    (folder / "mixed.yaml").write_text("group: mixed\ntask: [colours, spoken]\n")
    loaded = load_task(TaskPlan("mixed", include_path=str(folder)))
    with pytest.raises(DataError, match="no metric in common") as caught:
        run_task(loaded, engine(models), models[BASELINE])
    assert "colours, spoken" in caught.value.remedy


def test_mmlu_is_its_57_tasks_in_four_groups_by_their_sizes(tmp_path, models):
    files = {}
    tasks = [
        name for name in task_files() if (catalogue.tasks_folder() / "mmlu" / "default" / f"{name}.yaml").is_file()
    ]
    for number, name in enumerate(tasks):
        rows = [
            {
                "question": f"{name} {i}?",
                "subject": "s",
                "choices": ["a", "b", "c", "d"],
                "answer": (number + i) % 4,
            }
            for i in range(1 + number % 2)
        ]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        files[f"{name}:test"] = str(file)
    loaded = load_task(TaskPlan("mmlu", data_files=files))
    assert sorted(loaded.tasks) == sorted(tasks)
    assert len(tasks) == 57
    base = models[BASELINE]
    found = benchmarked(loaded, OneByOne({BASELINE: base.model}), base)
    totals = found.aggregates[BASELINE]
    assert totals["acc,none"] == pytest.approx(found.numbers(BASELINE, "acc,none").mean())
    groups = ["mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"]
    sizes = [len(_documents_of(group, loaded)) for group in groups]
    shares = [totals[f"{group}/acc,none"] for group in groups]
    assert np.average(shares, weights=sizes) == pytest.approx(totals["acc,none"])


def _documents_of(group: str, loaded) -> list:
    (own,) = (each for each in loaded.group.get_all_groups() if each.name == group)
    names = {task.task_name for task in own.get_all_tasks()}
    return [document for document in loaded.documents if document.task in names]
