"""Proofs on plain text and with guards: measured as the engine measures, resumed, refused, kept as a group."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.data import (
    CalibrationPlan,
    EvaluationPlan,
    Row,
    TaskPlan,
    TextPlan,
    calibration_rows,
    question_name,
    read_text,
    text_windows,
)
from surgery.errors import Cancelled, DataError, SurgeryError
from surgery.evaluation import AGAIN, BASE, BASELINE, CROSS_ENTROPY, KL_BASE, KL_UNEDITED
from surgery.experiments import GUARD, Proof, check_guards, parse_guard, prove, prove_with_guards, random_controls
from surgery.model import VariantEngine
from surgery.progress import Control
from surgery.runs import group_of, stored_runs
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses
from tests.helpers.workplace import write_rows


def edits(live):
    return random_controls(live.spectra, 2, scope="all")


def test_a_text_is_told_by_cross_entropy_and_kl_as_the_engine_tells_them(live, place, text_plan):
    run = prove(live, Proof(text_plan, edits(live), again=True))
    windows = text_windows(read_text(text_plan.text), live.base.tokenizer, text_plan)
    variants = {BASELINE: None, **{name: edit.sigma_after for name, edit in edits(live).items()}}
    expected = VariantEngine(live, variants).divergences(windows.examples, (BASELINE,))
    found = run.evaluation
    assert found.metrics == (CROSS_ENTROPY, KL_UNEDITED)
    assert len(found.samples) == run.plan.examples == 5
    for name, each in expected.items():
        assert_losses(found.numbers(name, "loss"), [one.cross_entropy for one in each], live.model)
        np.testing.assert_allclose(found.numbers(name, "kl"), [one.kl[0] for one in each], rtol=1e-3, atol=1e-7)
    assert found.numbers(AGAIN, "kl").max() < 1e-9
    assert any(
        f"60 of {windows.tokens} tokens count: the last 12 of each of 5 windows of 24" in note
        for note in found.notes
    )
    assert run.plan.question["text"]["stride"] == 12
    assert run.plan.slice_name == text_plan.text
    assert [sample.reference for sample in found.samples] == [example.answer for example in windows.examples]


def test_a_text_that_was_cut_off_goes_on_and_is_answered_once(live, place, text_plan, engine_calls):
    stopped = []

    def stop_after_two():
        stopped.append(0)
        return len(stopped) > 2

    proof = Proof(replace(text_plan, batch_size=1), edits(live))
    with pytest.raises(Cancelled):
        prove(live, proof, control=Control(cancelled=stop_after_two))
    engine_calls.clear()
    run = prove(live, proof)
    assert [call.requests for call in engine_calls] == [3]
    assert run.finished
    engine_calls.clear()
    assert prove(live, proof) == run
    assert engine_calls == []


def test_other_windows_are_another_run(live, place, text_plan):
    keys = {
        prove(live, Proof(plan, {})).plan.key
        for plan in (text_plan, replace(text_plan, limit=4), replace(text_plan, stride=8))
    }
    assert len(keys) == 3


def test_divergence_on_rows_is_another_question_than_their_answers(live, place):
    plan = replace(place.evaluation, divergence=True)
    found, whole = prove(live, Proof(plan, edits(live))), prove(live, Proof(place.evaluation, edits(live)))
    assert found.plan.context != whole.plan.context
    assert found.evaluation.metrics == (CROSS_ENTROPY, KL_UNEDITED)
    for name in whole.evaluation.scores:
        assert_losses(found.evaluation.numbers(name, "loss"), whole.evaluation.numbers(name, "loss"), live.model)
    said = refusal(DataError, prove, live, Proof(replace(plan, stop=("\n",)), {}))
    assert "divergence asks for none" in said


def test_guards_are_runs_of_the_same_variants_and_one_group(live, place, text_plan, engine_calls):
    guards = [text_plan, replace(place.evaluation, start=6)]
    own, group = prove_with_guards(live, Proof(place.evaluation, edits(live)), guards)
    assert group is not None
    assert group_of(own.plan.key) == group
    assert [run.plan.key for run in group.runs] == [own.plan.key, *group.guards]
    assert [run.plan.purpose for run in group.runs] == ["proof", GUARD, GUARD]
    assert {tuple(run.plan.variants.items()) for run in group.runs} == {tuple(own.plan.variants.items())}
    assert own == prove(live, Proof(place.evaluation, edits(live)))
    engine_calls.clear()
    assert prove_with_guards(live, Proof(place.evaluation, edits(live)), guards) == (own, group)
    assert engine_calls == []
    assert prove_with_guards(live, Proof(place.evaluation, edits(live)), []) == (own, None)


def test_guards_that_the_edits_were_made_on_are_refused(live, place):
    proof = Proof(place.evaluation, {}, [place.calibration])
    seen = EvaluationPlan(place.calibration.data)
    assert "were used for calibration" in refusal(DataError, prove_with_guards, live, proof, [seen])
    assert group_of(stored_runs()[0].plan.key) is None


@pytest.mark.parametrize(
    ("said", "plan"),
    [
        ("text: demo:text", TextPlan("demo:text")),
        ("text: a file.txt, window: 64, stride: 32", TextPlan("a file.txt", window=64, stride=32)),
        ("task: arc_easy, limit: 100", TaskPlan("arc_easy", 100)),
        ("task: a, data_files: {test: x.parquet}", TaskPlan("a", data_files={"test": "x.parquet"})),
        ("rows: r.jsonl, limit: 5, divergence: true", EvaluationPlan("r.jsonl", 5, divergence=True)),
    ],
)
def test_a_guard_is_a_question_with_its_settings_on_one_line(said, plan):
    assert parse_guard(said) == plan
    assert question_name(plan) == said.split(",")[0].partition(": ")[2]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "names no question"),
        ("demo:text", "names no question"),
        ("limit: 4", "names no question"),
        ("text: [", "cannot be read"),
        ("text: a, windw: 3", "windw"),
        ("text: a, window: 3, stride: 3", "windows of 3 tokens every 3"),
        ("text: a, limit: 0", "limit"),
        ("task: a, shots: 4", "shots"),
        ("rows: a, limit: x", "limit"),
    ],
)
def test_what_is_no_guard_is_refused_in_one_line(said, why):
    assert why in refusal(SurgeryError, parse_guard, said)


def test_the_base_rides_along_and_every_variant_is_measured_from_it(live, place, text_plan):
    run = prove(live, Proof(text_plan, edits(live), base_arm=True, again=True))
    found = run.evaluation
    assert found.metrics == (CROSS_ENTROPY, KL_UNEDITED, KL_BASE)
    assert found.mean(BASE, "kl_base") == 0
    assert found.mean(BASELINE, "kl") == 0
    assert found.mean(BASELINE, "kl_base") > 0
    np.testing.assert_allclose(
        found.numbers(AGAIN, "kl_base"), found.numbers(BASELINE, "kl_base"), rtol=1e-3, atol=1e-7
    )
    windows = text_windows(read_text(text_plan.text), live.base.tokenizer, text_plan)
    with live.alone():
        alone = VariantEngine(live, {BASE: None}).divergences(windows.examples, (BASE,))[BASE]
    assert_losses(found.numbers(BASE, "loss"), [each.cross_entropy for each in alone], live.model)


def test_guards_are_held_to_the_margins_of_the_proof(live, place, text_plan):
    plan = replace(place.evaluation, margin=("0.1 nats",))
    _, group = prove_with_guards(live, Proof(plan, edits(live)), [text_plan, replace(place.evaluation, start=6)])
    assert group is not None
    assert [run.evaluation.margins for run in group.runs] == [plan.margins] * 3


def test_a_text_that_holds_rows_which_an_edit_was_made_on_is_refused(live, place, tmp_path):
    rows = [
        Row(f"How many boats lie in the harbour at {n} o'clock on a day with wind?", f"{n}") for n in range(12)
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    seen = CalibrationPlan(data, examples=8)
    text = tmp_path / "text.txt"
    text.write_text(f"It was late. {calibration_rows(seen)[3].prompt} Nobody knew.")
    plan = TextPlan(str(text), window=24, stride=12)
    assert "holds 1 of 8 rows" in refusal(DataError, check_guards, [plan], [seen])
    assert "holds 1 of 8 rows" in refusal(DataError, prove, live, Proof(plan, {}, [seen]))
    assert "holds 1 of 8 rows" in refusal(
        DataError, prove_with_guards, live, Proof(place.evaluation, {}, [seen]), [plan]
    )
