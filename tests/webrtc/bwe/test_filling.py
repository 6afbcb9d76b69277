"""Padding up to the estimate: while it rises, with pauses when it does not, and never without a wish."""

from __future__ import annotations

import math
from itertools import pairwise

from relaymesh.webrtc.bwe.filling import DURATION, FIRST_PAUSE, FUTILE, MAX_PAUSE, START_PAUSE, Filler


def run(filler: Filler, start: float, seconds: float, estimate: float, wanted: float) -> list[float]:
    """Times of the clusters, asked for each 10 ms."""
    times = []
    for tick in range(round(seconds * 100)):
        cluster = filler.poll(estimate, wanted, start + tick / 100)
        if cluster is not None:
            assert cluster.target_bps == estimate
            assert math.isclose(cluster.size_bytes, estimate * DURATION / 8, abs_tol=1.0)
            times.append(start + tick / 100)
    return times


def test_nothing_is_filled_that_nobody_wants() -> None:
    assert run(Filler(), 0.0, 5.0, 300e3, 300e3) == []


def test_it_begins_after_what_the_player_begins_with_and_goes_on_without_gaps() -> None:
    times = run(Filler(), 10.0, 2.0, 300e3, 500e3)
    assert times[0] == 10.0 + START_PAUSE
    assert all(math.isclose(b - a, DURATION, abs_tol=0.011) for a, b in pairwise(times))


def test_what_does_not_rise_is_let_be_for_longer_and_longer() -> None:
    times = run(Filler(), 0.0, 120.0, 300e3, 500e3)
    gaps = [b - a for a, b in pairwise(times) if b - a > 1.0]
    assert [round(gap) for gap in gaps] == [2, 4, 8, 12, 12, 12, 12, 12]
    assert (FIRST_PAUSE, MAX_PAUSE) == (2.0, 12.0)
    assert len(times) * DURATION <= 9 * (FUTILE + 2 * DURATION)


def test_as_long_as_it_rises_it_goes_on() -> None:
    filler = Filler()
    times: list[float] = []
    for second in range(30):
        times += run(filler, float(second), 1.0, 300e3 * 1.05**second, 10e6)
    assert max(b - a for a, b in pairwise(times)) <= DURATION + 0.011


def test_a_fall_ends_it_and_success_forgets_earlier_pauses() -> None:
    filler = Filler()
    run(filler, 0.0, 2.0, 300e3, 500e3)
    filler.on_change(300e3, 290e3, 2.0)
    assert len(run(filler, 2.0, 0.2, 290e3, 500e3)) == 1, "noise"
    filler.on_change(290e3, 250e3, 2.2)
    assert run(filler, 2.2, 4.9, 250e3, 500e3)[0] >= 2.2 + FIRST_PAUSE
    assert run(filler, 7.1, 0.1, 500e3, 500e3) == []
    run(filler, 7.2, 1.0, 500e3, 900e3)
    filler.on_change(500e3, 400e3, 8.2)
    again = run(filler, 8.2, 5.0, 400e3, 900e3)[0]
    assert 8.2 + FIRST_PAUSE <= again <= 8.2 + FIRST_PAUSE + 0.02


def test_after_a_fall_that_media_made_its_queue_goes_first() -> None:
    filler = Filler()
    filler.on_change(800e3, 300e3, 5.0)
    assert run(filler, 5.0, 3.0, 300e3, 500e3)[0] >= 6.0
