"""H264 keyframes: single units, aggregates and fragments; an independent packetizer; hostile bytes."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from aiortc.codecs.h264 import H264Encoder
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.h264 import is_keyframe
from relaymesh.webrtc.payload import make_payload_reader

SPS, PPS, IDR, SLICE, SEI = b"\x67\x42\xc0\x1f", b"\x68\xce", b"\x65\x88\x84", b"\x41\x9a", b"\x06\x05"


def aggregate(*units: bytes) -> bytes:
    return b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


@pytest.mark.parametrize(
    ("payload", "keyframe"),
    [
        (IDR, True),
        (SPS, True),
        (PPS, False),
        (SLICE, False),
        (SEI, False),
        (aggregate(SPS, PPS), True),
        (aggregate(SEI, PPS, IDR), True),
        (aggregate(SEI, SLICE), False),
        (b"\x7c\x85\x88", True),  # FU-A, start of an IDR slice
        (b"\x7c\x05\x88", False),  # its middle
        (b"\x7c\x45\x88", False),  # its end
        (b"\x7c\x81\x9a", False),  # start of another slice
        (b"\x78", False),  # an aggregate of nothing
    ],
)
def test_keyframes_by_unit_type(payload, keyframe):
    assert is_keyframe(payload) is keyframe


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x7c", b"\x78\0", b"\x78\0\1", b"\x78\0\0", b"\x78\0\3\x65\x88", aggregate(IDR) + b"\0\1"],
)
def test_malformed_payloads_are_errors(payload):
    with pytest.raises(RtpError):
        is_keyframe(payload)


@given(
    st.lists(
        st.sampled_from([SPS, PPS, IDR, SLICE, IDR + b"\xff" * 3000, SLICE + b"\xff" * 3000]), min_size=1
    )
)
def test_another_packetizer_makes_packets_that_are_understood(units):
    picture = av.Packet(b"".join(b"\0\0\0\1" + unit for unit in units))
    picture.pts, picture.time_base = 0, Fraction(1, 90_000)
    packets, _ = H264Encoder().pack(picture)
    expected = any(unit[0] in (SPS[0], IDR[0]) for unit in units)
    assert any(map(is_keyframe, packets)) is expected


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda rest: b"\x78" + rest)))
def test_whatever_the_bytes_only_rtp_error(payload):
    try:
        assert is_keyframe(payload) in (True, False)
    except RtpError:
        pass


def fragments(unit: bytes) -> list[bytes]:
    """*unit* in three FU-A (RFC 6184 §5.8)."""
    head, body = bytes((unit[0] & 0xE0 | 28,)), unit[1:].ljust(3, b"\x11")
    parts = [body[:1], body[1:2], body[2:]]
    return [
        head + bytes((flags | unit[0] & 0x1F,)) + part
        for flags, part in zip((0x80, 0, 0x40), parts, strict=True)
    ]


IDR_REST = b"\x65\x40\x11"  # first_mb_in_slice is 1


@pytest.mark.parametrize(
    ("packets", "keyframes"),
    [
        ([IDR, IDR_REST, IDR_REST], [0]),
        ([SPS, PPS, IDR, IDR_REST], [0]),
        ([aggregate(SPS, PPS), *fragments(IDR), *fragments(IDR_REST)], [0]),
        ([aggregate(SPS, PPS, IDR), IDR_REST], [0]),
        ([*fragments(IDR), IDR_REST], [0]),
        ([IDR_REST, IDR_REST], []),  # joined between its slices
        ([SEI, PPS, IDR], [2]),
        ([SLICE, SLICE], []),
    ],
)
def test_a_keyframe_of_several_slices_begins_once_and_with_its_first(packets, keyframes):
    reader = make_payload_reader("H264")
    for _ in range(2):  # pictures
        read = [reader.read(packet, place == len(packets) - 1) for place, packet in enumerate(packets)]
        assert [place for place, info in enumerate(read) if info.keyframe] == keyframes
        assert [info.layer_end for info in read] == [*[False] * (len(packets) - 1), True]


def test_a_picture_whose_marker_is_lost_still_ends():
    reader = make_payload_reader("H264")
    read = [reader.read(packet, False) for packet in (SPS, PPS, IDR, SLICE, SLICE, aggregate(SPS, PPS, IDR))]
    assert [info.layer_start for info in read] == [True, False, False, True, True, True]
    assert [info.keyframe for info in read] == [True, False, False, False, False, True]


def test_what_nobody_refers_to_is_discardable():
    reader = make_payload_reader("H264")
    assert reader.read(b"\x01\x9a", True).discardable
    assert not reader.read(SLICE, True).discardable
    assert not reader.read(SEI, False).discardable
