"""The routed header, which a transit node reads and rewrites, and detours.

In: the body of a frame of type 0x10-0x1f; out: where it goes (:func:`read_route`), and the
frame to send on (:func:`reroute`, :func:`readdress`, :func:`detour`, :func:`follow_detour`). All that
stands after the header is carried as it came, also in types that are not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import DETOUR, FRAME, MAX_FRAME_BYTES, ROUTED_FIRST, ROUTED_LAST

HOP_LIMIT = 16  # stamped at the ingress; no sane path is longer

_ROUTE = struct.Struct("!BBI")  # hop limit, bytes of bit string, generation
_FRAME_ROUTE = struct.Struct("!BHBBI")  # both in one
BITS_LENGTH_OFFSET = 4  # of the count of bytes of bit string, in a whole frame
ROUTED_HEAD_BYTES = _FRAME_ROUTE.size  # of a whole frame, before its bit string
_HOP = struct.Struct("!H")  # node index, of a detour


class Route(NamedTuple):
    """The fields of the routed header, for a transit node."""

    hop_limit: int
    generation: int
    destinations: int  # set of nodes, never empty
    rest_offset: int  # bytes of the body before the stream header


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


def encode_routed(kind: int, hop_limit: int, generation: int, destinations: int, rest: bytes) -> bytes:
    """The whole frame of type *kind*: the routed header, then *rest*.

    Raises:
        ValueError: a field is out of its range, or no destination is given.
        ProtocolError: oversized.
    """
    bits = encode_set(destinations)
    length = 6 + len(bits) + len(rest)
    if length + 3 > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"frame of {length + 3} bytes")
    if not bits:
        raise ValueError("a routed frame needs a destination")
    try:
        return _FRAME_ROUTE.pack(kind, length, hop_limit, len(bits), generation) + bits + rest
    except struct.error as error:
        raise ValueError(f"routed header: {error}") from None


def reroute(frame_type: int, body: bytes, route: Route, destinations: int) -> bytes:
    """The frame to send on: one hop fewer, *destinations* (not empty) in the header, the rest as it came.

    Raises:
        ProtocolError: invalid, when no hop is left.
        ValueError: *destinations* is empty or no node set.
    """
    if route.hop_limit <= 1:
        raise ProtocolError("invalid", "hop limit is spent")
    rest = body[route.rest_offset :]
    return encode_routed(frame_type, route.hop_limit - 1, route.generation, destinations, rest)


def readdress(frame_type: int, body: bytes, route: Route, destinations: int) -> bytes:
    """The frame of *body* as it would be sent, for *destinations* (not empty) only; no hop is spent.

    Raises:
        ValueError: *destinations* is empty or no node set.
    """
    return encode_routed(
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
    offset = ROUTED_HEAD_BYTES + frame[BITS_LENGTH_OFFSET]
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
