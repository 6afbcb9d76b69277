"""H265 packets: units, aggregates and fragments written by hand from RFC 7798 §4.4; hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.h265 import aggregate, parse_packet, units
from relaymesh.webrtc.payload import make_payload_reader


def unit(kind: int, body: str = "80", temporal: int = 0) -> bytes:
    return bytes((kind << 1, temporal + 1)) + bytes.fromhex(body)


VPS, SPS, PPS, SEI = unit(32), unit(33), unit(34), unit(39)
IDR, IDR_REST, TRAIL, TRAIL_N = unit(19), unit(19, "00"), unit(1), unit(0, temporal=2)


def fragments(whole: bytes, pieces: int = 3) -> list[bytes]:
    """*whole* in FUs (§4.4.3)."""
    kind, body = whole[0] >> 1, whole[2:].ljust(pieces, b"\x11")
    size = -(-len(body) // pieces)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    head = bytes((49 << 1, whole[1]))
    return [
        head + bytes(((i == 0) << 7 | (i == len(parts) - 1) << 6 | kind,)) + part
        for i, part in enumerate(parts)
    ]


@pytest.mark.parametrize(
    ("payload", "sets", "headers", "first", "key"),
    [
        (VPS, False, True, False, False),
        (SPS, True, True, False, False),
        (SEI, False, True, False, False),
        (IDR, False, False, True, True),
        (IDR_REST, False, False, False, False),
        (unit(21), False, False, True, True),  # CRA
        (TRAIL, False, False, True, False),
        (aggregate([VPS, SPS, PPS]), True, True, False, False),
        (aggregate([SEI, IDR]), False, True, True, True),
        (fragments(IDR)[0], False, False, True, True),
        (fragments(IDR)[1], False, False, False, False),
        (fragments(TRAIL)[0], False, False, True, False),
    ],
)
def test_packets_by_unit_type(payload, sets, headers, first, key):
    packet = parse_packet(payload)
    assert (packet.parameter_sets, packet.headers) == (sets, headers)
    assert (packet.first_slice, packet.random_access) == (first, key)


@pytest.mark.parametrize(
    "payload", [b"", b"\x02", b"\x02\x01", b"\x60\x01\0", b"\x60\x01\0\5\1", b"\x60\x01\0\1\1"]
)
def test_malformed_payloads_are_errors(payload):
    with pytest.raises(RtpError):
        parse_packet(payload)


def test_a_keyframe_of_several_slices_begins_once():
    reader = make_payload_reader("H265")
    packets = [
        (VPS, False),
        (SPS, False),
        (PPS, False),
        *[(p, False) for p in fragments(IDR)],
        (IDR_REST, True),
    ]
    read = [reader.read(*packet) for packet in packets]
    assert [info.keyframe for info in read] == [False, True, *[False] * 5]
    assert [info.layer_start for info in read] == [True, *[False] * 6]
    assert [info.layer_end for info in read] == [*[False] * 6, True]


def test_temporal_layers_and_their_entries():
    reader = make_payload_reader("H265")
    reader.read(IDR, True)
    tsa = reader.read(unit(2, temporal=1), True)  # TSA_N
    assert (tsa.temporal, tsa.entry, tsa.temporal_layers) == (1, True, 2)
    plain = reader.read(unit(1, temporal=1), True)
    assert (plain.temporal, plain.entry, plain.discardable) == (1, False, False)
    top = reader.read(TRAIL_N, True)
    assert (top.temporal, top.discardable, top.temporal_layers) == (2, True, 3)
    assert not reader.read(unit(0, temporal=1), True).discardable, "a higher layer may refer to it"


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda rest: b"\x60\x01" + rest)))
def test_whatever_the_bytes_only_rtp_error(payload):
    for read in (parse_packet, units):
        try:
            read(payload)
        except RtpError:
            pass


@given(st.lists(st.sampled_from([VPS, SPS, PPS, IDR, TRAIL_N]), min_size=1))
def test_aggregates_are_taken_apart_again(parts):
    assert [u.data for u in units(aggregate(parts))] == parts
