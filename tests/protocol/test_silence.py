from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.silence import LEAST, Silence


def test_on_a_busy_link_silence_is_known_soon_and_pauses_raise_it_for_a_while() -> None:
    silence = Silence(0.05, 0.5)
    for _ in range(500):
        silence.handle_pause(0.005)
    assert silence.threshold == pytest.approx(0.1)
    silence.handle_pause(0.25)
    assert silence.threshold == pytest.approx(0.375)
    for _ in range(20_000):
        silence.handle_pause(0.005)
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
