"""What REMB says, in bit/s on the wire: overhead, sources it leaves out, several estimators of one peer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.bwe.remb import KEPT, MAX_OVERHEAD, RembReader
from relaymesh.webrtc.rtcp import Remb

AUDIO, VIDEO, VIDEO_RTX, SCREEN = 1, 2, 3, 4


def reader() -> RembReader:
    """A second of voice (32 kbit/s on the wire, half of it payload), and of two videos: 8 and 16 packets."""
    made = RembReader()
    made.add_source(AUDIO, None)
    made.add_source(VIDEO, VIDEO_RTX)
    made.add_source(SCREEN, None)
    for k in range(50):
        made.on_sent(AUDIO, 40, 80, 10.0 + k / 50)
    for k in range(8):
        made.on_sent((VIDEO, VIDEO_RTX)[k % 2], 1000, 1100, 10.0 + k / 8)
    for k in range(16):
        made.on_sent(SCREEN, 500, 600, 10.0 + k / 16)
    return made


def test_packets_are_counted_whole_and_what_is_not_named_besides() -> None:
    said = reader().read(Remb(9, 500_000, (VIDEO,)), 11.0)
    assert said == pytest.approx(500e3 * 1.1 + 32e3 + 16 * 4800)


def test_retransmissions_are_those_of_their_track() -> None:
    made = reader()
    assert made.read(Remb(9, 500_000, (VIDEO_RTX,)), 11.0) == made.read(Remb(9, 500_000, (VIDEO,)), 11.0)


def test_estimators_of_one_peer_for_distinct_sources_add_up_and_a_newer_word_replaces() -> None:
    made = reader()
    made.read(Remb(9, 500_000, (VIDEO,)), 11.0)
    both = made.read(Remb(9, 300_000, (SCREEN,)), 11.0)
    assert both == pytest.approx(500e3 * 1.1 + 300e3 * 1.2 + 32e3)
    newer = made.read(Remb(9, 100_000, (VIDEO,)), 11.05)
    assert newer == pytest.approx(100e3 * 1.1 + 300e3 * 1.2 + 32e3, rel=0.02)
    whole = made.read(Remb(9, 900_000, (AUDIO, VIDEO, SCREEN)), 11.05)
    assert whole == pytest.approx(900e3 * (32e3 + 70.4e3 + 76.8e3) / (16e3 + 64e3 + 64e3), rel=0.02)


def test_what_was_said_of_one_lapses_while_another_goes_on() -> None:
    made = reader()
    made.read(Remb(9, 500_000, (VIDEO,)), 11.0)
    assert made.read(Remb(9, 300_000, (SCREEN,)), 11.0 + KEPT) == 300_000, "and nothing was sent any more"


def test_one_that_names_nobody_is_about_all() -> None:
    made = reader()
    assert made.read(Remb(9, 100_000, ()), 11.0) == made.read(Remb(9, 100_000, (AUDIO, VIDEO, SCREEN)), 11.0)


def test_one_about_others_says_nothing() -> None:
    made = reader()
    assert made.read(Remb(9, 100_000, (77, 78)), 11.0) is None
    assert made.foreign == 1


@given(
    st.lists(
        st.tuples(
            st.integers(0, (2**18 - 1) << 63),
            st.lists(st.integers(0, 6), max_size=8).map(tuple),
            st.floats(0.0, 30.0),
        ),
        max_size=40,
    )
)
def test_whatever_is_said_there_is_one_word_for_each_source_at_most(
    said: list[tuple[int, tuple[int, ...], float]],
) -> None:
    made, now = reader(), 11.0
    for bitrate, ssrcs, wait in said:
        now += wait
        bps = made.read(Remb(9, bitrate, ssrcs), now)
        if bps is None:
            assert not set(ssrcs) & {AUDIO, VIDEO, VIDEO_RTX, SCREEN}
            continue
        kept = made.debug_state()["said_bps"]
        assert isinstance(kept, dict)
        named = [int(ssrc) for key in kept for ssrc in key.split(",")]
        assert len(named) == len(set(named)) <= 3
        assert bitrate <= bps * 1.001 or bitrate == 0
        assert bps <= MAX_OVERHEAD * sum(kept.values()) + 200e3
