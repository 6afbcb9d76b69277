"""VP9 descriptors: written by hand from RFC 9628 §4.2, rewriting, hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.payload import make_payload_reader
from relaymesh.webrtc.vp9 import Vp9Structure, parse_descriptor, rewrite
from tests.webrtc.recordings import NAMES, load


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("08", {"first": True, "last": False, "keyframe": True, "size": 1}),
        ("0c", {"first": True, "last": True, "keyframe": True}),
        ("48", {"predicted": True, "keyframe": False}),
        ("00", {"first": False, "keyframe": False}),
        ("88 11", {"picture_id": 0x11, "picture_id_bits": 7, "size": 2}),
        ("88 9234", {"picture_id": 0x1234, "picture_id_bits": 15, "size": 3}),
        # non-flexible with layers: TID 2, U, SID 1, D, and TL0PICIDX
        (
            "a8 05 53 09",
            {
                "temporal": 2,
                "switching_up": True,
                "spatial": 1,
                "inter_layer": True,
                "tl0picidx": 9,
                "keyframe": False,
            },
        ),
        # flexible: two references
        (
            "f8 8005 20 05 08",
            {"flexible": True, "temporal": 1, "tl0picidx": None, "references": (2, 4), "size": 6},
        ),
        ("09", {"unneeded_above": True}),
        # structure: 2 spatial layers with sizes, a group of pictures of T0 and T1
        (
            "0a 38 0140 00b4 0280 0168 02 14 04 24 01",
            {"structure": Vp9Structure(2, 2, ((320, 180), (640, 360))), "size": 15},
        ),
    ],
)
def test_reads_descriptors_written_by_hand(payload, expected):
    parsed = parse_descriptor(bytes.fromhex(payload))
    assert {name: getattr(parsed, name) for name in expected} == expected


@pytest.mark.parametrize(
    "payload",
    ["", "88", "8880", "a8 05", "a8 05 53", "f8 8005 20", "f8 8005 20 05", "0a", "0a 18 01", "0a 08"],
)
def test_truncated_descriptors_are_errors(payload):
    with pytest.raises(RtpError):
        parse_descriptor(bytes.fromhex(payload))


def test_a_fourth_reference_is_an_error():
    with pytest.raises(RtpError, match="three"):
        parse_descriptor(bytes.fromhex("f8 8005 20 05 09 0b 0d 0f"))


@given(st.binary(max_size=40), st.integers(-0x7FFF, 0x7FFF), st.integers(-255, 255))
def test_rewriting_moves_two_numbers_only(payload, picture_id, tl0):
    try:
        before = parse_descriptor(payload)
    except RtpError:
        return
    changed = rewrite(payload, before, picture_id, tl0)
    after = parse_descriptor(changed)
    assert len(changed) == len(payload)
    if before.picture_id is not None:
        assert after.picture_id == (before.picture_id + picture_id) & ((1 << before.picture_id_bits) - 1)
    if before.tl0picidx is not None:
        assert after.tl0picidx == (before.tl0picidx + tl0) & 0xFF
    assert rewrite(changed, after, -picture_id, -tl0) == payload


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vp9")])
def test_a_browsers_descriptors_cut_at_every_byte(name):
    for packet in load(name).packets:
        size = parse_descriptor(packet.payload).size
        for cut in range(size):
            with pytest.raises(RtpError):
                parse_descriptor(packet.payload[:cut])


def picture(number: int, temporal: int, *, up: bool, predicted: bool = True) -> bytes:
    """A picture of one packet, not flexible."""
    return bytes((0xAC | predicted << 6, 0x80, number, temporal << 5 | up << 4, 0))


def test_without_flexible_mode_the_switching_up_bit_says_where_layers_begin():
    """RFC 9628: after a picture with U no higher layer needs anything of its own from before it."""
    reader = make_payload_reader("VP9")
    entries = []
    for number, (temporal, up) in enumerate(
        [(0, True), (2, False), (1, False), (2, False), (0, False), (2, False), (1, True), (2, False)]
    ):
        info = reader.read(picture(number, temporal, up=up, predicted=number > 0), True)
        entries.append((info.temporal, info.entry))
    assert entries == [
        (0, True),  # keyframe
        (2, True),  # the first of layer 2 since
        (1, True),
        (2, False),  # may need the one before
        (0, False),
        (2, False),
        (1, False),  # no longer the first, but it says U
        (2, True),
    ]


def test_a_gap_makes_entries_doubtful():
    reader = make_payload_reader("VP9")
    reader.read(picture(0, 0, up=True, predicted=False), True)
    assert not reader.read(picture(2, 1, up=False), True).entry
