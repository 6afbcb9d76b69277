from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.silence import FILLED, FILLED_FOR, LEAST, LONGEST_PAUSES, Filling, Silence


def test_on_a_busy_link_silence_is_known_soon_and_pauses_raise_it_for_a_while() -> None:
    silence = Silence(0.05, 0.5)
    for _ in range(500):
        silence.handle_pause(0.005)
    assert silence.threshold == pytest.approx(LEAST)
    silence.handle_pause(0.25)
    assert silence.threshold == pytest.approx(0.375)
    for _ in range(20_000):
        silence.handle_pause(0.005)
    assert silence.threshold == pytest.approx(LEAST)


def test_without_media_two_probes_and_two_echoes_must_be_missing() -> None:
    silence = Silence(0.05, 0.5)
    for _ in range(500):
        silence.handle_pause(0.025)
    assert silence.threshold == pytest.approx(0.1)


def test_a_link_that_loses_gets_more_time() -> None:
    silence = Silence(0.05, 0.5)
    silence.handle_loss(0.1)
    assert silence.threshold == pytest.approx(0.25)


@given(st.floats(0.005, 10), st.floats(0.01, 60), st.lists(st.floats(0, 1000), max_size=50), st.floats(0, 1))
def test_the_threshold_keeps_its_bounds(
    interval: float, dead_after: float, pauses: list[float], loss: float
) -> None:
    silence = Silence(interval, dead_after)
    for pause in pauses:
        silence.handle_pause(pause)
    silence.handle_loss(loss)
    assert min(LEAST, dead_after) <= silence.threshold <= dead_after


def test_pauses_after_media_begin_short_and_grow_slowly_enough_for_the_other_end() -> None:
    """Whatever was heard before, no pause of ours is a death at the peer."""
    filling, silence = Filling(1.0), Silence(1.0, 3.0)
    assert filling.longest == math.inf
    filling.handle_interval(100, 0.0)
    for _ in range(10_000):
        silence.handle_pause(0.005)  # for so long that the peer knows no longer pause
    now, pauses = 0.0, []
    while filling.longest < math.inf:
        pauses.append(filling.longest)
        assert pauses[-1] < silence.threshold
        now += filling.longest
        silence.handle_pause(filling.longest)
        filling.handle_filled(now)
    assert pauses[: int(FILLED_FOR / FILLED)] == [FILLED] * int(FILLED_FOR / FILLED)
    assert pauses[-1] * LONGEST_PAUSES > 1.0  # the pause between two probes follows


def test_a_link_that_carries_nothing_is_not_filled() -> None:
    filling = Filling(0.05)
    for second in range(10):
        filling.handle_interval(second // 2, float(second))  # one packet in two intervals is no stream
    assert filling.longest == math.inf
