"""A margin counts as named before only where no earlier run had told the answers."""

import json
from dataclasses import replace

from surgery.data import Margins
from surgery.evaluation import BASELINE, summarise
from surgery.files import digest
from surgery.runs import RANDOM_GATES, ControlGroup, late_margin_note, stored_run
from tests.surgery.runs.conftest import PLAN, evaluation, finished

STRICT = replace(PLAN, margins=Margins())


def test_a_margin_after_the_answers_are_known_is_told_and_one_before_them_is_not(history):
    first = finished(STRICT)
    assert late_margin_note(first) == ""
    assert late_margin_note(finished(PLAN)) == "", "it has none"
    another = finished(replace(PLAN, margins=Margins(points=5.0)))
    assert "was named when an earlier run" in late_margin_note(another)
    assert late_margin_note(first) == "", "what came later changes nothing"
    other = replace(PLAN, variants={**PLAN.variants, "edit": "d" * 64}, margins=Margins(points=5.0))
    assert late_margin_note(finished(other)) == "", "nobody knew what this edit answers"


def test_the_answers_of_controls_that_two_edits_share_tell_nothing_of_the_second(history):
    shared = {"random 0": "c" * 64, "base": "b" * 64}
    groups = {
        "edit": ControlGroup(
            random=("random 0",), scope="residual", energy="none", sigma_min=0.0, kind=RANDOM_GATES
        )
    }
    finished(replace(PLAN, variants={**PLAN.variants, **shared}, controls=groups))
    other = replace(
        PLAN, variants={BASELINE: "", "edit": "d" * 64, **shared}, controls=groups, margins=Margins(points=5.0)
    )
    assert late_margin_note(finished(other)) == ""


def test_a_run_is_found_by_its_margins_and_gives_their_verdicts(history):
    run = finished(STRICT, replace(evaluation(), margins=STRICT.margins))
    assert len({PLAN.key, STRICT.key, replace(PLAN, margins=Margins(2.0)).key}) == 3
    assert PLAN.context == STRICT.context
    found = stored_run(STRICT.key)
    assert (found.plan, found.metrics) == (STRICT, run.metrics)
    verdicts = summarise(found.evaluation).variants["edit"].margins
    assert verdicts.keys() == {"loss", "exact"}
    assert verdicts == found.metrics.summary.variants["edit"].margins


def test_a_record_with_an_impossible_margin_is_no_run(history):
    file = finished(STRICT).folder / "run.json"
    record = {**json.loads(file.read_text()), "margins": {"points": -1.0, "nats": None}}
    del record["digest"]
    file.write_text(json.dumps({**record, "digest": digest([json.dumps(record)])}))
    assert stored_run(STRICT.key) is None
