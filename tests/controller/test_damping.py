from __future__ import annotations

import pytest

from relaymesh.controller.damping import FLAP_HOLD_S, FORGIVE_S, HOLD_S, MAX_HOLD_S, PROBATION_MS, Damping

LINK = [(1, 2), (2, 1)]


def held(damping: Damping, now: float) -> bool:
    assert damping.added_ms((1, 3), now) == 0.0
    added = {damping.added_ms(direction, now) for direction in LINK}
    assert added in ({0.0}, {PROBATION_MS})
    assert damping.on_probation(now) == (set() if added == {0.0} else set(LINK))
    return added != {0.0}


def test_a_new_link_is_used_at_once() -> None:
    damping = Damping()
    damping.handle_up(LINK, 0.0)
    assert not held(damping, 0.0)
    assert damping.next_timeout() is None


def test_a_link_that_returns_waits_and_one_that_flaps_waits_longer() -> None:
    damping = Damping()
    now, waits = 0.0, []
    for _ in range(8):
        damping.handle_down(LINK, now)
        damping.handle_up(LINK, now + 1.0)
        until = damping.next_timeout()
        assert until is not None
        assert damping.handle_timeout(until - 0.01) == []
        assert damping.handle_timeout(until) == LINK and damping.next_timeout() is None
        assert held(damping, until - 0.01) and not held(damping, until)
        waits.append(until - now - 1.0)
        now = until + 1.0
    assert waits == [
        HOLD_S,
        FLAP_HOLD_S,
        2 * FLAP_HOLD_S,
        MAX_HOLD_S,
        MAX_HOLD_S,
        MAX_HOLD_S,
        MAX_HOLD_S,
        MAX_HOLD_S,
    ]
    damping.handle_down(LINK, now + FORGIVE_S + MAX_HOLD_S)
    damping.handle_up(LINK, now + FORGIVE_S + MAX_HOLD_S)
    assert damping.next_timeout() == now + FORGIVE_S + MAX_HOLD_S + HOLD_S


@pytest.mark.parametrize("up_s", [0.5, 3.5, 5.0, 10.0, 28.0, 61.0, 90.0, 119.0, 123.0, 125.0, 250.0, 400.0])
def test_whatever_the_rhythm_of_a_flapping_link_paths_change_once_a_minute(up_s: float) -> None:
    damping, down_s = Damping(), 1.5
    used, changes, now = True, 0, 0.0
    while now < 3600.0:
        damping.handle_down(LINK, now)
        changes += used  # away from it
        now += down_s
        damping.handle_up(LINK, now)
        until = damping.next_timeout()
        used = until is not None and until < now + up_s
        changes += used  # back to it
        now += up_s
    assert changes <= now / 60 + 3  # one outage, before it can be known to be one of many


def test_a_node_that_is_gone_leaves_nothing() -> None:
    damping = Damping()
    damping.handle_down(LINK, 0.0)
    damping.forget(2)
    assert damping.debug_state() == {}
    damping.handle_down(LINK, 1.0)
    damping.handle_up(LINK, 2.0)
    damping.forget_pair(2, 1)
    assert damping.debug_state() == {} and damping.next_timeout() is None
