from __future__ import annotations

from relaymesh.controller.damping import FORGIVE_S, HOLD_S, MAX_HOLD_S, PROBATION_MS, Damping

LINK = [(1, 2), (2, 1)]
COSTS = {(1, 2): 5.0, (2, 1): 6.0, (1, 3): 7.0}


def held(damping: Damping, now: float) -> bool:
    weighed = damping.weigh(COSTS, now)
    assert weighed[1, 3] == 7.0
    assert (weighed[1, 2] > PROBATION_MS) == (weighed[2, 1] > PROBATION_MS)
    return weighed[1, 2] > PROBATION_MS


def test_a_new_link_is_used_at_once() -> None:
    damping = Damping()
    damping.handle_up(LINK, 0.0)
    assert not held(damping, 0.0)
    assert damping.next_timeout(0.0) is None


def test_a_link_that_returns_waits_and_one_that_flaps_waits_longer() -> None:
    damping = Damping()
    now, waits = 0.0, []
    for _ in range(8):
        damping.handle_down(LINK, now)
        damping.handle_up(LINK, now + 1.0)
        until = damping.next_timeout(now + 1.0)
        assert until is not None
        assert held(damping, until - 0.01) and not held(damping, until)
        waits.append(until - now - 1.0)
        now = until + 1.0
    assert waits == [min(HOLD_S * 2**k, MAX_HOLD_S) for k in range(8)]
    damping.handle_down(LINK, now + FORGIVE_S + MAX_HOLD_S)
    damping.handle_up(LINK, now + FORGIVE_S + MAX_HOLD_S)
    assert damping.next_timeout(now + FORGIVE_S + MAX_HOLD_S) == now + FORGIVE_S + MAX_HOLD_S + HOLD_S


def test_a_node_that_is_gone_leaves_nothing() -> None:
    damping = Damping()
    damping.handle_down(LINK, 0.0)
    damping.forget(2)
    assert damping.debug_state() == {}
