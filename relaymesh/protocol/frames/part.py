"""PART: one half of a frame that is too long for a datagram (or for its repair), between two neighbours.

In: a whole frame; out: its two parts, and back. Which parts belong together is said by the numbers
of their datagrams; :mod:`relaymesh.protocol.parts` joins them. Only the class is read of a part, so that
both halves have the deadline and the rank of their frame.
"""

from __future__ import annotations

from typing import NamedTuple

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import FRAME, MAX_FRAME_BYTES, PART

_SECOND = 1
PART_HEAD_BYTES = FRAME.size + 1  # of a whole PART, before its share of the frame


class Part(NamedTuple):
    """One half of a frame."""

    second: bool  # the latter half
    priority: int  # class 0..3, of the frame
    data: bytes  # its share of the frame, at least 1 byte


def encode_part(part: Part) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    if not 0 <= part.priority <= 3 or not part.data:
        raise ValueError("part: the class is out of range, or there is nothing in it")
    return FRAME.pack(PART, 1 + len(part.data)) + bytes((part.priority << 4 | part.second,)) + part.data


def decode_part(body: bytes) -> Part:
    """The part in *body*. Raises :class:`ProtocolError` (truncated)."""
    if len(body) < 2:
        raise ProtocolError("truncated", "part")
    flags = body[0]
    return Part(flags & _SECOND != 0, flags >> 4 & 3, body[1:])


def halves(frame: bytes, priority: int) -> tuple[bytes, bytes]:
    """The two PART frames of a whole *frame*, as long as each other: neither is a short one.

    Raises:
        ProtocolError: oversized.
    """
    size = len(frame)
    if size > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"frame of {size} bytes")
    middle = (size + 1) // 2
    return (
        encode_part(Part(False, priority, frame[:middle])),
        encode_part(Part(True, priority, frame[middle:])),
    )
