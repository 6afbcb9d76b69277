"""The routed header, which a transit node reads and rewrites, and detours.

In: frames of type 0x10-0x1f; out: where it goes (:func:`read_route`), and the
frame to send on (:func:`reroute`, :func:`readdress`, :func:`detour`, :func:`follow_detour`). All that
stands after the header is carried as it came, also in types that are not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import (
    DETOUR,
    FRAME,
    HEAD_BYTES,
    MAX_FRAME_BYTES,
    ROUTED_FIRST,
    ROUTED_LAST,
)

HOP_LIMIT = 16  # stamped at the ingress; no sane path is longer

_ROUTE = struct.Struct("!BBI")  # hop limit, bytes of bit string, generation
_FRAME_ROUTE = struct.Struct("!BHBBI")  # both in one
BITS_LENGTH_OFFSET = 4  # of the count of bytes of bit string, in a whole frame
ROUTED_HEAD_BYTES = _FRAME_ROUTE.size  # of a whole frame, before its bit string
_HOP = struct.Struct("!H")  # node index, of a detour


# Hop limit, generation, destinations (a set of nodes, never empty), and where the header ends in what was
# read: a plain tuple, since one is made for each packet.
Route = tuple[int, int, int, int]


def read_route(data: bytes, start: int = 0) -> Route:
    """The routed header at *start* of *data*: at 0 of a body, at 3 of a whole frame; no more is looked at.

    Raises:
        ProtocolError: truncated, or invalid (nobody is addressed).
    """
    size = len(data)
    end = start + _ROUTE.size
    if size < end:
        raise ProtocolError("truncated", "routed header")
    hop_limit, length, generation = _ROUTE.unpack_from(data, start)
    begin, end = end, end + length
    if size < end:
        raise ProtocolError("truncated", "bit string")
    destinations = int.from_bytes(data[begin:end], "little")
    if not destinations:
        raise ProtocolError("invalid", "no destination")
    return hop_limit, generation, destinations, end


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


def reroute(frame: bytes, route: Route, destinations: int) -> bytes:
    """The frame to send on: one hop fewer, *destinations* (not empty) in the header, the rest as it came.

    *route* was read of the whole *frame*.

    Raises:
        ProtocolError: invalid, when no hop is left.
        ValueError: *destinations* is empty or no node set.
    """
    hop_limit, generation, _, end = route
    if hop_limit <= 1:
        raise ProtocolError("invalid", "hop limit is spent")
    return encode_routed(frame[0], hop_limit - 1, generation, destinations, frame[end:])


def readdress(frame: bytes, route: Route, destinations: int) -> bytes:
    """The whole *frame* for *destinations* (not empty) only; no hop is spent. *route* was read of it.

    Raises:
        ValueError: *destinations* is empty or no node set.
    """
    hop_limit, generation, _, end = route
    return encode_routed(frame[0], hop_limit, generation, destinations, frame[end:])


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


def follow_detour(frame: bytes, route: Route) -> tuple[int, bytes]:
    """(the neighbour that comes next, the frame to send it) for a whole DETOUR *frame*: one hop fewer.

    *route* was read of it.

    Raises:
        ProtocolError: truncated; invalid, when no hop is left or what is inside is not routed.
    """
    hop_limit, _, _, offset = route
    count = frame[offset] if len(frame) > offset else 0
    end = offset + 2 + 2 * count  # behind the inner type
    if len(frame) < end:
        raise ProtocolError("truncated", "hops of a detour")
    inner = frame[end - 1]
    if not count or not ROUTED_FIRST <= inner <= ROUTED_LAST or inner == DETOUR or hop_limit <= 1:
        raise ProtocolError("invalid", "detour")
    [hop] = _HOP.unpack_from(frame, offset + 1)
    header = bytes((hop_limit - 1,)) + frame[HEAD_BYTES + 1 : offset]
    if count == 1:
        kind, rest = inner, frame[end:]
    else:
        kind, rest = DETOUR, bytes((count - 1,)) + frame[offset + 3 :]
    return hop, FRAME.pack(kind, len(header) + len(rest)) + header + rest
