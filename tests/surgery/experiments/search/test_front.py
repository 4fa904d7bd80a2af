"""Which trials nothing dominates."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import EditPlan
from surgery.evaluation import Effect
from surgery.experiments.search import BROKEN, MEASURED, REFUSED, STOPPED, Trial, front, objectives_named, warning

ASKED = objectives_named(("loss", "exact", "parameters"))
PLAN = EditPlan()
values = st.integers(-3, 3).map(float)


def trial(number, means, outcome=MEASURED, **changes):
    effects = {
        each.name: Effect(mean, 0.1, mean - 0.2, mean + 0.2) for each, mean in zip(ASKED, means, strict=False)
    }
    return Trial(number, PLAN, outcome, effects, 8, **changes)


def beats(one, other):
    """Whether (loss, exact, parameters) of one are no worse anywhere and better somewhere."""
    signed = [(sign * a, sign * b) for sign, a, b in zip((1, -1, 1), one, other, strict=True)]
    return all(a <= b for a, b in signed) and any(a < b for a, b in signed)


@given(st.lists(st.tuples(values, values, values), max_size=12))
def test_a_front_is_what_neither_another_trial_nor_the_unedited_adapter_beats(means):
    found = front([trial(n, each) for n, each in enumerate(means)], ASKED)
    alone = {each for each in means if not any(beats(other, each) for other in (*means, (0.0, 0.0, 0.0)))}
    alone.discard((0.0, 0.0, 0.0))
    got = [tuple(t.effects[o.name].mean for o in ASKED) for t in found]
    assert set(got) == alone
    assert len(got) == len(alone)
    assert [each[0] for each in got] == sorted(each[0] for each in got)
    assert all(t.number == means.index(each) for t, each in zip(found, got, strict=True)), "of equals the earliest"


def test_only_what_was_measured_on_all_rows_and_for_itself_has_a_place():
    best = (-9.0, 9.0, -9.0)
    others = [trial(n, best, outcome) for n, outcome in enumerate((STOPPED, BROKEN))]
    others += [Trial(2, None, REFUSED), trial(3, best, same_as=0)]
    assert front([*others, trial(4, (-1.0, 0.0, 0.0))], ASKED) == (trial(4, (-1.0, 0.0, 0.0)),)


def test_a_number_that_is_not_finite_is_worse_than_any():
    broken = trial(0, (float("nan"), 1.0, 0.0))
    assert front([broken], ASKED[:1]) == ()
    assert front([broken, trial(1, (5.0, 1.0, 0.0))], ASKED) == (trial(1, (5.0, 1.0, 0.0)),)


def test_the_warning_counts_the_trials_and_what_became_of_them():
    every = [trial(n, (0, 0, 0), outcome) for n, outcome in enumerate((MEASURED, STOPPED, STOPPED, BROKEN))]
    assert warning(every).startswith("4 trials looked at (2 stopped early, 1 not finite). ")
    assert warning(every[:1]).startswith("1 trial looked at. ")
    assert all("prove" in warning(list(some)) for some in itertools.accumulate([[t] for t in every]))
