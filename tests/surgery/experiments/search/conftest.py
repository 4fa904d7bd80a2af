"""Searches on the tiny model of the experiments."""

from surgery.data import CalibrationPlan
from surgery.experiments import TuningSetup
from surgery.experiments.search import SearchLimits, SearchPlan, SearchSpace, search
from tests.surgery.experiments.conftest import PLAN, slice_of

TUNING = CalibrationPlan("tuning.jsonl", 7)
OTHER = CalibrationPlan("other.jsonl", 5)


def search_plan(objectives=("loss", "kl"), start=PLAN, **changes) -> SearchPlan:
    space = SearchSpace(changes.pop("knobs", None), changes.pop("parts", ()))
    other = OTHER if any(name.startswith("protected") for name in objectives) else None
    return SearchPlan(start, TUNING, objectives, space, other, **changes)


def searched(shop, plan=None, *, trials=8, seconds=None, rows=None, **options):
    """A search on the shop's rows, or on `rows` of them."""
    plan = search_plan() if plan is None else plan
    setup = TuningSetup(shop.live, shop.slice_ if rows is None else rows, shop.sensitivity)
    protected = slice_of(5, seed=3) if plan.protected is not None else None
    return search(setup, plan, protected=protected, limits=SearchLimits(trials, seconds), **options)
