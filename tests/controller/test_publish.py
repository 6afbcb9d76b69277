from __future__ import annotations

import pytest

from relaymesh.controller.plan import Plan
from relaymesh.controller.publish import Publisher, Told
from relaymesh.protocol.messages import Activate, Delta, Snapshot

FIRST = Plan(1, {0: {1: 1}, 1: {0: 0}})
SECOND = Plan(2, {0: {1: 1, 2: 1}, 1: {0: 0, 2: 2}, 2: {0: 1, 1: 1}})


def kinds(told: Told) -> list[tuple[int, str, int]]:
    return [(index, type(message).__name__, message.generation) for index, message in told]


def published() -> Publisher:
    """Nodes 0 and 1 hold the first plan, which is active."""
    publisher = Publisher(activate_after_s=0.5)
    publisher.publish(FIRST, [0, 1], 0.0)
    publisher.handle_held(0, 1)
    publisher.handle_held(1, 1)
    return publisher


def test_a_plan_is_activated_when_everybody_holds_it() -> None:
    publisher = Publisher()
    assert kinds(publisher.publish(FIRST, [1, 0], 0.0)) == [(0, "Snapshot", 1), (1, "Snapshot", 1)]
    assert not publisher.idle and publisher.active is None
    assert publisher.handle_held(0, 1) == []
    assert publisher.handle_held(0, 1) == []
    assert publisher.handle_held(1, 1) == [(0, Activate(1)), (1, Activate(1))]
    assert publisher.idle and publisher.active is FIRST and publisher.next_timeout() is None


def test_the_next_plan_goes_out_as_deltas_and_whole_to_newcomers() -> None:
    publisher = published()
    told = publisher.publish(SECOND, [0, 1, 2], 1.0)
    assert [type(message) for _, message in told] == [Delta, Delta, Snapshot]
    with pytest.raises(AssertionError, match="one plan"):
        publisher.publish(SECOND, [0, 1, 2], 1.0)


def test_who_does_not_answer_holds_up_the_others_only_so_long() -> None:
    publisher = published()
    publisher.publish(SECOND, [0, 1], 10.0)
    publisher.handle_held(0, 2)
    assert publisher.next_timeout() == 10.5
    assert publisher.handle_timeout(10.4) == []
    assert kinds(publisher.handle_timeout(10.5)) == [(0, "Activate", 2), (1, "Activate", 2)]
    assert publisher.handle_held(1, 2) == []


def test_an_old_or_invented_generation_is_no_answer() -> None:
    publisher = published()
    publisher.publish(SECOND, [0], 1.0)
    assert publisher.handle_held(0, 1) == publisher.handle_held(0, 99) == []
    assert not publisher.idle


def test_nobody_waits_for_a_node_that_left() -> None:
    publisher = published()
    publisher.publish(SECOND, [0, 1], 1.0)
    publisher.handle_held(0, 2)
    assert publisher.handle_leave(1) == [(0, Activate(2))]


def test_who_joins_gets_the_newest_tables_whole() -> None:
    publisher = Publisher()
    assert publisher.handle_join(5) == []
    publisher = published()
    assert kinds(publisher.handle_join(1)) == [(1, "Snapshot", 1), (1, "Activate", 1)]
    publisher.publish(SECOND, [0, 1], 1.0)
    assert kinds(publisher.handle_join(2)) == [(2, "Snapshot", 2)]  # in flight: activated with the others
    for index in (0, 1):
        assert publisher.handle_held(index, 2) == []
    assert kinds(publisher.handle_held(2, 2)) == [(i, "Activate", 2) for i in range(3)]


def test_a_node_may_ask_for_the_whole_again() -> None:
    publisher = published()
    assert kinds(publisher.handle_snapshot_wanted(0)) == [(0, "Snapshot", 1)]
    assert publisher.handle_snapshot_wanted(7) == []
    assert Publisher().handle_snapshot_wanted(0) == []


def test_a_plan_for_nobody_is_active_at_once() -> None:
    publisher = Publisher()
    assert publisher.publish(FIRST, [], 0.0) == []
    assert publisher.idle and publisher.active is FIRST
