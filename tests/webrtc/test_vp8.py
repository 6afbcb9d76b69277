"""VP8 descriptors: an independent codec as the oracle, vectors, rewriting, hostile bytes."""

from __future__ import annotations

import pytest
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.vp8 import parse_descriptor, rewrite

descriptors = st.builds(
    VpxPayloadDescriptor,
    st.integers(0, 1),
    st.integers(0, 7),
    picture_id=st.none() | st.integers(0, 0x7FFF),
    tl0picidx=st.none() | st.integers(0, 255),
    tid=st.none() | st.tuples(st.integers(0, 3), st.integers(0, 1)),
    keyidx=st.none() | st.integers(0, 31),
)


@pytest.mark.parametrize(
    ("payload", "keyframe", "picture_id", "bits", "tl0picidx", "size"),
    [
        ("10 00", True, None, 0, None, 1),
        ("10 01", False, None, 0, None, 1),  # P is set: a delta frame
        ("00 00", False, None, 0, None, 1),  # the middle of a partition
        ("11 00", False, None, 0, None, 1),  # the start of another partition
        ("10", False, None, 0, None, 1),  # no VP8 data at all
        ("9080 11 10", True, 0x11, 7, None, 3),
        ("9080 9234 10", True, 0x1234, 15, None, 4),
        ("90e0 8001 07 60 11", False, 1, 15, 7, 6),
        ("b050 ff 1f 10", True, None, 0, 255, 4),
    ],
)
def test_reads_descriptors_written_by_hand(payload, keyframe, picture_id, bits, tl0picidx, size):
    parsed = parse_descriptor(bytes.fromhex(payload))
    assert (parsed.keyframe, parsed.picture_id, parsed.picture_id_bits) == (keyframe, picture_id, bits)
    assert (parsed.tl0picidx, parsed.size) == (tl0picidx, size)


@given(descriptors, st.binary(max_size=10))
def test_reads_what_another_encoder_writes(other, rest):
    parsed = parse_descriptor(bytes(other) + rest)
    assert (parsed.start_of_partition, parsed.partition) == (bool(other.partition_start), other.partition_id)
    assert (parsed.picture_id, parsed.tl0picidx) == (other.picture_id, other.tl0picidx)
    assert (parsed.key_index, parsed.size) == (other.keyidx, len(bytes(other)))
    if other.tid is None:
        assert parsed.temporal_id is None
    else:
        assert (parsed.temporal_id, parsed.layer_sync) == (other.tid[0], bool(other.tid[1]))


@given(st.binary(max_size=12))
def test_agrees_with_another_decoder_on_any_bytes(payload):
    try:
        other, rest = VpxPayloadDescriptor.parse(payload)
    except ValueError:
        with pytest.raises(RtpError):
            parse_descriptor(payload)
        return
    parsed = parse_descriptor(payload)
    assert (parsed.picture_id, parsed.tl0picidx, parsed.key_index) == (
        other.picture_id,
        other.tl0picidx,
        other.keyidx,
    )
    assert payload[parsed.size :] == rest


@given(descriptors, st.binary(max_size=10), st.integers(0, 0x7FFF), st.integers(0, 255))
def test_rewriting_changes_two_numbers_only(other, rest, picture_id_offset, tl0_offset):
    payload = bytes(other) + rest
    if other.picture_id is not None:
        other.picture_id = (other.picture_id + picture_id_offset) & 0x7FFF
    if other.tl0picidx is not None:
        other.tl0picidx = (other.tl0picidx + tl0_offset) & 0xFF
    changed = rewrite(payload, parse_descriptor(payload), picture_id_offset, tl0_offset)
    assert changed == bytes(other) + rest
    assert rewrite(changed, parse_descriptor(changed), -picture_id_offset, -tl0_offset) == payload


def test_a_short_picture_id_keeps_its_width():
    payload = bytes.fromhex("9080 7f 10")
    assert rewrite(payload, parse_descriptor(payload), 0x102, 0) == bytes.fromhex("9080 01 10")


@pytest.mark.parametrize("payload", ["", "80", "8080", "808080", "8040", "8020", "8010", "80c0 05"])
def test_truncated_descriptors_are_errors(payload):
    with pytest.raises(RtpError):
        parse_descriptor(bytes.fromhex(payload))
