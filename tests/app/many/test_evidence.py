"""The evidence of a sweep: its forest plot and table, a mark that opens its run, and what is said without any."""

import numpy as np
import pytest
from plotly.graph_objects import Figure

from app.evaluation.starting import SHOWN
from app.many.evidence import evidence_of, forest_of
from surgery.experiments.sweeps import kept_sweeps
from surgery.runs import delete_run
from tests.helpers.swept import METHODS, begun_sweep

RUN = ("run/checkpoint-10", "run/checkpoint-20", "run/checkpoint-100")


@pytest.fixture
def sweep(folder, tmp_path, monkeypatch):
    """Two methods on three checkpoints, the last of which has not answered."""
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    changes = {
        name: {METHODS[0]: np.zeros(30), METHODS[1]: rng.normal(mean, 0.1, size=30)}
        for name, mean in zip(RUN[:2], (-0.3, 0.0), strict=True)
    }
    return begun_sweep(folder, {**changes, RUN[2]: {}})


def shown(page):
    test = page()
    test.session_state["many-tab"] = "Evidence"
    test.run()
    assert not test.exception
    return test


def test_the_page_tells_a_partly_finished_sweep_with_its_cautions(page, sweep):
    test = shown(page)
    assert "made up" in test.selectbox(key="many-sweep").options[0]
    assert "2 of 3 passes" in test.selectbox(key="many-sweep").options[0]
    test.selectbox(key="many-method").set_value(METHODS[1]).run()
    said = " ".join(each.value for each in [*test.markdown, *test.caption])
    assert "1 win, 1 tie, 0 losses" in said
    assert "2 adapters are too few for a bootstrap" in said
    assert "would show a win or a loss" in said
    table = next(each.value for each in test.dataframe if "adapter" in each.value)
    assert list(table["adapter"]) == [*RUN[:2], "wins / ties / losses", "mean over adapters"]
    assert table[METHODS[1]][0].endswith("win")
    assert "--set" in test.code[0].value


def test_the_figure_holds_the_numbers_of_the_evidence(sweep):
    [loss, *_] = evidence_of(sweep)
    method = next(each for each in loss.methods if each.method == METHODS[1])
    figure: Figure = forest_of(loss, method)
    marks = {name: trace.x[at] for trace in figure.data[:3] for at, name in enumerate(trace.y)}
    assert marks == {name: each.change.mean for name, each in method.adapters.items()}
    assert figure.data[3].x[0] == method.over.effect.mean
    # two adapters: the wider interval says whether the mean is more than noise
    assert figure.data[3].marker.color == figure.data[1].marker.color, "grey, as a tie is"


def test_a_picked_adapter_opens_its_run_on_evaluate(page, sweep, adapters):
    test = shown(page)
    test.session_state[f"many-evidence-table-{sweep.key}"] = {
        "selection": {"rows": [1], "columns": [], "cells": []}
    }
    test.run()
    [loss, *_] = evidence_of(sweep)
    run = loss.methods[0].adapters[RUN[1]].run
    test.button(key="many-open-run").click().run()
    assert not test.exception
    assert test.session_state[SHOWN] == run
    assert test.session_state["workspace"].adapter.digest == adapters[RUN[1]].digest


def test_a_run_that_went_is_refused_in_words_and_a_machine_without_sweeps_says_how_to_begin(
    page, sweep, tmp_path, monkeypatch
):
    for each in sweep.answered:
        delete_run(each.run)
    test = shown(page)
    assert any("No pass of this sweep has ended yet" in each.value for each in test.caption)
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "none"))
    test = shown(page)
    assert any("No sweep was begun" in each.value for each in test.caption)
    assert not test.selectbox


def test_a_method_that_a_run_does_not_hold_is_left_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    kept = begun_sweep(folder, {RUN[0]: {METHODS[1]: np.ones(3)}})
    assert {method.method for each in evidence_of(kept) for method in each.methods} == {METHODS[1]}


def test_evidence_is_computed_once_for_the_runs_that_have_ended(sweep):
    first = evidence_of(sweep)
    assert evidence_of(sweep) is first
    delete_run(sweep.answered[0].run)
    [left] = [each for each in kept_sweeps() if each.key == sweep.key]
    assert evidence_of(left)[0].adapters == RUN[1:2]
