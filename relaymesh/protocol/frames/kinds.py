"""The sequence of frames in a plaintext: each ``u8 type, u16 length of the body, body``, all big-endian.

Types 0x80-0xbf have no length: such a frame is the last, and goes to the end.
In: the plaintext of a datagram; out: its frames, whole. The registry of
types stands here; what a body means, the module of its type knows.
"""

from __future__ import annotations

import struct

from relaymesh.protocol.errors import ProtocolError

PROBE = 0x01
ECHO = 0x02
ACK = 0x04
REPAIR = 0x05
RETRANSMISSION = 0x06
CONTROL = 0x08
CONTROL_ACK = 0x09
CONTROL_RESET = 0x0A
CONTEXT_UNKNOWN = 0x0B
MEDIA = 0x10
CLOCK = 0x11
KEYFRAME_REQUEST = 0x12
DETOUR = 0x13
SKIP = 0x14
DEMAND = 0x15
LAYERS = 0x16
ROUTED_FIRST, ROUTED_LAST = 0x10, 0x1F
FRAGMENT = 0x20  # what a link repairs begins with ROUTED_FIRST or a later type
ANNOUNCE = 0x21
COMPACT = 0x40  # … 0x7f
COMPACT_TO_END = 0x80  # … 0xbf: the same without a length; it goes to the end of the datagram
TO_END_FIRST, TO_END_LAST = 0x80, 0xBF

# With type and length. What is too long for a datagram crosses a link in two fragments, each of which can be
# repaired. An RTP packet of 1500 bytes on a detour, with the longest bit string and extensions, takes 2055.
MAX_FRAME_BYTES = 2600

FRAME = struct.Struct("!BH")  # type, length of the body
HEAD_BYTES = FRAME.size  # of a whole frame, before its body


def is_routed_alone(plaintext: bytes) -> bool:
    """Tell whether *plaintext* is one routed frame and nothing else, as nearly every one is."""
    if len(plaintext) < HEAD_BYTES:
        return False
    kind: int
    length: int
    kind, length = FRAME.unpack_from(plaintext)
    return ROUTED_FIRST <= kind <= ROUTED_LAST and HEAD_BYTES + length == len(plaintext)


def split_frames(plaintext: bytes) -> list[bytes]:
    """The frames of a plaintext, each whole (type, length if it has one, body), in order; at least one.

    Raises:
        ProtocolError: malformed (empty) or truncated (shorter than its lengths say).
    """
    end = len(plaintext)
    if not end:
        raise ProtocolError("malformed", "no frame")
    frames = []
    offset = 0
    while offset < end:
        if TO_END_FIRST <= plaintext[offset] <= TO_END_LAST:
            frames.append(plaintext[offset:])
            break
        if end - offset < HEAD_BYTES:
            raise ProtocolError("truncated", "frame header")
        kind, length = FRAME.unpack_from(plaintext, offset)
        start, offset = offset, offset + HEAD_BYTES + length
        if offset > end:
            raise ProtocolError("truncated", f"frame of type {kind:#04x}")
        frames.append(plaintext[start:offset])
    return frames
