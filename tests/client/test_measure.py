from __future__ import annotations

from relaymesh.client.measure import Watch
from relaymesh.client.picture import Stamp

FRAME = 0.04


def watch(numbers: list[int | None], *, started: float = 100.0, latency_ms: float = 60.0) -> Watch:
    """A watch that got *numbers* at 25 per second, the first one 0.5 s after it asked."""
    it = Watch(started)
    for slot, number in enumerate(numbers):
        now = started + 0.5 + slot * FRAME
        clock_ms = 1_000_000 + now * 1000
        stamp = None if number is None else Stamp(number, int(clock_ms - latency_ms))
        it.handle_picture(stamp, now, clock_ms)
    return it


def test_nothing_arrived() -> None:
    seen = Watch(5.0).seen()
    assert seen.frames_decoded == seen.frames_lost == seen.audio_frames == 0
    assert seen.first_frame_ms is None
    assert seen.latency is None


def test_a_steady_stream() -> None:
    seen = watch(list(range(40, 90))).seen()
    assert (seen.frames_decoded, seen.frames_distinct, seen.frames_lost, seen.frames_repeated) == (
        50,
        50,
        0,
        0,
    )
    assert (seen.first_number, seen.last_number) == (40, 89)
    assert seen.first_frame_ms == 500.0
    assert seen.latency is not None
    assert abs(seen.latency.p50_ms - 60) <= 1
    assert abs(seen.latency.max_ms - 60) <= 1
    assert seen.gaps_over_200ms == 0


def test_the_first_picture_is_measured_from_the_last_request_before_it() -> None:
    it = Watch(0.0)
    it.handle_request(7.0)
    it.handle_picture(None, 7.2, 0)
    it.handle_request(9.0)
    it.handle_picture(None, 9.1, 0)
    assert it.seen().first_frame_ms == 200.0


def test_lost_repeated_reordered_and_unreadable_frames_are_told_apart() -> None:
    seen = watch([1, 2, 2, 5, 4, None, 7]).seen()
    assert seen.frames_decoded == 7
    assert seen.frames_distinct == 5
    assert seen.frames_repeated == 1
    assert seen.frames_reordered == 1
    assert seen.frames_unreadable == 1
    assert seen.frames_lost == 1  # 3 is missing; 6 came, unreadable


def test_a_publisher_that_starts_again_is_not_a_loss() -> None:
    seen = watch([*range(5000, 5010), *range(10)]).seen()
    assert seen.frames_distinct == 20
    assert seen.frames_lost == 0
    assert (seen.first_number, seen.last_number) == (5000, 9)


def test_gaps() -> None:
    it = Watch(0.0)
    for now in (1.0, 1.04, 1.25, 1.29, 2.0):
        it.handle_picture(Stamp(int(now * 100), 1), now, 2)
    it.handle_audio()
    seen = it.seen()
    assert seen.gaps_ms == (210.0, 710.0)
    assert seen.gaps_over_200ms == 2
    assert seen.longest_gap_ms == 710.0
    assert seen.audio_frames == 1
    assert seen.as_dict()["longest_gap_ms"] == 710.0


def test_memory_stays_bounded() -> None:
    it = watch(list(range(3000)))
    for second in range(2000):
        it.handle_picture(None, 1000.0 + second, 0)
    assert len(it.seen().gaps_ms) == 1000
    assert it.seen().gaps_over_200ms == 2000
