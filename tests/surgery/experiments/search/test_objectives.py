"""What a search is asked to improve."""

import math

import pytest

from surgery.edits import Edit, EditPlan
from surgery.errors import PolicyError
from surgery.evaluation import Effect
from surgery.experiments.search import OBJECTIVES, kept_share, objectives_named
from surgery.policies import Rank, Scale
from tests.helpers.refusals import refusal


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_share_of_parameters_kept_is_that_of_the_factors_without_the_components_cut(shop, keep):
    edit = EditPlan(Rank(keep=keep), scope="gate-up", energy="none").apply(shop.spectra, None)
    per = {name: s.U.shape[0] + s.V.shape[0] for name, s in shop.spectra.items()}
    whole = sum(per[name] * s.rank for name, s in shop.spectra.items())
    cut = sum(per[name] * (shop.spectra[name].rank - keep) for name in edit.modules)
    assert math.isclose(kept_share(shop.spectra, edit), 1 - cut / whole, rel_tol=1e-12)


def test_an_adapter_that_is_not_edited_keeps_everything_and_one_scaled_to_nothing_keeps_nothing(shop):
    assert kept_share(shop.spectra, Edit({})) == 1
    nothing = EditPlan(Scale(0.0), scope="all", energy="none").apply(shop.spectra, None)
    assert kept_share(shop.spectra, nothing) == 0


def test_a_change_is_told_in_its_unit_with_its_error_and_whether_it_is_within_noise():
    exact, parameters = OBJECTIVES["exact"], OBJECTIVES["parameters"]
    assert exact.told(Effect(0.03, 0.01, 0.01, 0.05)) == "+3.0 ± 1.0"
    assert exact.told(Effect(-0.03, 0.02, -0.07, 0.01)) == "-3.0 ± 2.0, within noise"
    assert parameters.told(Effect(-0.25, 0.0, -0.25, -0.25)) == "-25.0"
    assert (exact.sign, parameters.sign) == (-1, 1)


@pytest.mark.parametrize(
    ("names", "word"),
    [(("loss", "speed"), "speed"), (("loss", "loss"), "twice"), (("parameters",), "loss"), ((), "loss")],
)
def test_objectives_that_make_no_search_are_refused(names, word):
    assert word in refusal(PolicyError, objectives_named, names)
