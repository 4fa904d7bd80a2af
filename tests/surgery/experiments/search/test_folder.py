"""The folders of searches."""

import json

import pytest

from surgery.errors import DataError
from surgery.experiments.search import ABOUT, delete_search, keep_about, search_key, stored_searches
from surgery.runs import LOG, AnswerLog, stored_runs
from tests.helpers.refusals import refusal
from tests.surgery.experiments.search.conftest import search_plan


@pytest.fixture
def folder(history):
    place = history / search_key(search_plan(), "mine", ["context"])
    place.mkdir()
    keep_about(place, search_plan(), "mine")
    return place


def test_a_search_is_found_by_its_adapter_and_is_no_run(folder):
    (found,) = stored_searches("mine")
    assert (found.folder, found.plan, found.trials) == (folder, search_plan(), ())
    assert stored_searches("another") == []
    assert stored_runs() == []


def test_what_its_numbers_depend_on_is_in_its_name():
    plan = search_plan()
    keys = [
        search_key(plan, "mine", ["context"]),
        search_key(plan, "another", ["context"]),
        search_key(plan, "mine", ["other"]),
        search_key(search_plan(seed=1), "mine", ["context"]),
        search_key(search_plan(parts=("strength",)), "mine", ["context"]),
    ]
    assert len(set(keys)) == 5


def test_what_a_search_is_about_is_written_once(folder):
    before = (folder / ABOUT).read_bytes()
    keep_about(folder, search_plan(), "mine")
    assert (folder / ABOUT).read_bytes() == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("mine", "yours"),
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "3",
        lambda text: json.dumps({**json.loads(text), "schema": 2}),
        lambda text: "[" * 100_000,
    ],
)
def test_a_record_that_was_changed_is_passed_over(folder, spoil):
    file = folder / ABOUT
    file.write_text(spoil(file.read_text()))
    assert stored_searches("mine") == []
    assert stored_searches("yours") == []


def test_a_search_is_deleted_unless_it_is_under_way(folder):
    (found,) = stored_searches("mine")
    with AnswerLog(folder / LOG):
        assert found.under_way
        assert "stop it first" in refusal(DataError, delete_search, found)
    delete_search(found)
    assert stored_searches("mine") == []
    delete_search(found)
