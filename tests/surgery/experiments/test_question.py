"""What is asked of answers and what makes a run another one: filters, stops, the loss alone, near-duplicates, batches."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.data import ALLOW, CalibrationPlan, Encoding, NearDuplicatesError, Row, planned_rows
from surgery.errors import DataError
from surgery.evaluation import BASELINE, LOSS_ALONE, summarise
from surgery.experiments import Proof, prove, random_controls
from surgery.progress import Control
from surgery.runs import stored_run
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses
from tests.helpers.workplace import ROWS, write_rows

STORY = "a dog and a cat went to the park where they met two birds and one small bee on the big green tree"


def asked(place, **changes):
    return Proof(replace(place.evaluation, **changes), {})


def test_another_batch_size_is_another_run_in_any_precision(live, place, engine_calls):
    first = prove(live, asked(place))
    assert "batch_size" not in first.plan.settings, "the default is in no key, as in earlier versions"
    assert prove(live, asked(place, batch_size=32)) == first
    engine_calls.clear()
    other = prove(live, asked(place, batch_size=3))
    assert other.plan.key != first.plan.key
    assert other.plan.settings["batch_size"] == 3
    assert [call.answers for call in engine_calls] == [6], "nothing is taken over from other batches"
    assert prove(live, asked(place, batch_size=3)) == other
    assert prove(live, Proof(place.evaluation, {}, batch_size=3)) == other


def test_other_filters_are_another_run_of_the_same_answers(live, place, tmp_path, engine_calls):
    said = prove(live, asked(place)).evaluation.scores[BASELINE].answers
    assert any(said)
    rows = [replace(row, answer=f"  {text.upper()}") for row, text in zip(ROWS[30:36], said, strict=True)]
    data = write_rows(
        tmp_path / "said.jsonl", [row if row.answer.strip() else replace(row, answer="x") for row in rows]
    )
    plain = prove(live, asked(place, data=data))
    engine_calls.clear()
    lower = prove(live, asked(place, data=data, filters=("lower",)))
    assert engine_calls == []
    assert lower.plan.key != plain.plan.key
    assert lower.plan.context == plain.plan.context
    assert lower.plan.question["rows"]["filters"] == ["lower"]
    assert stored_run(lower.plan.key) == lower
    texts = [row.answer.strip() for row in rows]
    told = plain.evaluation.scores[BASELINE].answers
    for run, fold in ((plain, str), (lower, str.lower)):
        expected = [float(fold(a) == fold(text or "x")) for a, text in zip(told, texts, strict=True)]
        np.testing.assert_array_equal(run.evaluation.scores[BASELINE].exact, expected)


def test_filters_that_fit_no_reference_are_refused_and_those_that_fit_some_are_noted(live, place):
    told = refusal(DataError, prove, live, asked(place, filters=("regex: [a-z]+",)))
    assert "nothing in any of 6 references" in told
    found = prove(live, asked(place, filters=("regex: 1[0-9]",))).evaluation
    lacking = sum(len(row.answer) < 2 for row in ROWS[30:36])
    assert 0 < lacking < 6
    assert f"nothing in {lacking} of 6 references" in "".join(found.notes)


def test_an_answer_ends_at_a_stop_text_which_is_cut_from_it(live, place):
    whole = prove(live, asked(place))
    said = whole.evaluation.scores[BASELINE].answers
    longest = max(said, key=len)
    stop = longest[len(longest) // 2]
    run = prove(live, asked(place, stop=(stop,)))
    assert run.plan.key != whole.plan.key
    assert run.plan.context != whole.plan.context
    cut = run.evaluation.scores[BASELINE].answers
    assert list(cut) == [text.split(stop)[0].strip() for text in said]
    assert cut != said


def test_the_loss_alone_has_no_exact_match_and_says_so(live, place):
    whole, alone = prove(live, asked(place)), prove(live, asked(place, generate=False))
    assert alone.plan.key != whole.plan.key
    assert [metric.name for metric in alone.evaluation.metrics] == ["loss"]
    assert alone.evaluation.notes == (LOSS_ALONE,)
    assert "exact" not in summarise(alone.evaluation).variants[BASELINE].means
    assert_losses(alone.evaluation.scores[BASELINE].loss, whole.evaluation.scores[BASELINE].loss, live.model)


@pytest.mark.parametrize("generate", [True, False])
def test_tokens_rise_to_their_total_from_the_first_forward_pass_on(live, place, generate):
    edits = random_controls(live.spectra, 2, scope="all")
    told, counts = [], []
    control = Control(
        progress=lambda done, total: counts.append((done, len(told))),
        tokens=lambda done, total: told.append((done, total)),
    )
    plan = replace(place.evaluation, generate=generate)
    prove(live, Proof(plan, edits, again=True, batch_size=6), control=control)
    done = [tokens for tokens, _ in told]
    assert done == sorted(done)
    assert {total for _, total in told} == {told[-1][0]}
    before_the_first_answer = next(number for count, number in counts if count)
    if generate:
        assert any(done[:before_the_first_answer]), "an answer is long on its way"
    assert done.count(done[-1]) == len(done) - done.index(done[-1]), "the total comes last"


def test_near_duplicates_are_refused_pair_by_pair_or_allowed_and_recorded(live, place, tmp_path):
    seen = replace(
        place.calibration, data=write_rows(tmp_path / "seen.jsonl", [Row(STORY, "so"), *ROWS[:9]]), examples=10
    )
    plan = replace(
        place.evaluation,
        data=write_rows(tmp_path / "held.jsonl", [*ROWS[30:35], Row(f"Q: {STORY.upper()}.", "so")]),
    )
    with pytest.raises(NearDuplicatesError) as caught:
        prove(live, Proof(plan, {}, [seen]))
    (pair,) = caught.value.pairs
    assert (pair.held, pair.overlap) == ("row 5", 1)
    assert pair.seen_text == STORY
    assert pair.seen.startswith(seen.data)
    allowed = prove(live, Proof(replace(plan, near_duplicates=ALLOW), {}, [seen]))
    assert [each["held"] for each in allowed.plan.question["near_duplicates"]] == ["row 5"]
    assert "1 of 6 held-out examples" in allowed.evaluation.notes[0]
    unseen = prove(live, Proof(plan, {}))
    assert "near_duplicates" not in unseen.plan.question
    assert unseen.plan.key != allowed.plan.key
    assert unseen.plan.context == allowed.plan.context


def _topped_up(tmp_path):
    """A calibration of six rows, two of them too long, of a file whose next two rows took their place; and those two."""
    long = [Row("bcd" * 12, "1"), Row("efg" * 12, "1")]
    data = write_rows(tmp_path / "rows.jsonl", [*long, *ROWS[:30]])
    plan = CalibrationPlan(data, examples=6, encoding=Encoding(max_length=20))
    plan = replace(
        plan, seed=next(s for s in range(99) if set(long) <= set(planned_rows(replace(plan, seed=s)).rows))
    )
    slice_ = planned_rows(plan)
    return plan, slice_.spare[:2], slice_.spare[2:8]


def test_rows_like_those_that_took_the_place_of_calibration_rows_are_refused(live, place, tmp_path):
    plan, taken, free = _topped_up(tmp_path)
    like = [Row(f"{row.prompt} .", row.answer) for row in taken]
    held_out = replace(place.evaluation, data=write_rows(tmp_path / "held.jsonl", [*like, *free]), limit=None)
    refusal(NearDuplicatesError, prove, live, Proof(held_out, {}, [plan]))
    assert prove(live, Proof(replace(held_out, start=2), {}, [plan])).plan.examples == 6


def test_rows_that_cannot_be_encoded_topped_nothing_up(live, place, tmp_path):
    plan, taken, free = _topped_up(tmp_path)
    plan = replace(plan, encoding=Encoding(template=str(tmp_path / "nowhere.jinja")))
    held_out = replace(place.evaluation, data=write_rows(tmp_path / "held.jsonl", [*taken, *free]), limit=None)
    assert prove(live, Proof(held_out, {}, [plan])).plan.examples == 8
