"""ANNOUNCE and COMPACT: media whose repeating headers cross a link once, and are named by a number then.

In: whole MEDIA frames; out: what crosses the link instead, and back, to the byte. An ANNOUNCE is a
whole MEDIA frame and a number for its :class:`Context`; a COMPACT frame names such a number, and gives the
rest as differences to the *announced* packet, never to the one before, so that no loss spoils what
follows. What is MEDIA only by its type, as a neighbour may pass on, is restored as it was, too.

The type of a COMPACT frame says what is in it:

    bits 0-1  class of the packet, which repair and the pacer ask for
    bits 2-3  extensions: 0 none, 1 nothing but an audio level (its byte follows), 2 count and block follow
    bits 4-5  form: 0 near, 1 far, 2 full
    0x40      added where a length follows, as in other frames; 0x80 where it goes to the datagram's end

    near      number u16, sequence u8:  flags and layers are the announced ones, and the timestamp is
    far       number u16, sequence u16: the announced one and *stride* for each packet since
    full      number u16, sequence i16, timestamp i24, flags u8, layers u8

Who gives out numbers, and holds what they stand for, is :mod:`relaymesh.protocol.contexts`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import (
    ANNOUNCE,
    COMPACT,
    COMPACT_TO_END,
    CONTEXT_UNKNOWN,
    FRAME,
    HEAD_BYTES,
    MEDIA,
    TO_END_LAST,
)
from relaymesh.protocol.frames.routed import BITS_LENGTH_OFFSET, ROUTED_HEAD_BYTES
from relaymesh.protocol.frames.track import STREAM_BYTES

MAX_STRIDE = 0xFFFF  # of timestamps
MAX_UNKNOWN = 32  # numbers in one CONTEXT_UNKNOWN

_TAIL = struct.Struct("!BBIIB")  # flags, layers, sequence, timestamp, bytes of extensions: of MEDIA
_ANNOUNCE = struct.Struct("!HH")  # number, stride; then the body of the MEDIA
ANNOUNCE_EXTRA_BYTES = _ANNOUNCE.size  # by which an ANNOUNCE is longer than its MEDIA
_ANNOUNCE_HEAD = struct.Struct("!BHHH")
_NEAR = struct.Struct("!BHB")  # each with the type
_FAR = struct.Struct("!BHH")
_FULL = struct.Struct("!BHhbHBB")
_FORMS = (_NEAR, _FAR, _FULL)
_SIZES = tuple(form.size for form in _FORMS)
FULL_BYTES = _FULL.size  # of a COMPACT frame to the end before its payload, where nothing can be left out
_LENGTH = struct.Struct("!H")
_UNKNOWN = struct.Struct("!BHB")  # type, length, epoch
_U32 = 0xFFFFFFFF
# The prefix of a whole MEDIA frame, its routed header and stream header, begins after HEAD_BYTES …
MEDIA_PREFIX_END = ROUTED_HEAD_BYTES + STREAM_BYTES  # … and ends here, less its bit string; then come …
MEDIA_TAIL_BYTES = _TAIL.size  # … at least so many
_LEVEL = b"\x01\x01"  # kind and length of an audio level


class Context(NamedTuple):
    """What a number stands for."""

    prefix: bytes  # routed header and stream header
    sequence: int  # u32, of the announced packet
    timestamp: int  # u32, of the announced packet
    flags: int  # u8, of the announced packet
    layers: int  # u8, of the announced packet
    stride: int  # u16, by which the timestamp rises with each packet; 0: it does not, or not steadily


class Held(Protocol):
    """Whoever knows what numbers stand for."""

    def get(self, number: int, /) -> Context | None:
        """The context of *number*, if it is known."""
        ...


def is_compact(kind: int) -> bool:
    """Tell whether *kind* is a type of COMPACT frames, with a length or without."""
    return COMPACT <= kind <= TO_END_LAST


def prefix_of(frame: bytes) -> bytes | None:
    """What packets of a stream on one way share of a whole MEDIA *frame*; None of one that ends too early."""
    end = MEDIA_PREFIX_END + frame[BITS_LENGTH_OFFSET]
    return frame[HEAD_BYTES:end] if len(frame) >= end + _TAIL.size else None


def context_of(frame: bytes, stride: int) -> Context:
    """The context that a whole MEDIA *frame*, one that :func:`prefix_of` has a prefix of, announces."""
    end = MEDIA_PREFIX_END + frame[BITS_LENGTH_OFFSET]
    flags, layers, sequence, timestamp, _ = _TAIL.unpack_from(frame, end)
    return Context(frame[HEAD_BYTES:end], sequence, timestamp, flags, layers, stride)


def encode_announce(number: int, stride: int, frame: bytes) -> bytes:
    """The ANNOUNCE of a whole MEDIA *frame*. Raises ``ValueError`` for a field out of its range."""
    body = frame[HEAD_BYTES:]
    try:
        return _ANNOUNCE_HEAD.pack(ANNOUNCE, _ANNOUNCE.size + len(body), number, stride) + body
    except struct.error as error:
        raise ValueError(f"announce: {error}") from None


def decode_announce(body: bytes) -> tuple[int, Context, bytes]:
    """(number, its context, the whole MEDIA frame) of an ANNOUNCE.

    Raises:
        ProtocolError: truncated, when the headers of its MEDIA are not whole.
    """
    if len(body) < _ANNOUNCE.size + 2:
        raise ProtocolError("truncated", "announce")
    number, stride = _ANNOUNCE.unpack_from(body)
    media = body[_ANNOUNCE.size :]
    frame = FRAME.pack(MEDIA, len(media)) + media
    if prefix_of(frame) is None:
        raise ProtocolError("truncated", "media header in an announce")
    return number, context_of(frame, stride), frame


def encode_compact(frame: bytes, number: int, context: Context) -> bytes | None:
    """A whole MEDIA *frame* of the prefix of *context* as a COMPACT frame to the datagram's end.

    None where it is too far from the announced packet.
    """
    prefix, base, base_time, base_flags, base_layers, stride = context
    at = HEAD_BYTES + len(prefix)
    flags, layers, sequence, timestamp, extra = _TAIL.unpack_from(frame, at)
    kind = COMPACT_TO_END | flags >> 4 & 3
    if not extra:
        at += _TAIL.size
    elif extra == 3 and frame[at + 11 : at + 13] == _LEVEL and len(frame) > at + 13:
        kind |= 4
        at += 13
    else:
        kind |= 8
        at += 10
    ahead = sequence - base & _U32
    if (
        flags == base_flags
        and layers == base_layers
        and ahead <= 0xFFFF
        and timestamp == base_time + ahead * stride & _U32
    ):
        if ahead <= 0xFF:
            return _NEAR.pack(kind, number, ahead) + frame[at:]
        return _FAR.pack(kind | 0x10, number, ahead) + frame[at:]
    later = timestamp - base_time & _U32
    if ahead > 0x7FFF:
        ahead -= 1 << 32
    if later > 0x7FFFFF:
        later -= 1 << 32
    if ahead < -0x8000 or later < -0x800000:
        return None
    return _FULL.pack(kind | 0x20, number, ahead, later >> 16, later & 0xFFFF, flags, layers) + frame[at:]


def with_length(compact: bytes) -> bytes:
    """A COMPACT frame to the end as one that others may follow in its datagram."""
    return FRAME.pack(compact[0] - 0x40, len(compact) - 1) + compact[1:]


def restore(frame: bytes, contexts: Held) -> tuple[int, bytes | None]:
    """(the number that a whole COMPACT *frame* names, its MEDIA frame; None where the number is not known).

    Raises:
        ProtocolError: truncated, or malformed (a form or extensions that are not assigned, or are not there).
    """
    kind = frame[0]
    start = 0 if kind >= COMPACT_TO_END else HEAD_BYTES - 1  # so that the layouts, which have the type, fit
    form = kind >> 4 & 3
    try:
        if form == 2:
            _, number, ahead, high, low, flags, layers = _FULL.unpack_from(frame, start)
        elif form == 3:
            raise ProtocolError("malformed", f"compact frame of type {kind:#04x}")
        else:
            _, number, ahead = _FORMS[form].unpack_from(frame, start)
    except struct.error:
        raise ProtocolError("truncated", "compact frame") from None
    at = start + _SIZES[form]
    extensions = kind >> 2 & 3
    if extensions and (extensions == 3 or len(frame) <= at):
        raise ProtocolError("malformed", "extensions of a compact frame")
    context = contexts.get(number)
    if context is None:
        return number, None
    if form == 2:
        prefix, sequence, timestamp, _, _, _ = context
        timestamp += (high << 16) + low
    else:
        prefix, sequence, timestamp, flags, layers, stride = context
        timestamp += ahead * stride
    sequence, timestamp = sequence + ahead & _U32, timestamp & _U32
    if extensions == 0:
        tail = _TAIL.pack(flags, layers, sequence, timestamp, 0)
    elif extensions == 1:
        tail = _TAIL.pack(flags, layers, sequence, timestamp, 3) + _LEVEL
    else:
        tail = _TAIL.pack(flags, layers, sequence, timestamp, frame[at])
        at += 1
    size = len(prefix) + len(tail) + len(frame) - at
    return number, FRAME.pack(MEDIA, size) + prefix + tail + frame[at:]


# --- a number that is not known --------------------------------------------------------------------


def encode_unknown(epoch: int, numbers: Sequence[int]) -> bytes:
    """CONTEXT_UNKNOWN, whole. Raises ``ValueError`` for none, too many, or one out of its range."""
    if not 1 <= len(numbers) <= MAX_UNKNOWN:
        raise ValueError(f"{len(numbers)} numbers")
    try:
        return _UNKNOWN.pack(CONTEXT_UNKNOWN, 1 + 2 * len(numbers), epoch) + b"".join(
            map(_LENGTH.pack, numbers)
        )
    except struct.error as error:
        raise ValueError(f"unknown contexts: {error}") from None


class ContextUnknown(NamedTuple):
    """Numbers that the peer named and nobody knows here."""

    epoch: int  # u8, of the key under which they were named
    numbers: tuple[int, ...]  # u16


def decode_unknown(body: bytes) -> ContextUnknown:
    """CONTEXT_UNKNOWN in *body*.

    Raises:
        ProtocolError: truncated, or invalid (too many).
    """
    if len(body) < 3 or not len(body) & 1:
        raise ProtocolError("truncated", "unknown contexts")
    if len(body) > 1 + 2 * MAX_UNKNOWN:
        raise ProtocolError("invalid", "unknown contexts")
    return ContextUnknown(body[0], struct.unpack_from(f"!{len(body) // 2}H", body, 1))
