from __future__ import annotations

import random

import pytest

from relaymesh.webrtc.bwe.delay import DelayDetector, Usage

AUDIO_BYTES, FRAME_BYTES = 120, 1200


def overuses(line_bps: float, estimate_bps: float, frame_s: float, seconds: float = 20.0) -> float:
    """Overuses a second: audio each 20 ms and a frame about each *frame_s* on an empty line of *line_bps*."""
    detector, free_at, count = DelayDetector(), 0.0, 0
    detector.set_rate(estimate_bps)
    packets = [(k * 0.02, AUDIO_BYTES) for k in range(int(seconds / 0.02))]
    rng = random.Random(1)
    for k in range(int(seconds / frame_s)):
        size = rng.randrange(FRAME_BYTES // 2, FRAME_BYTES * 3 // 2)
        packets.append((k * frame_s + rng.uniform(0.0, 0.02), size))
    for sent_at, size in sorted(packets):
        free_at = max(free_at, sent_at) + size * 8 / line_bps
        before = detector.usage
        detector.add(sent_at, free_at + 0.01)
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
