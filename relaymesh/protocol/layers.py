"""Layer shedding on a short link: enhancement layers are left out whole, never single packets.

In: the packets of streams with enhancement layers as they are offered (which layer, how large,
of which picture), what all else needs, the rate. Out: whether a packet goes, and whether it is
the last of its picture now.

While a link is short, the highest layers of all streams are left out first, as many as it
takes. They come back a few at a time, the lowest first, when there is room and the last
that came back did not fill the path. What goes of a picture is decided when it begins: a decoder
waits for a picture's end, so the packet before what is left out must say that it is the last.
A temporal layer comes back where a decoder can take it up, a spatial one with a keyframe;
where one is needed, :meth:`Layers.wants_keyframe` says so.

A layer here is a temporal layer of the lowest spatial one, or a spatial layer above with all of its
pictures: with some of them only, every other picture would be a sharp one.

This is soft state of the link, bounded, and kept of what is offered now: a node
that passes streams on still keeps nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from relaymesh.protocol.frames import MediaTag

MAX_LAYERS = 4096
WINDOW = 0.25  # seconds over which rates are measured
KEPT = 2.0  # seconds a silent layer is known
FULL_SHARE = 0.97  # of the rate may be asked for; more sheds
ROOM_SHARE = 0.9  # of the rate may be asked for with the layer that comes back
BACK_SHARE = 0.07  # of the rate may come back at once, or one layer
BACK_RTT = 0.1  # seconds; on longer ways less, since a mistake shows later
BACK_AFTER = 0.2  # seconds between layers that come back, and one round trip
FAILED_AFTER = 1.5  # seconds without another try when one filled the path
REORDERED = 180_000  # RTP units, 2 s of video: so far behind the newest picture one may be late
_SPATIAL = 8  # layers from here on are spatial ones


@dataclass(slots=True)
class _Layer:
    own: int  # which of its encoding: the temporal layer, or the spatial one × 8
    rate: float = 0.0  # bytes/s
    counted: int = 0  # bytes in the window
    seen_at: float = 0.0
    shed: bool = False
    out: bool = False  # of the present picture; follows *shed* from picture to picture


@dataclass(slots=True)
class _Stream:
    """One encoding with enhancement layers."""

    layers: dict[int, _Layer] = field(default_factory=dict)  # by *own*
    rank: int = 0  # among the encodings of its track, by rate; 0: the lowest
    timestamp: int | None = None  # of the newest picture
    begun: bool = False  # its first packet was seen: what goes of it is decided
    broken: bool = False  # packets are missing that nobody will repair; until the next keyframe
    # Timestamp of the newest keyframe: what is of pictures before it is needed no more.
    keyframe: int | None = None

    def goes(self, own: int, temporal: int) -> bool:
        """Whether the layer *own* goes of a picture of that temporal layer, and what it is built on."""
        return not any(
            layer.out and (at in (own, temporal, 0) or _SPATIAL <= at < own)
            for at, layer in self.layers.items()
        )

    def stands(self, own: int) -> bool:
        """Whether all that the layer is built on goes: a decoder has no use for it alone."""
        least = _SPATIAL if own >= _SPATIAL else 0
        return not any(
            layer.out and at != own and (at == 0 or least <= at < own) for at, layer in self.layers.items()
        )


class Layers:
    """The enhancement layers offered to one link."""

    def __init__(self) -> None:
        self.shed_packets = 0
        self.shed_now = 0  # layers
        self.active = False  # whether any is shed, out or broken: then every packet of video is to be offered
        self._streams: dict[bytes, _Stream] = {}
        self._count = 0  # layers
        self._window_at = -math.inf
        self._may_return_at = -math.inf
        self._returned: list[_Layer] = []  # recently: whether they fill the path is not known yet

    def _all(self) -> Iterator[_Layer]:
        return (layer for stream in self._streams.values() for layer in stream.layers.values())

    @property
    def rate(self) -> float:
        """Bytes per second that all layers offered."""
        return sum(layer.rate for layer in self._all())

    @property
    def shed_rate(self) -> float:
        """Bytes per second of the layers that are left out."""
        return sum(layer.rate for layer in self._all() if layer.shed)

    # --- packets ---------------------------------------------------------------------------------

    def offer(self, tag: MediaTag, size: int, now: float) -> bool:
        """Count a packet of *size* bytes, and tell whether it goes; those that are no enhancement do."""
        if now - self._window_at >= WINDOW:
            self._roll(now)
        stream = self._streams.get(tag.stream)
        if stream is None:
            if not tag.enhancement or self._count >= MAX_LAYERS:
                return True  # not counted, not shed: the pacer bounds it
            stream = self._streams[tag.stream] = _Stream(rank=min(tag.stream[-1], 7))  # until rates are known
        spatial, temporal = tag.layers >> 3, tag.layers & 7
        behind = 0 if stream.timestamp is None else (stream.timestamp - tag.timestamp) & 0xFFFFFFFF
        if stream.timestamp is None or behind > REORDERED:
            stream.timestamp, stream.begun, behind = tag.timestamp, not spatial, 0
            if stream.begun:
                self._begin(stream, tag)
        if not tag.enhancement:
            return True
        own = spatial * _SPATIAL or temporal
        layer = stream.layers.get(own)
        if layer is None:
            if self._count >= MAX_LAYERS:
                return True
            layer = stream.layers[own] = self._new(stream, own)
        layer.counted += size
        layer.seen_at = now
        # What is of a picture before was let go then, and was lost on the way here.
        if behind or not self.active or stream.goes(own, temporal):
            return True
        self.shed_packets += 1
        return False

    def _new(self, stream: _Stream, own: int) -> _Layer:
        """A layer that was not known: on a short link it waits its turn, from the next picture on."""
        self._count += 1
        level = _level(stream, own)
        shed = self.shed_now > 0 and any(
            layer.shed and _level(other, layer.own) <= level
            for other in self._streams.values()
            for layer in other.layers.values()
        )
        self.shed_now += shed
        return _Layer(own, shed=shed)

    def _begin(self, stream: _Stream, tag: MediaTag) -> None:
        """A picture begins: what is shed goes out, and what may comes back."""
        for own in sorted(stream.layers):
            layer = stream.layers[own]
            if own < _SPATIAL and own != tag.layers & 7:
                continue  # this picture has none of it
            if layer.shed:
                layer.out = True
            elif layer.out and stream.stands(own):
                layer.out = not (tag.keyframe if own >= _SPATIAL else tag.entry)
        if tag.keyframe:
            stream.broken = False
            stream.keyframe = tag.timestamp

    def ends_picture(self, tag: MediaTag) -> bool:
        """Whether nothing goes of a picture behind this packet, the last of its spatial layer, that goes."""
        stream = self._streams.get(tag.stream)
        if stream is None or not stream.begun or stream.timestamp != tag.timestamp:
            return False
        above = [own for own in stream.layers if own >= _SPATIAL and own > (tag.layers & ~7)]
        return bool(above) and not any(stream.goes(own, tag.layers & 7) for own in above)

    def note_broken(self, tag: MediaTag) -> bool:
        """A packet is lost for good: whoever shows the stream needs a keyframe. Whether that is news.

        It is not when a keyframe was let go since: then one is on its way already.
        """
        stream = self._streams.get(tag.stream)
        if stream is None or stream.broken:
            return False
        if stream.keyframe is not None and 0 < (stream.keyframe - tag.timestamp) & 0xFFFFFFFF <= REORDERED:
            return False
        stream.broken = self.active = True
        return True

    def is_shed(self, tag: MediaTag) -> bool:
        """Whether the packet's layer is left out of what comes now."""
        stream = self._streams.get(tag.stream)
        layer = None if stream is None else stream.layers.get((tag.layers & ~7) or tag.layers)
        return layer is not None and (layer.shed or layer.out)

    def wants_keyframe(self, tag: MediaTag) -> bool:
        """Whether a keyframe would mend the packet's stream, or bring a layer of it back."""
        stream = self._streams.get(tag.stream)
        return stream is not None and (
            stream.broken
            or any(
                layer.out and not layer.shed and (own >= _SPATIAL or own == 0) and stream.stands(own)
                for own, layer in stream.layers.items()
            )
        )

    def _roll(self, now: float) -> None:
        passed, self._window_at = now - self._window_at, now
        for key, stream in list(self._streams.items()):
            for own, layer in list(stream.layers.items()):
                if layer.seen_at < now - KEPT:
                    del stream.layers[own]
                    self._count -= 1
                    continue
                if passed < 4 * WINDOW:
                    # The first measurement counts at once, later ones are smoothed.
                    rate = layer.counted / passed
                    layer.rate += (rate - layer.rate) * (0.5 if layer.rate else 1.0)
                layer.counted = 0
            if not stream.layers:
                del self._streams[key]
        self._rank()
        self._note_active()

    def _note_active(self) -> None:
        self.active = any(
            stream.broken or any(layer.shed or layer.out for layer in stream.layers.values())
            for stream in self._streams.values()
        )

    def _rank(self) -> None:
        """Order the encodings of each track by what they need: their numbers say nothing of it."""
        tracks: dict[bytes, list[tuple[bool, float, int, _Stream]]] = {}
        for key, stream in self._streams.items():
            rate = sum(layer.rate for layer in stream.layers.values())
            # Only the lowest encoding has a base layer that is no enhancement.
            tracks.setdefault(key[:-1], []).append((0 in stream.layers, rate, key[-1], stream))
        for encodings in tracks.values():
            encodings.sort(key=lambda found: found[:3])
            first = int(encodings[0][0])
            for rank, (*_, stream) in enumerate(encodings, first):
                stream.rank = rank

    # --- shedding --------------------------------------------------------------------------------

    def fit(self, rate: float, others: float, *, rtt: float, filled: bool, now: float) -> None:
        """Leave out what does not fit into *rate*; *others*: what all else needs. Both bytes/s.

        *filled*: the path was just found full. Infinite *rate*: everything goes.
        """
        ordered = self._ordered()
        asked = others + sum(layer.rate for layer in ordered if not layer.shed)
        if filled and self._returned:
            self._may_return_at = now + FAILED_AFTER
            for layer in self._returned:
                if not layer.shed:
                    layer.shed = True
                    asked -= layer.rate
            self._returned.clear()
        for layer in reversed(ordered):
            if asked <= FULL_SHARE * rate:
                break
            if not layer.shed:
                layer.shed = True
                asked -= layer.rate
                self._may_return_at = max(self._may_return_at, now + BACK_AFTER + rtt)
        self._let_back([layer for layer in ordered if layer.shed], rate, asked, rtt, now)
        self.shed_now = sum(layer.shed for layer in ordered)
        self._note_active()

    def _ordered(self) -> list[_Layer]:
        """All layers, those first that stay longest and come back soonest."""
        ordered = [
            (_level(stream, layer.own), stream.rank, layer.own, layer.rate, layer)
            for stream in self._streams.values()
            for layer in stream.layers.values()
        ]
        ordered.sort(key=lambda found: found[:4])
        return [layer for *_, layer in ordered]

    def _let_back(self, out: list[_Layer], rate: float, asked: float, rtt: float, now: float) -> None:
        """Let some of *out* come back, the first ones first."""
        if now < self._may_return_at:
            return
        self._returned.clear()  # the last ones did no harm
        if rate == math.inf:
            for layer in out:
                layer.shed = False
            return
        share = BACK_SHARE * min(1.0, BACK_RTT / rtt) if rtt else BACK_SHARE
        room = min(ROOM_SHARE * rate - asked, share * rate)
        for layer in out:
            room -= layer.rate
            if room < 0.0 and (self._returned or asked + layer.rate > ROOM_SHARE * rate):
                break
            layer.shed = False
            self._returned.append(layer)
            self._may_return_at = now + BACK_AFTER + rtt

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        for layer in self._all():
            layer.shed = False
        self._returned.clear()
        self._may_return_at = -math.inf
        self.shed_now = 0

    def debug_state(self) -> dict[str, object]:
        return {
            "layers": self._count,
            "shed": self.shed_now,
            "shed_packets": self.shed_packets,
            "rate_kbps": self.rate / 125,
        }


def _level(stream: _Stream, own: int) -> int:
    """How soon a layer is left out, higher ones first.

    The highest encodings of simulcast are as dear, and as dispensable, as the highest layers of SVC.
    """
    return max(own >> 3, stream.rank) << 3 | own & 7
