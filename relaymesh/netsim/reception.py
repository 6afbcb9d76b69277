"""What a player received of a track: packets of each encoding, pictures in parts, layers over time.

In: packet numbers and stamps. Out: which arrived, when a picture is whole, and what became of all that
the publisher sent (:func:`fates_between`). It knows no clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relaymesh.netsim.encoder import PublishedEncoding
from relaymesh.netsim.media import PublishedTrack


class Whole(NamedTuple):
    """A frame that is complete, or one packet's word on it."""

    sent_at: float  # s
    keyframe: bool
    encoding: int
    spatial: int  # the highest layer in it
    first: int  # number of its first packet
    temporal: int = 0
    base: int = 0  # u8, of VP9: which picture of the lowest temporal layer it is, or is built on (TL0PICIDX)


class ReceivedEncoding:
    """The packets of one encoding at a player, and in which stretches it was on it."""

    __slots__ = ("arrived", "first", "stretches")

    def __init__(self) -> None:
        self.arrived = bytearray()  # by packet number: 0 never, 1 as sent, 2 only as a retransmission
        self.first: int | None = None  # packet number
        self.stretches: list[list[int]] = []  # [first packet, one past the last; -1: it is on it]

    def take(self, number: int, *, again: bool) -> bool:
        """A packet came; whether it is new."""
        arrived = self.arrived
        if number >= len(arrived):
            arrived.extend(bytes(number + 256 - len(arrived)))
        elif arrived[number]:
            return False
        arrived[number] = 2 if again else 1
        if self.first is None or number < self.first:
            self.first = number
        return True

    def enter(self, number: int) -> None:
        """The player shows it, from the picture that begins with packet *number* on."""
        self.stretches.append([number, -1])

    def leave(self) -> None:
        """The player shows another one; what was sent of this after the last that came does not count."""
        if self.stretches and self.stretches[-1][1] < 0:
            self.stretches[-1][1] = len(self.arrived.rstrip(b"\0"))


@dataclass(frozen=True, slots=True)
class LayerChange:
    """From *at* on the player showed this encoding and spatial layer."""

    at: float  # s
    encoding: int  # the publisher's number, the lowest is 0
    spatial: int


class Picture:
    """A picture with spatial layers that is not complete: its layers' frames so far."""

    __slots__ = ("_ended", "_missing", "whole")

    def __init__(self, part: Whole) -> None:
        self.whole = part
        self._missing: dict[int, int] = {}  # spatial layer → packets of its frame that are missing
        self._ended = False  # the packet with the marker came

    def take(self, part: Whole, count: int, *, marker: bool) -> None:
        """A packet of the layer's frame that *part* tells of, which has *count* packets."""
        self._missing[part.spatial] = self._missing.get(part.spatial, count) - 1
        self._ended |= marker
        before = self.whole
        self.whole = Whole(
            before.sent_at,
            before.keyframe,
            before.encoding,
            max(before.spatial, part.spatial),
            min(before.first, part.first),
            before.temporal,
            before.base,
        )

    @property
    def complete(self) -> bool:
        """Whether all packets of all layers that were sent to us are here."""
        if not self._ended or any(self._missing.values()):
            return False
        # In a key picture each layer needs the one below; in others only its own past (L3T3_KEY).
        return not self.whole.keyframe or len(self._missing) == self.whole.spatial + 1


class PlayedPackets(Protocol):
    """A played track, as far as its packets matter here."""

    @property
    def received(self) -> dict[int, ReceivedEncoding]:
        """By the publisher's number of the encoding."""


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the packets of one track, as one player should have had them."""

    sent: int = 0  # of those that nothing may leave out
    never: int = 0  # of them, that never arrived
    again: int = 0  # of them, that arrived only as a retransmission
    enhancement: int = 0  # sent in layers that a short link may leave out
    left_out: int = 0  # of those, that never arrived

    def plus(self, other: Fates) -> Fates:
        """Both together."""
        return Fates(
            self.sent + other.sent,
            self.never + other.never,
            self.again + other.again,
            self.enhancement + other.enhancement,
            self.left_out + other.left_out,
        )


def fates_between(published: PublishedTrack, played: PlayedPackets, start: float, end: float) -> Fates:
    """Of what was sent within *start* … *end* (seconds).

    Counted from the first packet the player ever got: video is sent to it from a keyframe on only. Of
    several encodings each counts while the player was on it.
    """
    total = Fates()
    several = len(published.encodings) > 1
    for encoding in published.encodings:
        received = played.received.get(encoding.number)
        if received is None or received.first is None:
            continue
        low, high = bisect_left(encoding.sent_at, start), bisect_left(encoding.sent_at, end)
        stretches = received.stretches if several else [[received.first, -1]]
        for first, after in stretches:
            until = high if after < 0 else min(high, after)
            total = total.plus(_fates(encoding, received.arrived, max(low, first), until))
    return total


def _fates(published: PublishedEncoding, arrived: bytearray, low: int, high: int) -> Fates:
    """Of the packets *low* … *high* of one encoding."""
    if high <= low:
        return Fates()
    if not published.spec.is_layered:
        never = arrived.count(0, low, high) + max(0, high - max(low, len(arrived)))
        return Fates(high - low, never, arrived.count(2, low, high))
    padded = arrived[low:high].ljust(high - low, b"\0")
    pairs = Counter(zip((layer > 0 for layer in published.layer_of[low:high]), padded, strict=True))
    base, above = (sum(pairs[upper, fate] for fate in range(3)) for upper in (False, True))
    return Fates(base, pairs[False, 0], pairs[False, 2], above, pairs[True, 0])
