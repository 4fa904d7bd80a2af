"""Undo, redo and the list to jump in never lose a plan that is in the list, and never invent one."""

from hypothesis import given
from hypothesis import strategies as st

from app.state.undo import History, Step
from surgery.edits import EditPlan
from surgery.policies import AbsSelect, Identity, Scale

plans = st.builds(
    EditPlan,
    policy=st.one_of(
        st.builds(Scale, st.sampled_from([0.5, 1.0, 2.0])), st.just(Identity()), st.just(AbsSelect())
    ),
    energy=st.sampled_from(["l1", "none"]),
    manual=st.sampled_from([{}, {"a": {0: 0.5}}, {"a": {0: 0.5, 1: 2.0}}]),
)


def recorded(history: History, changes: list[EditPlan]) -> History:
    for number, plan in enumerate(changes):
        history = history.record(str(number), plan)
    return history


def undone(history: History, times: int) -> History:
    for _ in range(times):
        history = history.jump(history.at - 1)
    return history


def redone(history: History, times: int) -> History:
    for _ in range(times):
        history = history.jump(history.at + 1)
    return history


def test_a_fresh_history_has_one_plan_and_nowhere_to_go() -> None:
    fresh = History()
    assert fresh.present == EditPlan()
    assert (fresh.can_undo, fresh.can_redo) == (False, False)
    assert undone(fresh, 3) == redone(fresh, 3) == fresh


@given(plans, st.lists(plans, min_size=20, max_size=20))
def test_twenty_changes_undone_are_the_first_plan_and_redone_the_last(
    first: EditPlan, changes: list[EditPlan]
) -> None:
    start = History((Step("start", first),))
    end = recorded(start, changes)
    assert end.present == changes[-1]
    back = undone(end, 20)
    assert back.present == first
    assert not back.can_undo
    forth = redone(back, 20)
    assert forth == end
    assert not forth.can_redo


@given(st.lists(plans, min_size=1, max_size=12), plans, st.data())
def test_a_change_after_undo_drops_what_was_undone(
    changes: list[EditPlan], new: EditPlan, data: st.DataObject
) -> None:
    end = recorded(History(), changes)
    at = data.draw(st.integers(0, len(end.steps) - 1))
    back = end.jump(at)
    after = back.record("new", new)
    if new == back.present:
        assert after is back
    else:
        assert after.steps == (*end.steps[: at + 1], Step("new", new))
        assert after.present == new
        assert not after.can_redo
        assert undone(after, 1).present == back.present


@given(st.lists(plans, max_size=12), st.integers(-5, 20))
def test_the_same_plan_records_nothing_and_keeps_the_future(changes: list[EditPlan], at: int) -> None:
    back = recorded(History(), changes).jump(at)
    assert back.record("again", back.present) is back


@given(st.lists(plans, max_size=12), st.integers(-(10**9), 10**9))
def test_a_jump_stays_inside_the_list(changes: list[EditPlan], at: int) -> None:
    history = recorded(History(), changes)
    there = history.jump(at)
    assert there.steps == history.steps
    assert there.at == min(max(at, 0), len(history.steps) - 1)
    assert there.present == history.steps[there.at].plan


@given(st.lists(plans, max_size=30))
def test_neighbours_in_the_list_always_differ(changes: list[EditPlan]) -> None:
    history = recorded(History(), changes)
    assert all(one.plan != other.plan for one, other in zip(history.steps, history.steps[1:], strict=False))


def test_the_list_keeps_the_latest_two_hundred_plans() -> None:
    history = recorded(History(), [EditPlan(Scale(i / 100)) for i in range(400)])
    assert len(history.steps) == 200
    assert history.present.policy == Scale(3.99)
    assert [step.plan.policy.gamma for step in history.steps] == [i / 100 for i in range(200, 400)]
    full = undone(history, 250)
    assert full.present.policy == Scale(2.0)
