"""Parameter sets kept for late joiners: real ones of libx264 and libx265, by packet, by piece, by sprop."""

from __future__ import annotations

import base64
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc import h264, h265
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.parameter_sets import MAX_SET_BYTES, MAX_SETS, ParameterSets
from tests.webrtc.test_h265 import fragments as h265_fragments


def encoded(encoder: str) -> list[bytes]:
    """The units of one keyframe as that encoder writes them."""
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = 320, 180, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    frame = av.VideoFrame.from_ndarray(np.zeros((180, 320, 3), np.uint8), format="rgb24").reformat(
        format="yuv420p"
    )
    frame.pts = 0
    data = b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])
    return [part for part in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if part]


H264_UNITS, H265_UNITS = encoded("libx264"), encoded("libx265")
SPS, PPS = (next(u for u in H264_UNITS if u[0] & 0x1F == kind) for kind in h264.PARAMETER_SETS)
SETS_265 = [next(u for u in H265_UNITS if u[0] >> 1 == kind) for kind in h265.PARAMETER_SETS]
IDR, SLICE, IDR_265 = b"\x65\x88\x84", b"\x41\x9a", b"\x26\x01\x80"


def text(unit: bytes) -> str:
    return base64.b64encode(unit).decode()


def test_sets_sent_once_are_put_before_each_bare_keyframe():
    sets = ParameterSets("H264")
    assert sets.before(IDR) == ()
    assert sets.learn(SPS, 1)
    assert sets.learn(PPS, 2)
    assert not sets.learn(PPS, 3), "nothing new"
    (payload,) = sets.before(IDR)
    assert [u.data for u in h264.units(payload)] == [SPS, PPS]
    assert sets.before(h264.aggregate([SPS, PPS, IDR])) == ()
    assert sets.before(SPS) == ()


def test_sets_of_the_session_description():
    sets = ParameterSets("h264", f"profile-level-id=42e01f; sprop-parameter-sets={text(SPS)},{text(PPS)}")
    (payload,) = sets.before(IDR)
    assert [u.data for u in h264.units(payload)] == [SPS, PPS]
    names = zip(("sprop-vps", "sprop-sps", "sprop-pps"), SETS_265, strict=True)
    sets = ParameterSets("H265", ";".join(f'{name}="{text(unit)}"' for name, unit in names))
    (payload,) = sets.before(IDR_265)
    assert [u.data for u in h265.units(payload)] == SETS_265


def test_sets_in_pieces_count_only_when_none_is_missing():
    pieces = h265_fragments(SETS_265[1])
    sets = ParameterSets("H265")
    for sequence, piece in zip((7, 8, 9), pieces, strict=True):
        sets.learn(piece, sequence)
    assert sets.before(IDR_265) == (SETS_265[1],)
    sets = ParameterSets("H265")
    for sequence, piece in ((7, pieces[0]), (9, pieces[2])):
        sets.learn(piece, sequence)
    assert not sets
    sps = [b"\x7c\x87" + SPS[1:8], b"\x7c\x07" + SPS[8:9], b"\x7c\x47" + SPS[9:]]
    sets = ParameterSets("H264")
    for sequence, piece in enumerate(sps):
        sets.learn(piece, sequence)
    assert sets.before(IDR) == (SPS,)


def test_the_newest_of_each_number_counts_and_they_are_bounded():
    sets = ParameterSets("H264")
    for number in range(100):
        # pps id: ue(number + …) in the first bits behind the header
        value = number + 1
        bits = "0" * (value.bit_length() - 1) + format(value, "b") + "1"
        sets.learn(b"\x68" + int(bits.ljust(24, "0"), 2).to_bytes(3), number)
    units = h264.units(sets.before(IDR)[0])
    assert len(units) == MAX_SETS
    numbers = [h264.parameter_set_number(u.data) for u in units]
    assert numbers == list(range(100 - MAX_SETS, 100))
    changed = units[0].data + b"\x55"
    assert sets.learn(changed, 200)
    assert next(u.data for u in h264.units(sets.before(IDR)[0])) == changed


def test_sets_that_are_too_large_or_unreadable_are_refused():
    sets = ParameterSets("H264", "sprop-parameter-sets=***,Z0LAH9k=")
    assert sets.refused == 1
    sets = ParameterSets("H264")
    sets.learn(SPS + bytes(MAX_SET_BYTES), 1)
    sets.learn(b"\x68\0\0\0", 2)
    sets.learn(b"\x67", 3)
    assert (sets.refused, bool(sets)) == (3, False)


@pytest.mark.parametrize("codec", ["VP8", "AV1", "opus"])
def test_other_codecs_have_none(codec):
    sets = ParameterSets(codec, "sprop-parameter-sets=Z0LAH9k=")
    assert not sets.learn(SPS, 1)
    assert sets.before(IDR) == ()


@given(
    st.sampled_from(["H264", "H265"]),
    st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 9)), max_size=20),
    st.text(max_size=40),
)
def test_whatever_the_bytes_only_rtp_error(codec, packets, fmtp):
    sets = ParameterSets(codec, f"sprop-parameter-sets={fmtp};sprop-sps={fmtp}")
    for payload, sequence in packets:
        try:
            sets.learn(payload, sequence)
            sets.before(payload)
        except RtpError:
            pass
