"""A workspace: what a change of one stage voids in the others."""

from dataclasses import replace

import numpy as np
import pytest

from app.state.runs import newest_proof, runs_of_edit
from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.data import Encoding
from surgery.evaluation import BASELINE
from surgery.export import PeftLoading, Verification
from surgery.policies import AbsSelect
from surgery.recipes import demo_plans
from surgery.runs import delete_run, finish
from surgery.sensitivity import Provenance, Sensitivity
from tests.helpers.proofs import evaluation_of, kept_proof, simple


@pytest.fixture(scope="module")
def full() -> Workspace:
    adapter = open_adapter("demo:kinship")
    spectra = decompose(adapter)
    base, calibration, evaluation = demo_plans("demo:kinship")
    values = {name: np.zeros((2, s.rank)) for name, s in spectra.items()}
    provenance = Provenance(adapter.digest, "b", "e", Encoding(), tuple(spectra), "float32")
    return Workspace(
        adapter,
        spectra,
        base,
        calibration,
        evaluation,
        sensitivity=Sensitivity(values, np.zeros(2), provenance),
        exported=Verification(None, 0, 0, 0.0, PeftLoading(0, None, unchecked="no base is at hand")),
    )


def test_a_new_base_voids_sensitivities_and_export(full: Workspace) -> None:
    after = full.with_base(replace(full.base, dtype="bfloat16"))
    assert (after.sensitivity, after.exported) == (None, None)


def test_new_sensitivities_void_the_export(full: Workspace) -> None:
    after = full.with_sensitivity(full.calibration, full.sensitivity)
    assert after.sensitivity is full.sensitivity
    assert after.exported is None


def test_a_new_edit_voids_the_export_and_an_unchanged_one_voids_nothing(full: Workspace) -> None:
    same = full.with_edit("nothing", policy=full.plan.policy, scope=full.plan.scope)
    assert same == full
    assert same.exported == full.exported
    after = full.with_edit("gates", policy=AbsSelect())
    assert after.plan.policy == AbsSelect()
    assert after.sensitivity is full.sensitivity
    assert after.exported is None


def test_undo_voids_the_export_and_a_shelf_does_not(full: Workspace) -> None:
    changed = full.with_edit("gates", policy=AbsSelect())
    written = replace(changed, exported=full.exported)
    assert written.with_shelf({"mine": full.plan}).exported is full.exported
    undone = written.with_history(written.history.jump(0))
    assert undone.plan == full.plan
    assert undone.exported is None


def test_a_proof_belongs_to_its_edit_and_is_found_again_when_the_edit_comes_back(full: Workspace) -> None:
    ones, zeros = np.ones(3), np.zeros(3)
    scores = {BASELINE: simple(ones, zeros), "edit": simple(ones / 2, zeros)}
    run = kept_proof(full, "rows.jsonl", evaluation_of(scores))
    assert newest_proof(full).plan == run.plan
    other = full.with_edit("gates", policy=AbsSelect())
    assert newest_proof(other) is None
    assert newest_proof(other.with_history(other.history.jump(0))).plan == run.plan
    assert newest_proof(replace(full, base=replace(full.base, dtype="bfloat16"))) is None
    # how an edit is proven is no part of it
    assert newest_proof(replace(full, evaluation=None)).plan == run.plan


def test_an_unfinished_run_is_no_proof_and_a_deleted_one_is_gone(full: Workspace) -> None:
    scores = {BASELINE: simple(np.ones(3), np.zeros(3)), "edit": simple(np.zeros(3), np.zeros(3))}
    run = kept_proof(full, "rows.jsonl", evaluation_of(scores), done=False)
    assert newest_proof(full) is None
    assert [each.plan for each in runs_of_edit(full)] == [run.plan]
    finish(run, evaluation_of(scores))
    assert newest_proof(full).finished
    delete_run(run)
    assert newest_proof(full) is None
