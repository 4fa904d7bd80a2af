"""A proof's table and its verdict."""

import numpy as np
import pytest

from app.evaluation.findings import effects_table, tasks_table, verdict
from surgery.evaluation import AGAIN, BASELINE, Evaluation, Metric, Sample, Scores
from surgery.experiments import EDIT
from tests.app.evaluation.conftest import proof
from tests.helpers.proofs import evaluation_of as made
from tests.helpers.proofs import simple


def test_the_table_tells_the_same_numbers_as_the_scores() -> None:
    found = proof()
    table = effects_table(found).set_index("variant")
    assert list(table.index) == [EDIT, "random 0", "random 1", "random 2", AGAIN]
    assert table.loc[EDIT, "exact match"] == "70.0%"
    assert table.loc[EDIT, "Δ exact match"].startswith("+20.0 ±")
    assert table.loc[EDIT, "gained, lost"] == "8, 0"
    assert table.loc[EDIT, "p, McNemar"] == pytest.approx(2 / 2**8)
    assert table.loc[EDIT, "p, Holm"] == pytest.approx(4 * 2 / 2**8), "the rerun is no test among the others"
    assert table.loc[EDIT, "verdict"] == "loss lower, more correct"
    assert table.loc["random 1", "verdict"] == "loss higher"
    assert table.loc[AGAIN, "verdict"] == "the noise floor"


def test_a_change_that_luck_among_all_variants_gives_is_within_noise() -> None:
    scores = dict(proof(gained=6).scores)
    scores[EDIT] = simple(scores[BASELINE].loss, scores[EDIT].exact)
    # below the level by itself, above it as one of four variants that were looked at
    assert made(scores).tests("exact")[EDIT].p == pytest.approx(2 / 2**6)
    assert verdict(made(scores), EDIT) == "within noise"
    assert verdict(made({name: scores[name] for name in (BASELINE, EDIT)}), EDIT) == "more correct"


def test_a_task_measure_says_in_which_direction_it_went() -> None:
    measure = Metric("bits", "bits per byte", higher_is_better=False, binary=False)
    values = np.linspace(1, 2, 30)
    found = made({BASELINE: simple(values, values), EDIT: simple(values - 0.5, values)})
    scores = {n: type(s)({"bits": s.loss}, s.answers) for n, s in found.scores.items()}
    assert verdict(Evaluation(scores, found.samples, (measure,)), EDIT) == "bits per byte lower"


def test_a_group_is_told_by_the_mean_of_its_tasks_and_by_each_of_them() -> None:
    right = {BASELINE: [1.0, 0.0, 0.0, 0.0], EDIT: [1.0, 0.0, 0.0, 1.0]}
    scores = {name: Scores({"acc,none": np.array(own)}, ("",) * 4) for name, own in right.items()}
    samples = tuple(Sample(str(n), "", "", part) for n, part in enumerate(["colours"] * 3 + ["words"]))
    totals = {
        BASELINE: {
            "acc,none": 1 / 6,
            "colours/acc,none": 1 / 3,
            "words/acc,none": 0.0,
            "words/acc_norm,none": 0.2,
        },
        EDIT: {"acc,none": 2 / 3, "colours/acc,none": 1 / 3, "words/acc,none": 1.0, "words/acc_norm,none": 0.2},
    }
    found = Evaluation(scores, samples, (Metric("acc,none", "acc", True, True, macro=True),), totals)
    assert effects_table(found)["acc"].tolist() == ["66.7%"]
    assert effects_table(found)["Δ acc"][0].startswith("+50.0")
    table = tasks_table(found)
    assert table.to_dict("list") == {"task": ["colours", "words"], BASELINE: [1 / 3, 0.0], EDIT: [1 / 3, 1.0]}
    assert tasks_table(proof()).empty
