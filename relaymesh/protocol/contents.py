"""The contents of an opened datagram, told apart: routed frames, a fragment, frames for the link itself.

In: a plaintext, and what numbers of contexts stand for; out: :class:`Contents`. Everything that is
for the link is decoded here, and all of it before anything is acted on: a datagram is taken whole or not
at all. Routed frames stay as they are, whole, and media that crossed the link with less
(:mod:`relaymesh.protocol.frames.compact`) is whole again: a transit node has no need to decode them, and
forwards types it does not know.
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
    ANNOUNCE,
    CONTEXT_UNKNOWN,
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
    Context,
    Fragment,
    Held,
    decode_announce,
    decode_echo,
    decode_fragment,
    decode_probe,
    decode_unknown,
    is_compact,
    restore,
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
    CONTEXT_UNKNOWN: decode_unknown,
}


class Contents(NamedTuple):
    """The frames of one datagram."""

    routed: list[bytes]  # whole, in order
    fragment: Fragment | None  # alone in its datagram
    local: list[tuple[int, Any]]  # (type, decoded), in order
    announced: list[tuple[int, Context]]  # (number, what it stands for); the media is in *routed*
    unresolved: list[int]  # numbers of frames that could not be restored
    unknown: int  # how many are of no known type

    @property
    def eliciting(self) -> bool:
        """Whether it is to be acknowledged: it carries more than measures and control."""
        return (
            not self.local
            or bool(self.routed or self.unresolved)
            or any(kind in (REPAIR, RETRANSMISSION) for kind, _ in self.local)
        )


def read_contents(plaintext: bytes, contexts: Held) -> Contents:
    """Tell the frames of *plaintext* apart; what names one of *contexts* is restored.

    Raises:
        ProtocolError: whatever the decoders say of one of them; malformed when a fragment is not alone.
    """
    frames = split_frames(plaintext)
    found = Contents([], None, [], [], [], 0)
    routed, local = found.routed, found.local
    unknown = 0
    for frame in frames:
        kind = frame[0]
        if ROUTED_FIRST <= kind <= ROUTED_LAST:
            routed.append(frame)
        elif is_compact(kind):
            number, media = restore(frame, contexts)
            if media is not None:
                routed.append(media)
            else:
                found.unresolved.append(number)
        elif kind == FRAGMENT:
            if len(frames) > 1:
                raise ProtocolError("malformed", "a fragment is alone in its datagram")
            return found._replace(fragment=decode_fragment(frame[HEAD_BYTES:]))
        elif kind == ANNOUNCE:
            number, context, media = decode_announce(frame[HEAD_BYTES:])
            found.announced.append((number, context))
            routed.append(media)
        elif (decode := _DECODERS.get(kind)) is not None:
            local.append((kind, decode(frame[HEAD_BYTES:])))
        else:
            unknown += 1
    return found._replace(unknown=unknown) if unknown else found
