"""The contents of an opened datagram, told apart: routed frames, a fragment, frames for the link itself.

In: a plaintext; out: :class:`Contents`. Everything that is for the link is decoded here, and all of it before
anything is acted on: a datagram is taken whole or not at all. Routed frames stay as they are, whole: a
transit node has no need to decode them, and forwards types it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from relaymesh.protocol.acks import decode_ack
from relaymesh.protocol.arq import decode_retransmission
from relaymesh.protocol.control import decode_control, decode_control_ack, decode_control_reset
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fec import decode_repair
from relaymesh.protocol.frames import (
    ACK,
    CONTROL,
    CONTROL_ACK,
    CONTROL_RESET,
    ECHO,
    FRAGMENT,
    HEAD_BYTES,
    PROBE,
    REPAIR,
    RETRANSMISSION,
    ROUTED_FIRST,
    ROUTED_LAST,
    Fragment,
    decode_echo,
    decode_fragment,
    decode_probe,
    split_frames,
)

_DECODERS: dict[int, Callable[[bytes], Any]] = {
    PROBE: decode_probe,
    ECHO: decode_echo,
    ACK: decode_ack,
    REPAIR: decode_repair,
    RETRANSMISSION: decode_retransmission,
    CONTROL: decode_control,
    CONTROL_ACK: decode_control_ack,
    CONTROL_RESET: decode_control_reset,
}


class Contents(NamedTuple):
    """The frames of one datagram."""

    routed: list[bytes]  # whole, in order
    fragment: Fragment | None  # alone in its datagram
    local: list[tuple[int, Any]]  # (type, decoded), in order
    unknown: int  # how many are of no known type


def read_contents(plaintext: bytes) -> Contents:
    """Tell the frames of *plaintext* apart.

    Raises:
        ProtocolError: whatever the decoders say of one of them; malformed when a fragment is not alone.
    """
    frames = split_frames(plaintext)
    routed: list[bytes] = []
    local: list[tuple[int, Any]] = []
    unknown = 0
    for frame in frames:
        kind = frame[0]
        if ROUTED_FIRST <= kind <= ROUTED_LAST:
            routed.append(frame)
        elif kind == FRAGMENT:
            if len(frames) > 1:
                raise ProtocolError("malformed", "a fragment is alone in its datagram")
            return Contents(routed, decode_fragment(frame[HEAD_BYTES:]), local, 0)
        elif (decode := _DECODERS.get(kind)) is not None:
            local.append((kind, decode(frame[HEAD_BYTES:])))
        else:
            unknown += 1
    return Contents(routed, None, local, unknown)
