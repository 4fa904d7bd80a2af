"""Optuna's study in its journal: told, read again, cut off, damaged."""

import itertools
import json
from dataclasses import replace

import pytest

from surgery.errors import DataError
from surgery.evaluation import Effect
from surgery.experiments.search import (
    MEASURED,
    REFUSED,
    STOPPED,
    SearchSpace,
    Study,
    Trial,
    objectives_named,
    room_of,
    stored_trials,
)
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import PLAN

ASKED = objectives_named(("loss", "exact"))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "study.journal"


def study(shop, file, seed=0, asked=ASKED):
    return Study(
        file, "name", asked, room_of(PLAN, SearchSpace(None, ("strength", "scope")), shop.spectra, None), seed
    )


def told(proposal, room_plan, asked=ASKED):
    """Numbers that follow from the proposal alone; every third trial is stopped, every fifth refused."""
    score = sum(value for value in proposal.values.values() if isinstance(value, int)) / 10
    effects = {each.name: Effect(score * (1 + n), 0.1, 0.0, 1.0) for n, each in enumerate(asked)}
    if proposal.number % 5 == 4:
        return Trial(proposal.number, None, REFUSED)
    return Trial(
        proposal.number, room_plan, STOPPED if proposal.number % 3 == 2 else MEASURED, effects, 8, None, "s"
    )


def driven(shop, file, trials, seed=0, asked=ASKED):
    """A study asked and told until it has so many trials."""
    found = study(shop, file, seed, asked)
    asked_for = []
    while len(found.trials) < trials:
        proposal = found.ask()
        asked_for.append(proposal.values)
        found.tell(proposal, told(proposal, PLAN, asked))
    return found, asked_for


@pytest.mark.parametrize("asked", [ASKED, ASKED[:1]])
def test_proposals_follow_from_the_trials_before_whether_one_process_made_them_or_several(shop, tmp_path, asked):
    whole, values = driven(shop, tmp_path / "whole.journal", 16, asked=asked)
    file, again = tmp_path / "study.journal", []
    for trials in (1, 2, 12, 16):
        found, more = driven(shop, file, trials, asked=asked)
        again += more
        found.ask()  # and killed before it is told
    assert again == values
    assert found.trials == whole.trials
    assert stored_trials(file, "name", asked) == tuple(whole.trials)
    assert len({json.dumps(each) for each in values}) > 12
    assert driven(shop, tmp_path / "other.journal", 3, seed=1, asked=asked)[1] != values[:3]


def test_the_first_proposal_is_where_the_search_starts_even_after_a_kill(shop, file):
    for _ in range(3):
        found = study(shop, file)
        proposal = found.ask()
        assert proposal.number == 0
        assert proposal.values == {k: v for k, v in found._room.start.items() if k != "eta"}


def test_half_of_a_last_line_and_a_left_lock_are_cleared_away(shop, file):
    driven(shop, file, 3)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":5,"trial')
    (file.parent / f"{file.name}.lock").touch()
    found, _ = driven(shop, file, 4)
    assert len(found.trials) == 4
    assert file.read_bytes().startswith(whole)


def test_optunas_own_front_has_no_place_for_what_was_stopped(shop, file):
    import optuna

    found, _ = driven(shop, file, 12)
    best = {trial.user_attrs["trial"]["outcome"] for trial in found._study.best_trials}
    assert best == {MEASURED}
    assert isinstance(found._study, optuna.Study)


def test_a_damaged_study_is_refused_with_its_folder(shop, file):
    """Every line of a journal changed in its turn, in several ways: it is refused, or what it says is sound."""
    driven(shop, file, 3)
    lines = file.read_bytes().splitlines(keepends=True)
    refused = 0
    spoilt = (b"\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b'{"op_code": 99}\n', b'{"op_code": 0, "worker_id": 3}\n')
    for number, damage in itertools.product(range(len(lines)), spoilt):
        file.write_bytes(b"".join([*lines[:number], damage, *lines[number + 1 :]]))
        try:
            found = stored_trials(file, "name", ASKED)
        except DataError as error:
            refused += str(file.parent) in error.remedy
            continue
        assert all(isinstance(trial, Trial) for trial in found)
    assert refused >= len(lines)
    file.write_bytes(b"nothing like it\n" + b"".join(lines))
    assert "damaged" in refusal(DataError, study, shop, file)


@pytest.mark.parametrize(
    "change",
    [{"outcome": "good"}, {"rows": "8"}, {"same_as": 9}, {"edit": None}, {"edit": {"policy": "no"}}, {"effects": {}},
     {"effects": {"loss": [1, 2], "exact": [1, 2]}}, {"effects": [3]}, {"sigma": None, "rows": None}],
)  # fmt: skip
def test_a_trial_that_was_made_up_is_refused(shop, file, change):
    driven(shop, file, 2)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if "trial" in line.get("user_attr", {}):
            line["user_attr"]["trial"] |= change
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "damaged" in refusal(DataError, stored_trials, file, "name", ASKED)


def test_a_study_that_is_not_there_has_no_trials_and_none_is_made(tmp_path):
    assert stored_trials(tmp_path / "none", "name", ASKED) == ()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder").mkdir()
    assert "damaged" in refusal(DataError, stored_trials, tmp_path / "folder", "name", ASKED)


def test_a_trial_comes_back_as_it_was_told_with_gains_by_hand(shop, file):
    plan = replace(PLAN, manual={"model.layers.0.mlp.down_proj": {3: 0.25}}, strength=0.5)
    found = study(shop, file)
    trial = Trial(0, plan, MEASURED, {each.name: Effect(1 / 3, 0.1, -0.2, 0.7) for each in ASKED}, 8, None, "abc")
    found.tell(found.ask(), trial)
    assert stored_trials(file, "name", ASKED) == (trial,)
