"""The routed header: what a transit node reads of a frame, and rewrites.

In: the body of a routed frame, or what its header says. Out: the header, the frame as it goes on, a
frame on an explicit detour. What stands behind the header is not looked at, so that types
nobody here knows are forwarded too. Decoders raise :class:`ProtocolError` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.datagram import MAX_PLAINTEXT_BYTES
from relaymesh.protocol.errors import ProtocolError

PROBE = 0x01
ECHO = 0x02
ACK = 0x04
REPAIR = 0x05
RETRANSMISSION = 0x06
CONTROL = 0x08
CONTROL_ACK = 0x09
CONTROL_RESET = 0x0A
MEDIA = 0x10
CLOCK = 0x11
KEYFRAME_REQUEST = 0x12
DETOUR = 0x13
SKIP = 0x14
DEMAND = 0x15
LAYERS = 0x16
ROUTED_FIRST, ROUTED_LAST = 0x10, 0x1F

HOP_LIMIT = 16  # stamped at the ingress; no sane path is longer
MAX_FRAME_BYTES = MAX_PLAINTEXT_BYTES  # with type and length

FRAME = struct.Struct("!BH")  # type, length of the body
_ROUTE = struct.Struct("!BBI")  # hop limit, bytes of bit string, generation
FRAME_ROUTE = struct.Struct("!BHBBI")  # both in one
_HOP = struct.Struct("!H")  # node index, of a detour


class Route(NamedTuple):
    """What a transit node needs of a routed frame."""

    hop_limit: int
    generation: int
    destinations: int  # set of nodes, never empty
    rest_offset: int  # bytes of the body before the stream header


# --- the sequence of frames ----------------------------------------------------------------------


def split_frames(plaintext: bytes) -> list[tuple[int, bytes]]:
    """The frames of a plaintext as (type, body), in order; at least one.

    Raises:
        ProtocolError: malformed (empty) or truncated (shorter than its lengths say).
    """
    end = len(plaintext)
    if not end:
        raise ProtocolError("malformed", "no frame")
    frames = []
    offset = 0
    while offset < end:
        if end - offset < 3:
            raise ProtocolError("truncated", "frame header")
        kind, length = FRAME.unpack_from(plaintext, offset)
        start = offset + 3
        offset = start + length
        if offset > end:
            raise ProtocolError("truncated", f"frame of type {kind:#04x}")
        frames.append((kind, plaintext[start:offset]))
    return frames


# --- routed frames -------------------------------------------------------------------------------


def read_route(body: bytes) -> Route:
    """The routed header of *body*; the rest is not looked at.

    Raises:
        ProtocolError: truncated, or invalid (nobody is addressed).
    """
    size = len(body)
    if size < 6:
        raise ProtocolError("truncated", "routed header")
    hop_limit, length, generation = _ROUTE.unpack_from(body)
    end = 6 + length
    if size < end:
        raise ProtocolError("truncated", "bit string")
    destinations = int.from_bytes(body[6:end], "little")
    if not destinations:
        raise ProtocolError("invalid", "no destination")
    return Route(hop_limit, generation, destinations, end)


def reroute(frame_type: int, body: bytes, route: Route, destinations: int) -> bytes:
    """The frame to send on: one hop fewer, *destinations* (not empty) in the header, the rest as it came.

    Raises:
        ProtocolError: invalid, when no hop is left.
        ValueError: *destinations* is empty or no node set.
    """
    if route.hop_limit <= 1:
        raise ProtocolError("invalid", "hop limit is spent")
    rest = body[route.rest_offset :]
    return routed_frame(frame_type, route.hop_limit - 1, route.generation, destinations, rest)


def readdress(frame_type: int, body: bytes, route: Route, destinations: int) -> bytes:
    """The frame of *body* as it would be sent, for *destinations* (not empty) only; no hop is spent.

    Raises:
        ValueError: *destinations* is empty or no node set.
    """
    return routed_frame(
        frame_type, route.hop_limit, route.generation, destinations, body[route.rest_offset :]
    )


def detour(frame: bytes, hops: Sequence[int]) -> bytes:
    """A routed *frame* (whole, as it would be sent) put on its way by *hops*.

    *hops* are the nodes it must visit after the neighbour it is sent to; the
    last of them gets it as it was before. Without any it stays as it is.

    Raises:
        ProtocolError: oversized.
        ValueError: a hop is no node index.
    """
    if not hops:
        return frame
    offset = 9 + frame[4]
    try:
        segments = bytes((len(hops),)) + b"".join(map(_HOP.pack, hops)) + frame[:1]
    except struct.error as error:
        raise ValueError(f"detour: {error}") from None
    length = len(frame) - 3 + len(segments)
    if length + 3 > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"detour of {length + 3} bytes")
    return FRAME.pack(DETOUR, length) + frame[3:offset] + segments + frame[offset:]


def follow_detour(body: bytes, route: Route) -> tuple[int, bytes]:
    """(the neighbour that comes next, the frame to send it) for a DETOUR's *body*: one hop fewer.

    Raises:
        ProtocolError: truncated; invalid, when no hop is left or what is inside is not routed.
    """
    offset = route.rest_offset
    count = body[offset] if len(body) > offset else 0
    end = offset + 2 + 2 * count  # behind the inner type
    if len(body) < end:
        raise ProtocolError("truncated", "hops of a detour")
    inner = body[end - 1]
    if not count or not ROUTED_FIRST <= inner <= ROUTED_LAST or inner == DETOUR or route.hop_limit <= 1:
        raise ProtocolError("invalid", "detour")
    [hop] = _HOP.unpack_from(body, offset + 1)
    header = bytes((route.hop_limit - 1,)) + body[1:offset]
    if count == 1:
        kind, rest = inner, body[end:]
    else:
        kind, rest = DETOUR, bytes((count - 1,)) + body[offset + 3 :]
    return hop, FRAME.pack(kind, len(header) + len(rest)) + header + rest


def routed_frame(kind: int, hop_limit: int, generation: int, destinations: int, rest: bytes) -> bytes:
    """The whole frame, with type and length; *rest* stands behind the routed header.

    Raises:
        ProtocolError: oversized.
        ValueError: no destination, or a field out of its range.
    """
    bits = encode_set(destinations)
    length = 6 + len(bits) + len(rest)
    if length + 3 > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"frame of {length + 3} bytes")
    if not bits:
        raise ValueError("a routed frame needs a destination")
    try:
        return FRAME_ROUTE.pack(kind, length, hop_limit, len(bits), generation) + bits + rest
    except struct.error as error:
        raise ValueError(f"routed header: {error}") from None
