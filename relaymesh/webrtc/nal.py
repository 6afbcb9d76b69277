"""NAL units, which H264 and H265 payloads are made of, and the pictures they make up.

In: what a codec's module found in a packet. Out: where pictures begin. Knows no
unit types; those are with :mod:`relaymesh.webrtc.h264` and :mod:`relaymesh.webrtc.h265`.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from relaymesh.webrtc.errors import RtpError


class NalPacket(msgspec.Struct, frozen=True, gc=False):
    """What begins in one packet."""

    parameter_sets: bool = False  # one without which no picture can be decoded (SPS)
    headers: bool = False  # its first unit stands before a picture's slices: parameter sets, SEI, delimiter
    first_slice: bool = False  # the first slice of a picture
    random_access: bool = False  # … of a picture that needs no other: IDR, or IRAP in H265
    discardable: bool = False  # slices only, and nothing refers to them
    temporal: int = 0
    switching: bool = False  # its temporal layer can be taken up with this picture


class Unit(msgspec.Struct, frozen=True, gc=False):
    """One NAL unit, or the first piece of one."""

    data: bytes  # from the unit's own header on
    whole: bool


def split_aggregate(payload: bytes, at: int) -> list[Unit]:
    """The units of an aggregate from offset *at* on: each a size of 16 bits and the unit.

    Raises:
        RtpError: a unit that is empty or does not fit.
    """
    units: list[Unit] = []
    end = len(payload)
    while at < end:
        start = at + 2
        if start >= end:
            raise RtpError("an aggregate ends inside a size")
        size = payload[at] << 8 | payload[at + 1]
        at = start + size
        if size == 0 or at > end:
            raise RtpError("an aggregated unit does not fit")
        units.append(Unit(payload[start:at], True))
    return units


def rbsp(unit: bytes) -> bytes:
    """*unit* without the bytes that only keep start codes out (H.264 §7.4.1, H.265 §7.4.2)."""
    return unit.replace(b"\0\0\3", b"\0\0")


class ExpGolomb:
    """The bits of a unit, read from *at* (in bits) on: u(n) and ue(v) (H.264 §9.1).

    Raises:
        RtpError: from its methods, at the end of the unit.
    """

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes, at: int) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8 - at

    def take(self, count: int) -> int:
        """The next *count* bits."""
        left = self._left - count
        if left < 0:
            raise RtpError("truncated NAL unit")
        self._left = left
        return self._value >> left & ((1 << count) - 1)

    def number(self) -> int:
        """The next unsigned Exp-Golomb number, of at most 32 bits."""
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
            if zeros > 32:
                raise RtpError("a number of more than 32 bits in a NAL unit")
        return (1 << zeros) - 1 + self.take(zeros)


class _Stage(Enum):
    NONE = auto()  # no packet of the current picture was seen
    HEADERS = auto()
    SLICES = auto()


class Pictures:
    """Where the pictures of one encoding begin, in the order of its packets."""

    __slots__ = ("_key", "_stage")

    def __init__(self) -> None:
        self._stage = _Stage.NONE
        self._key = False  # the current picture was called a keyframe

    def handle(self, packet: NalPacket, marker: bool) -> tuple[bool, bool]:
        """(first packet of a picture, first packet of a keyframe).

        The marker of the picture before may be lost: a first slice, or headers behind slices, begin one, too.
        """
        begins = self._stage is _Stage.NONE and (packet.headers or packet.first_slice)
        begins = begins or (self._stage is _Stage.SLICES and (packet.headers or packet.first_slice))
        if begins:
            self._key = False
        key = not self._key and (packet.parameter_sets or (packet.first_slice and packet.random_access))
        self._key = self._key or key
        if packet.first_slice:
            self._stage = _Stage.SLICES
        elif packet.headers:
            self._stage = _Stage.HEADERS
        if marker:
            self._stage = _Stage.NONE
            self._key = False
        return begins, key
