"""The queue, against a list that is searched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.scheduler.waiting import WaitingSlots

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NAMES = ["a", "b", "c", "d"]

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "replace"]), st.sampled_from(NAMES), st.integers(0, 9)),
        st.tuples(st.just("take"), st.sets(st.sampled_from(NAMES), max_size=3), st.just(0)),
        st.tuples(st.just("keep"), st.sets(st.sampled_from(NAMES)), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_who_waits_is_taken_in_turn(todo: list[tuple[str, str | set[str], int]]) -> None:
    queue = WaitingSlots()
    model: dict[str, list[datetime]] = {}
    turns: dict[str, int] = {}
    taken = 0
    for what, argument, number in todo:
        at = NOON + timedelta(minutes=number)
        if isinstance(argument, str):
            waiting = model.setdefault(argument, [])
            if what == "add":
                queue.add(argument, at)
                model[argument] = waiting if at in waiting else [*waiting, at]
            else:
                assert queue.replace(argument, at) == [each for each in waiting if each != at]
                model[argument] = [at]
        elif what == "keep":
            queue.keep(argument)
            model = {name: slots for name, slots in model.items() if name in argument}
            turns = {name: turn for name, turn in turns.items() if name in argument}
        else:
            free = [name for name, slots in model.items() if slots and name not in argument]
            found = queue.take(argument)
            if not free:
                assert found is None
                continue
            assert found is not None
            name, slot = found
            assert slot == model[name].pop(0)
            assert turns.get(name, 0) == min(turns.get(each, 0) for each in free)
            taken += 1
            turns[name] = taken
        assert len(queue) == sum(len(slots) for slots in model.values())
    queue.clear()
    assert queue.take(()) is None


def test_no_connector_is_before_the_others_twice() -> None:
    queue = WaitingSlots()
    for number in range(3):
        queue.add("often", NOON + timedelta(minutes=number))
    queue.add("seldom", NOON + timedelta(hours=1))
    assert [found[0] for _ in range(4) if (found := queue.take(()))] == ["often", "seldom", "often", "often"]
