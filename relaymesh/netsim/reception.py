"""What a player received of a track: packets of each encoding, pictures in parts, layers over time.

In: packet numbers and stamps. Out: which arrived, when a picture is whole, which layer was shown when and
how soon after its keyframe, and what became of all that the publisher sent (:func:`fates_between`). It
knows no clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relaymesh.netsim.encoder import PublishedEncoding
from relaymesh.netsim.media import PublishedTrack

MAX_LAYER_CHANGES = 10_000


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
    # s from the keyframe that brought it leaving the publisher to its first picture being here; None: it is
    # the first that was shown, or it began without a new keyframe (kept packets, a layer left out).
    took: float | None = None


class ShownLayers:
    """Which encoding and spatial layer a player showed, and how soon after their keyframes."""

    __slots__ = ("_coming", "_shown_from", "changes")

    def __init__(self) -> None:
        self.changes: list[LayerChange] = []
        self._coming: dict[int, float] = {}  # encoding that is not shown → when its keyframe was sent, s
        self._shown_from = 0.0  # when the picture was sent that is shown, s

    def note_keyframe(self, encoding: int, sent_at: float) -> None:
        """A packet came of a keyframe ahead of what is shown, sent by the publisher at *sent_at*."""
        if self.changes and self.changes[-1].encoding != encoding:
            self._coming.setdefault(encoding, sent_at)

    def show(self, whole: Whole, at: float, now: float) -> bool:
        """*whole* is here *now* and shown from *at* on; whether it is another encoding or spatial layer."""
        last = self.changes[-1] if self.changes else None
        before, self._shown_from = self._shown_from, whole.sent_at
        if last is not None and (last.encoding, last.spatial) == (whole.encoding, whole.spatial):
            if self._coming:  # a keyframe older than this picture brought nothing: it was given up
                self._coming = {e: sent for e, sent in self._coming.items() if sent >= whole.sent_at}
            return False
        began = self._coming.pop(whole.encoding, whole.sent_at)
        fresh = last is not None and whole.keyframe and began >= before
        change = LayerChange(at, whole.encoding, whole.spatial, now - began if fresh else None)
        self._coming.clear()
        if len(self.changes) >= MAX_LAYER_CHANGES:
            self.changes.pop()  # the last place is that of what is shown
        self.changes.append(change)
        return True


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
