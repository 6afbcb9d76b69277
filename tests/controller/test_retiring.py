from __future__ import annotations

from relaymesh.controller.retiring import GRACE_S, Pair, Retiring

PAIR = (1, 2)


def gone(
    retiring: Retiring, active: int, start: float, seconds: float, *, told: bool = True
) -> list[tuple[float, Pair]]:
    """What is taken away, and when, while time passes in quarters of a second."""
    found = []
    for step in range(round(seconds * 4) + 1):
        now = start + step / 4
        found += [(now, pair) for pair in retiring.handle_timeout(active, lambda pair: told, now)]
    return found


def test_a_pair_goes_a_grace_after_a_plan_without_it_is_active() -> None:
    retiring = Retiring()
    retiring.begin([PAIR], 0.0)
    assert retiring.unplanned and gone(retiring, 7, 0.25, 10.0) == []
    retiring.handle_begun()
    retiring.handle_planned(8)
    assert not retiring.unplanned and gone(retiring, 7, 11.0, 10.0) == [], "made, but not active"
    assert gone(retiring, 8, 22.0, 10.0) == [(22.0 + GRACE_S, PAIR)]
    assert retiring.next_timeout() is None and retiring.debug_state() == {}


def test_a_plan_that_was_begun_before_says_nothing_of_the_pair() -> None:
    retiring = Retiring()
    retiring.begin([PAIR], 0.0)
    retiring.handle_planned(8)
    assert retiring.unplanned and gone(retiring, 9, 1.0, 10.0) == []


def test_a_pair_stays_while_an_end_cannot_be_told() -> None:
    retiring = Retiring()
    retiring.begin([PAIR], 0.0)
    retiring.handle_begun()
    retiring.handle_planned(8)
    assert gone(retiring, 8, 1.0, 60.0, told=False) == []
    assert gone(retiring, 8, 62.0, 1.0) == [(62.0, PAIR)]


def test_no_plan_has_it_in_either_direction_until_it_is_allowed_again() -> None:
    retiring = Retiring()
    links = [(1, 2), (2, 1), (1, 3)]
    retiring.begin([PAIR], 0.0)
    assert [retiring.holds(link) for link in links] == [True, True, False]
    retiring.keep_only([])
    assert not any(retiring.holds(link) for link in links)
