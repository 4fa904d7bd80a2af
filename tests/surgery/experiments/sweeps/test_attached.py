"""Passes and proofs of a sweep on one base, tried again where they fail."""

import json
from dataclasses import replace

import numpy as np
import yaml

from surgery.data import CalibrationPlan
from surgery.experiments.sweeps import attached, expand, parse_sweep, results, spec
from surgery.model import BaseChoice
from surgery.sensitivity import calibrate, calibration_slice
from tests.helpers.seq2seq import base_of_two_tasks
from tests.surgery.experiments.sweeps.conftest import record, swept_from


def test_one_calibration_pass_serves_every_budget_scope_and_task(place, monkeypatch):
    from surgery.sensitivity import calibration as measure

    measured = []
    original = measure.measure_sensitivity

    def watched(live, calibration, names, **options):
        measured.append(len(calibration.examples))
        return original(live, calibration, names, **options)

    monkeypatch.setattr("surgery.sensitivity.calibration.measure_sensitivity", watched)
    tasks = {name: {"data": place.evaluation.data, "limit": n} for name, n in (("two", 2), ("three", 3))}
    swept = swept_from(place, tasks=tasks)
    assert measured == [10]
    assert not swept.failed
    assert len(results(swept)) == 2 * 8


def test_a_base_is_loaded_once_for_all_passes_and_adapters(place, monkeypatch):
    from surgery.model import base

    loads = []
    original = base.load_base
    monkeypatch.setattr("surgery.model.base.load_base", lambda *a, **o: loads.append(a) or original(*a, **o))
    swept_from(place, adapters={"one": place.adapter, "again": place.adapter})
    assert len(loads) == 1


def test_a_base_that_was_loaded_for_another_task_is_loaded_anew(tmp_path):
    base, adapters = base_of_two_tasks(tmp_path)
    with attached.AttachedAdapter() as kept:
        for task in ("SEQ_2_SEQ_LM", "CAUSAL_LM", "SEQ_2_SEQ_LM"):
            swept = spec.SweptAdapter(task, str(adapters[task]), BaseChoice(str(base)), CalibrationPlan(""), ())
            live = kept.live(swept)
            assert live.base.task == live.adapter.task == task


def test_a_pass_that_fails_is_tried_again_so_often_and_then_listed(place, monkeypatch):
    from surgery.experiments.sweeps import attached as sweep_run

    original, tries = sweep_run.prove, []

    def failing(live, proof, **options):
        if any("residual" in name and "grad_direction" in name for name in proof.edits):
            tries.append(list(proof.edits))
            raise OSError("the disk hiccups")
        return original(live, proof, **options)

    monkeypatch.setattr("surgery.experiments.sweeps.attached.prove", failing)
    swept = swept_from(place)
    assert len(tries) == 2
    assert [(t.attempts, t.problem) for t in swept.failed] == [(2, "OSError: the disk hiccups")]
    assert {each.cell.variant for each in results(swept)} == {
        name for group, _ in swept.runs for name in group.edits
    }
    monkeypatch.setattr("surgery.experiments.sweeps.attached.prove", original)
    mended = swept_from(place)
    assert not mended.failed
    assert len(results(mended)) == 8


def test_a_pass_that_fails_once_leaves_no_trace(place, monkeypatch):
    from surgery.experiments.sweeps import attached as sweep_run

    original, tries = sweep_run.prove, []

    def failing(*arguments, **options):
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("once")
        return original(*arguments, **options)

    monkeypatch.setattr("surgery.experiments.sweeps.attached.prove", failing)
    swept = swept_from(place)
    assert not swept.failed
    assert len(tries) == 4


def test_a_calibration_that_fails_takes_only_the_edits_that_need_it(place, monkeypatch):
    def failing(*arguments, **options):
        raise RuntimeError("no gradient today")

    monkeypatch.setattr("surgery.experiments.sweeps.attached.calibrate", failing)
    swept = swept_from(place, variants_at_once=1)
    assert {next(iter(t.group.edits)).partition(",")[0] for t in swept.failed} == {"grad_direction"}
    assert {t.problem for t in swept.failed} == {"the calibration failed: RuntimeError: no gradient today"}
    assert {each.cell.edit.plan.policy.name for each in results(swept)} == {"random_index"}


def test_a_smaller_budget_has_the_rows_of_a_pass_of_its_own(place, tmp_path):
    # also where rows do not fit and others take their place
    rows = [{"prompt": f"{i}+{i}=" + "." * (i % 3 * 4), "answer": str(2 * i)} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [group, *_] = expand(parse_sweep(yaml.safe_dump(record(place)))).groups
    [(name, swept)] = [each for each in group.edits.items() if each[1].budget == 4][:1]
    with place.attach() as live:
        whole = replace(group.passes[0], data=str(tmp_path / "rows.jsonl"))
        first = calibration_slice(live, replace(whole, examples=4)).examples
        shorter = max(example.length for example in first) - 1
        plan = replace(whole, encoding=replace(whole.encoding, max_length=shorter))
        measured, own = calibrate(live, plan), calibrate(live, replace(plan, examples=4))
        assert own.examples == 4
        assert own.left_out
        adapter = replace(group.adapter, calibration=plan)
        group = replace(group, adapter=adapter, edits={name: swept}, passes=(plan,))
        found = attached.group_edits(live, group, {plan: measured})[name].sigma_after
        expected = swept.plan.apply(live.spectra, own).sigma_after
        fewer = swept.plan.apply(live.spectra, measured.head(3)).sigma_after
    for module, sigma in expected.items():
        # batches of other shapes round otherwise; another row is another edit
        assert np.abs(found[module] - sigma).max() < 1e-3 * np.abs(fewer[module] - sigma).max()
