"""What receiver reports alone say against a video."""

from __future__ import annotations

import pytest

from relaymesh.webrtc.bwe.reported import FIRST_PAUSE, FORGIVEN_AFTER, MAX_PAUSE, ReportedLoss


def pause_after_loss(reported: ReportedLoss, now: float) -> float:
    """How long from a lossy report until the next trial, with a clean report each second."""
    reported.note(0.3, now)
    assert reported.is_high
    for second in range(1, 200):
        reported.note(0.0, now + second)
        if not reported.is_high:
            return second
    raise AssertionError("it never tries again")


def test_nothing_speaks_against_it_before_loss_is_reported() -> None:
    reported = ReportedLoss()
    assert not reported.is_high
    reported.note(0.05, 1.0)
    assert not reported.is_high


def test_each_trial_that_fails_makes_the_next_one_wait_twice_as_long() -> None:
    reported = ReportedLoss()
    now, pauses = 0.0, []
    for _ in range(6):
        pauses.append(pause_after_loss(reported, now))
        now += pauses[-1] + 2.0
    assert pauses == [FIRST_PAUSE, 10.0, 20.0, 40.0, MAX_PAUSE, MAX_PAUSE]


def test_a_trial_that_lasts_is_forgiven() -> None:
    reported = ReportedLoss()
    now = 0.0
    for _ in range(3):
        now += pause_after_loss(reported, now) + 2.0
    assert pause_after_loss(reported, now + FORGIVEN_AFTER) == FIRST_PAUSE


@pytest.mark.parametrize("between", [0.03, 0.3])
def test_loss_that_goes_on_keeps_it_waiting(between: float) -> None:
    reported = ReportedLoss()
    reported.note(0.3, 0.0)
    for second in range(1, 100):
        reported.note(between, float(second))
        assert reported.is_high
