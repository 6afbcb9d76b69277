"""FRAGMENT: one half of a frame that is too long for a datagram (or for its repair), between two neighbours.

In: a whole frame; out: its two fragments, and back. Which fragments belong together is said by the
numbers of their datagrams; :mod:`relaymesh.protocol.fragments` joins them. Only the class of a fragment is
read on the way, so that both halves have the deadline and the rank of their frame.
"""

from __future__ import annotations

from typing import NamedTuple

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import FRAGMENT, FRAME, MAX_FRAME_BYTES

_SECOND = 1
FRAGMENT_HEAD_BYTES = FRAME.size + 1  # of a whole FRAGMENT, before its share of the frame


class Fragment(NamedTuple):
    """One half of a frame."""

    second: bool  # the latter half
    priority: int  # class 0..3, of the frame
    data: bytes  # its share of the frame, at least 1 byte


def encode_fragment(fragment: Fragment) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    if not 0 <= fragment.priority <= 3 or not fragment.data:
        raise ValueError("fragment: the class is out of range, or there is nothing in it")
    return (
        FRAME.pack(FRAGMENT, 1 + len(fragment.data))
        + bytes((fragment.priority << 4 | fragment.second,))
        + fragment.data
    )


def decode_fragment(body: bytes) -> Fragment:
    """The fragment in *body*. Raises :class:`ProtocolError` (truncated)."""
    if len(body) < 2:
        raise ProtocolError("truncated", "fragment")
    flags = body[0]
    return Fragment(flags & _SECOND != 0, flags >> 4 & 3, body[1:])


def halves(frame: bytes, priority: int) -> tuple[bytes, bytes]:
    """The two FRAGMENT frames of a whole *frame*, as long as each other: neither is a short one.

    Raises:
        ProtocolError: oversized.
    """
    size = len(frame)
    if size > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"frame of {size} bytes")
    middle = (size + 1) // 2
    return (
        encode_fragment(Fragment(False, priority, frame[:middle])),
        encode_fragment(Fragment(True, priority, frame[middle:])),
    )
