"""The table of a set holds what `inspect --many` tells, filters it, and opens what is picked."""

import json

import pytest

from app.many.table import table_of
from surgery.cli import main
from surgery.spectra import energy_at


def test_the_numbers_are_those_of_the_command_line(adapters, folder, capsys):
    assert main(["inspect", "--many", str(folder), "--json"]) == 0
    told = {row["folder"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    table = table_of(adapters.members, 2).set_index("adapter")
    assert set(table.index) == set(told)
    for name, row in table.iterrows():
        if told[name]["refusal"]:
            assert row["refused"] == told[name]["refusal"]
            continue
        assert row["norm"] == told[name]["norm"]
        assert row["effective rank"] == told[name]["effective_rank"]
        assert row["stable rank"] == told[name]["stable_rank"]
        assert row["energy at 2"] == energy_at(told[name]["energy_shares"], 2)
    assert table["step"].dropna().to_dict() == {f"run/checkpoint-{step}": step for step in (10, 20, 100)}


def test_columns_that_say_nothing_of_any_adapter_are_left_out(adapters):
    assert {"step", "refused"} <= set(table_of(adapters.members, 1).columns)
    assert not {"step", "refused"} & set(table_of([adapters["other"]], 1).columns)
    assert "notes" not in table_of([adapters["run/checkpoint-10"]], 1).columns


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"many-bases": ["made-up/other"]}, ["other"]),
        ({"many-ranks": [4]}, ["run/checkpoint-10", "run/checkpoint-20", "run/checkpoint-100"]),
        ({"many-filter": "RUN 20"}, ["run/checkpoint-20"]),
        ({"many-filter": "header"}, ["torn"]),
    ],
)
def test_rows_are_filtered_by_base_rank_and_words(page, filters, left):
    test = page()
    for key, value in filters.items():
        widget = test.text_input(key=key) if isinstance(value, str) else test.multiselect(key=key)
        widget.set_value(value)
    test.run()
    assert not test.exception
    assert list(test.dataframe[0].value["adapter"]) == left


def test_a_picked_adapter_opens_in_the_workbench_and_a_refused_one_does_not(page, adapters):
    test = page()
    names = list(test.dataframe[0].value["adapter"])

    def pick(name):
        test.session_state["many-table"] = {"selection": {"rows": [names.index(name)], "columns": [], "cells": []}}
        test.run()
        return next(button for button in test.button if button.label == "Open" and button.key is None)

    assert pick("torn").disabled
    pick("run/checkpoint-20").click().run()
    assert not test.exception
    assert test.session_state["workspace"].adapter.digest == adapters["run/checkpoint-20"].digest
