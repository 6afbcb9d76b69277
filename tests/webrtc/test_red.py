"""RED payloads (RFC 2198): two blocks written by hand, hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.red import MAX_BLOCKS, alone, converter, primary, with_block_type

# 0xEF: F, payload type 111; offset 960, length 3
TWO = bytes.fromhex("ef 0f0003 6f") + b"old" + b"newest"


def test_the_newest_block_is_taken_out():
    assert primary(TWO) == b"newest"
    assert primary(b"\x6falone") == b"alone"


def test_blocks_are_named_anew():
    assert with_block_type(TWO, 96) == bytes.fromhex("e0 0f0003 60") + b"oldnewest"
    assert with_block_type(with_block_type(TWO, 96), 111) == TWO


@pytest.mark.parametrize(
    "payload", [b"", b"\xef", b"\xef\0\0", TWO[:4], TWO[:7], b"\xef\0\0\0" * MAX_BLOCKS + b"\x6f"]
)
def test_malformed_payloads_are_errors(payload):
    with pytest.raises(RtpError):
        primary(payload)


@given(st.binary(max_size=40), st.integers(0, 127))
def test_whatever_the_bytes_only_rtp_error(payload, payload_type):
    try:
        newest = primary(payload)
        changed = with_block_type(payload, payload_type)
    except RtpError:
        return
    assert payload.endswith(newest)
    assert primary(changed) == newest


def test_a_payload_alone_is_red_too():
    assert alone(b"alone", 111) == b"\x6falone"
    assert primary(alone(b"alone", 96)) == b"alone"


def test_formats_are_converted_into_each_other():
    assert converter("opus", "OPUS", None) is None
    assert converter("red", "opus", None)(TWO) == b"newest"
    assert converter("RED", "red", 96)(TWO) == with_block_type(TWO, 96)
    assert converter("opus", "red", 96)(b"alone") == alone(b"alone", 96)


@given(st.binary(max_size=40), st.sampled_from([("red", "opus"), ("red", "red")]))
def test_what_is_not_red_is_an_error_and_nothing_else(payload, formats):
    try:
        converter(*formats, 96)(payload)
    except RtpError:
        pass
