from __future__ import annotations

import random

import pytest

from relaymesh.webrtc.bwe.delay import DelayDetector, Usage
from relaymesh.webrtc.bwe.expected import ExpectedQueue

AUDIO_BYTES, FRAME_BYTES = 120, 1200


def overuses(line_bps: float, estimate_bps: float, frame_s: float, seconds: float = 20.0) -> float:
    """Overuses a second: audio each 20 ms and a frame about each *frame_s* on an empty line of *line_bps*."""
    detector, queue, free_at, count = DelayDetector(), ExpectedQueue(), 0.0, 0
    detector.set_rate(estimate_bps)
    packets = [(k * 0.02, AUDIO_BYTES) for k in range(int(seconds / 0.02))]
    rng = random.Random(1)
    for k in range(int(seconds / frame_s)):
        size = rng.randrange(FRAME_BYTES // 2, FRAME_BYTES * 3 // 2)
        packets.append((k * frame_s + rng.uniform(0.0, 0.02), size))
    for sent_at, size in sorted(packets):
        free_at = max(free_at, sent_at) + size * 8 / line_bps
        before = detector.usage
        detector.add(sent_at, free_at + 0.01, queue.add(sent_at, size, estimate_bps))
        count += detector.usage is Usage.OVER and before is not Usage.OVER
    return count / seconds


@pytest.mark.parametrize("frame_s", [0.2, 0.25])
def test_one_packet_on_a_slow_line_is_no_queue(frame_s: float) -> None:
    """150 kbit/s, of which 48 are audio and at most 48 a base layer: each frame is 64 ms of the line."""
    assert overuses(150e3, 110e3, frame_s) == 0.0


def test_a_queue_on_a_slow_line_is_seen() -> None:
    assert overuses(150e3, 110e3, 0.07) > 0.0, "185 kbit/s in all"


def test_on_a_faster_line_a_few_milliseconds_count() -> None:
    assert overuses(2e6, 2e6, 0.0045) > 0.0, "2.18 Mbit/s in all"


# --- what a picture explains, and what it does not ------------------------------------------------


def pictures(line_bps: float, cut_at: float, cut_bps: float, estimate_bps: float = 700e3) -> float | None:
    """Seconds from *cut_at* to the first packet whose delay is overuse; 15 pictures/s of 3 kB."""
    detector, queue, free_at = DelayDetector(), ExpectedQueue(), 0.0
    detector.set_rate(estimate_bps)
    for picture in range(90):
        for part in range(3):
            sent_at = picture / 15 + part * 0.006
            bps = line_bps if sent_at < cut_at else cut_bps
            free_at = max(free_at, sent_at) + 8000 / bps
            detector.add(sent_at, free_at + 0.02, queue.add(sent_at, 1000, estimate_bps))
            if detector.usage is Usage.OVER and sent_at > cut_at:
                return sent_at - cut_at
    return None


def test_a_path_that_gets_narrow_shows_by_the_next_picture() -> None:
    found = pictures(700e3, 3.0, 150e3)
    assert found is not None and found < 0.1
    assert pictures(700e3, 3.0, 700e3) is None


def test_a_pause_of_the_path_is_no_queue() -> None:
    """All that waited comes at once: each later packet was less late."""
    detector, queue = DelayDetector(), ExpectedQueue()
    detector.set_rate(700e3)
    for k in range(300):
        sent_at = k * 0.02
        arrived_at = max(sent_at + 0.02, 3.2) if 3.0 <= sent_at < 3.2 else sent_at + 0.02
        detector.add(sent_at, arrived_at, queue.add(sent_at, 300, 700e3))
        assert detector.usage is not Usage.OVER


def test_what_is_expected_is_the_queue_of_a_path_at_that_rate() -> None:
    queue = ExpectedQueue()
    assert queue.add(0.0, 1000, 80e3) == 0.0
    assert queue.add(0.0, 1000, 80e3) == pytest.approx(0.1)
    assert queue.add(0.15, 1000, 80e3) == pytest.approx(0.05)
    assert queue.add(0.1, 1000, 80e3) == pytest.approx(0.15), "told out of order: as if sent then"
    assert queue.add(9.0, 1000, 80e3) == 0.0
