"""AV1 aggregation: written by hand from §4.4 of the payload format, a browser's own, hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.av1 import MAX_OBUS, parse_packet
from relaymesh.webrtc.errors import RtpError
from tests.webrtc.recordings import load

# OBU headers without extension and size: type << 3
SEQUENCE, FRAME, TILES = "08", "30", "20"


@pytest.mark.parametrize(
    ("payload", "types", "keyframe", "begins"),
    [
        (f"18 {SEQUENCE}aabb", (1,), True, True),  # W = 1, N
        (f"10 {SEQUENCE}aabb", (1,), True, True),  # no N, but a sequence header
        (f"10 {FRAME}00", (6,), False, True),
        (f"28 02 {SEQUENCE}aa {FRAME}00", (1, 6), True, True),  # W = 2: only the first has a length
        (f"00 02 {SEQUENCE}aa 02 {FRAME}00", (1, 6), True, True),  # W = 0: both have
        ("90 1234", (), False, False),  # Z: the rest of an OBU
        (f"a0 01 12 {FRAME}00", (6,), False, False),
        (f"10 {TILES}00", (4,), False, False),
    ],
)
def test_reads_aggregates_written_by_hand(payload, types, keyframe, begins):
    packet = parse_packet(bytes.fromhex(payload))
    assert packet.types == types
    assert (packet.keyframe, packet.begins_frame) == (keyframe, begins)


@pytest.mark.parametrize(
    "payload", ["", "10", "20 0130", "00 05 30", "00 ff", "00 ffffffffff01", "30 0130 0130"]
)
def test_malformed_payloads_are_errors(payload):
    with pytest.raises(RtpError):
        parse_packet(bytes.fromhex(payload))


def test_obus_are_bounded():
    with pytest.raises(RtpError, match="too many"):
        parse_packet(b"\0" + b"\1\x30" * (MAX_OBUS + 1))


@given(st.binary(max_size=60))
def test_whatever_the_bytes_only_rtp_error(payload):
    try:
        packet = parse_packet(payload)
    except RtpError:
        return
    assert all(0 <= kind < 16 for kind in packet.types)


def test_a_browser_begins_its_keyframes_with_n_and_a_sequence_header():
    keyframes = [p for p in (parse_packet(p.payload) for p in load("av1-l1t1").packets) if p.keyframe]
    assert len(keyframes) >= 2
    assert all(p.sequence_start and p.types[0] == 1 for p in keyframes)
