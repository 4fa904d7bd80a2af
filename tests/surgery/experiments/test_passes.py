"""Passes of one question: one progress over all of them, and references that run beside the variants of a later one."""

from types import SimpleNamespace

from surgery.evaluation import AGAIN, BASE, BASELINE
from surgery.experiments import passes
from surgery.progress import Control


def test_every_pass_takes_its_share_of_one_progress(tmp_path):
    told = []
    seen = []

    def put(engine, control):
        seen.append(engine.references)
        total = 4 * len(engine.references)
        control.progress(total, total)

    control = Control(progress=lambda done, total: told.append((done, total)))
    asked = passes.Passes(SimpleNamespace(put=put), None, control, 3)
    asked.put(None, {BASELINE: None, "edit": {}}, None)
    asked.put(None, {AGAIN: None}, 7, beside={})
    assert told == [(8, 12), (12, 12)]
    assert asked.done == 3
    asked.put(None, {AGAIN: None}, 7, beside={BASELINE: None, "edit": {}, BASE: {}})
    assert seen == [(BASELINE, "edit"), (AGAIN,), (BASELINE, BASE, AGAIN)]
