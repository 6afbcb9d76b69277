"""A look into H264 payloads (RFC 6184): does this packet begin a keyframe?

In: an RTP payload. Out: yes or no. Parameter sets and slices are not read.
"""

from __future__ import annotations

from relaymesh.webrtc.errors import RtpError

# NAL unit types: of H.264 table 7-1, and of RFC 6184 §5.2 from 24 on
_IDR, _SPS = 5, 7
_STAP_A, _FU_A = 24, 28


def is_keyframe(payload: bytes) -> bool:
    """Whether *payload* begins an IDR picture, or the parameter sets (SPS) that come before one.

    A keyframe of several packets says yes to each that begins an SPS or an IDR slice, so
    more than one of them may.

    Raises:
        RtpError: empty, or an aggregate or fragment that is cut short.
    """
    if not payload:
        raise RtpError("an empty H264 payload")
    kind = payload[0] & 0x1F
    if kind == _STAP_A:
        return _aggregate_has_keyframe(payload)
    if kind == _FU_A:
        #  |S|E|R|  Type   |   RFC 6184 §5.8
        if len(payload) < 2:
            raise RtpError("a fragment without its header")
        return payload[1] & 0x80 != 0 and payload[1] & 0x1F in (_IDR, _SPS)
    return kind in (_IDR, _SPS)


def _aggregate_has_keyframe(payload: bytes) -> bool:
    """Whether an SPS or IDR slice is among the units: each a size of 16 bits and the unit (§5.7.1)."""
    at, end = 1, len(payload)
    found = False
    while at < end:
        start = at + 2
        if start >= end:
            raise RtpError("an aggregate ends inside a size")
        size = payload[at] << 8 | payload[at + 1]
        at = start + size
        if size == 0 or at > end:
            raise RtpError("an aggregated unit does not fit")
        found = found or payload[start] & 0x1F in (_IDR, _SPS)
    return found
