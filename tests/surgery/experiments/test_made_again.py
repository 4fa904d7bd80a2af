"""An edit made again from a run: bit for bit where it can be, told where it is not, refused where nothing is kept."""

from dataclasses import replace

import numpy as np
import pytest

from surgery import decompose, open_adapter
from surgery.edits import EditPlan, edit_record
from surgery.errors import DataError
from surgery.experiments import EDIT, made_again, sigma_digest
from surgery.policies import Scale
from surgery.recipes import dump_recipe, parse_recipe
from surgery.runs import known_runs
from tests.helpers.refusals import refusal


@pytest.fixture(scope="module")
def spectra():
    return decompose(open_adapter("demo:kinship"))


@pytest.fixture
def shipped():
    (run,) = known_runs(open_adapter("demo:kinship").digest)
    return run


def with_recipe(run, change, tmp_path):
    """The run beside a recipe that was changed."""
    (tmp_path / "recipe.yaml").write_text(dump_recipe(change(parse_recipe(run.recipe))), encoding="utf-8")
    return replace(run, folder=tmp_path)


def test_the_edit_of_a_shipped_proof_is_the_one_that_was_proven_bit_for_bit(shipped, spectra):
    found = made_again(shipped, EDIT, spectra)
    assert found.exact
    assert sigma_digest(found.edit) == shipped.plan.variants[EDIT]
    assert found.sensitivity.examples == 128
    assert set(found.edit.modules) == {name for name in spectra if name.endswith(("o_proj", "down_proj"))}


def test_another_variant_of_the_run_is_found_by_its_digest_alone(shipped, spectra):
    assert made_again(shipped, "smooth_abs", spectra).exact
    assert "does not say how 'random 0' was made" in refusal(DataError, made_again, shipped, "random 0", spectra)


def test_one_whose_digest_differs_is_told_from_the_proven_one(shipped, spectra):
    plan = replace(shipped.plan, variants={**shipped.plan.variants, EDIT: "0" * 64})
    found = made_again(replace(shipped, plan=plan), EDIT, spectra)
    assert not found.exact
    assert sigma_digest(found.edit) == shipped.plan.variants[EDIT]
    # without a recipe only the digest could say that it is the one
    plan = replace(shipped.plan, variants={**shipped.plan.variants, "smooth_abs": "0" * 64})
    assert "is not kept" in refusal(DataError, made_again, replace(shipped, plan=plan), "smooth_abs", spectra)


def test_a_measurement_of_other_rows_than_the_recipes_is_not_taken(shipped, spectra, tmp_path):
    other = with_recipe(shipped, lambda recipe: replace(recipe, calibration_digest="0" * 64), tmp_path)
    assert "is not kept on this machine" in refusal(DataError, made_again, other, EDIT, spectra)


def test_an_edit_that_spares_rows_needs_their_measurement_too(shipped, spectra, tmp_path):
    def protecting(recipe):
        protected = replace(recipe.calibration, start=64)
        return replace(recipe, edit=replace(recipe.edit, protect=True), protected=(protected,))

    other = with_recipe(shipped, protecting, tmp_path)
    record = {**shipped.plan.edits[EDIT], "protect": True}
    plan = replace(shipped.plan, edits={**shipped.plan.edits, EDIT: record})
    assert "is not kept on this machine" in refusal(
        DataError, made_again, replace(other, plan=plan), EDIT, spectra
    )


def test_an_edit_without_measurements_needs_none(shipped, spectra):
    edit = EditPlan(Scale(1.5), energy="none")
    variants = {**shipped.plan.variants, EDIT: sigma_digest(edit.apply(spectra, None))}
    plan = replace(shipped.plan, edits={EDIT: edit_record(edit)}, variants=variants)
    found = made_again(replace(shipped, plan=plan), EDIT, spectra)
    assert found.exact
    assert found.sensitivity is None
    for name, module in found.edit.modules.items():
        np.testing.assert_allclose(module.sigma_after, 1.5 * spectra[name].sigma, rtol=1e-12)
