"""The streams a node holds: what a publisher sends here, or what reaches us over the relay.

A stream has tracks, a track has encodings. Where its packets come from (a
WebRTC session here, a link) makes no difference to those who take them: an
encoding keeps its recent packets, hands each to its takers, and remembers when
somebody needs a keyframe. Nothing here decodes media or knows a socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Literal, Protocol

from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.ids import StreamId, TrackId, stream_id
from relaymesh.protocol.messages import StreamInfo, StreamName, TrackInfo
from relaymesh.protocol.seqnum import Extender

CACHE_PACKETS = 1024  # a power of two; two seconds of 4 Mbit/s video
OUTAGE = 0.08  # s without a packet of a relayed video,
OUTAGE_PACKETS = 3  # and so many missing after it: nobody's picture goes on without a keyframe
KEYFRAME_INTERVAL = 0.3  # s; a publisher is asked at most this often
KEYFRAME_RETRY = 0.5  # s; a request can be lost, so it is repeated until a keyframe is seen


class Taker(Protocol):
    """Whoever takes an encoding's packets at this node."""

    def take(self, frame: MediaFrame, now: float) -> None:
        """One packet, in the order of arrival."""

    def skip(self, first: int, packets: int, pictures: int) -> None:
        """Packets, from an extended sequence number on, that a link left out by intent; so many pictures."""


@dataclass(frozen=True, slots=True)
class MediaClock:
    """A sender report's pair: the publisher's NTP time and the RTP timestamp of the same instant."""

    ntp: int  # 64-bit NTP
    timestamp: int  # RTP units
    received_at: float  # s, our clock, when it came


class KeyframeWish:
    """Merges everybody's wish for a keyframe into requests at a bounded rate.

    Wishes arrive by :meth:`ask`; :meth:`due` says when one request must go
    out; :meth:`seen` ends the wish. Between two requests lie at least
    :data:`KEYFRAME_INTERVAL`; unanswered ones are repeated.
    """

    __slots__ = ("_asked_at", "_last_sent", "_wanted", "requests")

    def __init__(self) -> None:
        self._wanted = False
        self._asked_at = -inf
        self._last_sent = float("-inf")
        self.requests = 0

    def ask(self, now: float) -> None:
        if not self._wanted:
            self._wanted = True
            self._asked_at = now

    def seen(self) -> None:
        self._wanted = False

    def next_timeout(self) -> float | None:
        """When the next request is due; ``None`` while nobody wants one."""
        if not self._wanted:
            return None
        # A new wish waits for the rate limit only, a repeated one for an answer.
        gap = KEYFRAME_RETRY if self._last_sent >= self._asked_at else KEYFRAME_INTERVAL
        return max(self._asked_at, self._last_sent + gap)

    def due(self, now: float) -> bool:
        """Whether a request must go out now; if so it counts as sent."""
        at = self.next_timeout()
        if at is None or at > now:
            return False
        self._last_sent = now
        self.requests += 1
        return True


class Encoding:
    """One encoding of a track at this node: recent packets, takers, the wish for a keyframe."""

    __slots__ = (
        "cache",
        "clock",
        "duplicates",
        "extender",
        "first",
        "highest",
        "keyframe_wish",
        "last_arrival",
        "merged",
        "number",
        "received",
        "skipped",
        "takers",
        "track",
    )

    def __init__(self, track: Track, number: int) -> None:
        self.track = track
        self.number = number
        self.extender = Extender(32)  # of the sequence numbers on the relay, which wrap
        self.cache: list[MediaFrame | None] = [None] * CACHE_PACKETS
        self.first: int | None = None
        self.highest: int | None = None
        self.received = 0
        self.duplicates = 0  # sent once, and came twice
        self.skipped = 0  # packets that a short link left out
        self.merged = 0  # packets sent by two ways (hitless, or repaired), that both came
        self.last_arrival = float("-inf")
        self.clock: MediaClock | None = None
        self.takers: list[Taker] = []
        self.keyframe_wish = KeyframeWish()

    def deliver(self, frame: MediaFrame, now: float) -> bool:
        """Keep *frame* and hand it to every taker; ``False`` if it is a duplicate or older than the cache."""
        sequence = frame.sequence
        if self.highest is None:
            self.first = self.highest = sequence
        elif sequence > self.highest:
            if (
                sequence - self.highest > OUTAGE_PACKETS
                and now - self.last_arrival >= OUTAGE
                and self.track.is_video
                and self.track.stream.source == "relay"
            ):
                # The way here broke and was repaired; what it swallowed does not come any more.
                self.keyframe_wish.ask(now)
            self.highest = sequence
        elif sequence <= self.highest - CACHE_PACKETS:
            self.duplicates += 1
            return False
        slot = sequence & (CACHE_PACKETS - 1)
        kept = self.cache[slot]
        if kept is not None and kept.sequence == sequence:
            if frame.copy or kept.copy:
                self.merged += 1
            else:
                self.duplicates += 1
            return False
        assert self.first is not None
        if sequence < self.first:
            self.first = sequence
        self.cache[slot] = frame
        self.received += 1
        self.last_arrival = now
        if frame.keyframe:
            self.keyframe_wish.seen()
        for taker in self.takers:
            taker.take(frame, now)
        return True

    def skip(self, first: int, packets: int, pictures: int) -> None:
        """A short link left out *packets* from number *first* on, with them so many *pictures*."""
        if self.highest is None or first <= self.highest - CACHE_PACKETS or self.recent(first) is not None:
            return
        last = first + packets - 1
        if last <= self.highest:
            return  # told twice, or too late
        self.skipped += last - max(self.highest, first - 1)
        self.highest = last
        for taker in self.takers:
            taker.skip(first, packets, pictures)

    def recent(self, sequence: int) -> MediaFrame | None:
        """The packet with this extended sequence number, if it is still kept."""
        frame = self.cache[sequence & (CACHE_PACKETS - 1)]
        return frame if frame is not None and frame.sequence == sequence else None

    @property
    def lost(self) -> int:
        """Packets between the first and the highest that never came (reordering counts until it resolves)."""
        if self.highest is None or self.first is None:
            return 0
        return max(0, self.highest - self.first + 1 - self.received - self.skipped)


class Track:
    """A track of a stream with the encodings seen so far."""

    __slots__ = ("encodings", "id", "info", "stream")

    def __init__(self, stream: Stream, info: TrackInfo) -> None:
        self.stream = stream
        self.info = info
        self.id = TrackId(stream.id.room, stream.id.participant, info.track)
        self.encodings: dict[int, Encoding] = {0: Encoding(self, 0)}

    @property
    def main(self) -> Encoding:
        """The encoding every player gets while tracks carry one only."""
        return self.encodings[0]

    @property
    def is_video(self) -> bool:
        return self.info.kind == "video"


@dataclass(slots=True, eq=False)
class Stream:
    """What one participant publishes into one room, as far as this node has it."""

    name: StreamName
    source: Literal["local", "relay"]
    ingress: int | None  # index of the node where it enters; ours, or None before we have one
    tracks: dict[int, Track] = field(default_factory=dict)
    edges: int = 0  # bit set of the other edges that want it; kept at its ingress only
    ended_at: float | None = None  # s; the publisher left, players wait for it to come back
    idle_since: float | None = None  # s; nobody here plays it any more (relay streams)
    id: StreamId = field(init=False)

    def __post_init__(self) -> None:
        self.id = stream_id(self.name.room, self.name.participant)

    def info(self) -> StreamInfo:
        return StreamInfo(self.name.room, self.name.participant, tuple(t.info for t in self.tracks.values()))

    def set_tracks(self, infos: tuple[TrackInfo, ...]) -> None:
        """Hold exactly these tracks; those that stay keep their packets."""
        self.tracks = {
            info.track: kept
            if (kept := self.tracks.get(info.track)) and kept.info == info
            else Track(self, info)
            for info in infos
        }

    def encodings(self) -> Iterator[Encoding]:
        for track in self.tracks.values():
            yield from track.encodings.values()


class StreamTable:
    """All streams of a node, by name and by the numbers packets carry."""

    def __init__(self, limit: int = 10_000) -> None:
        self._streams: dict[StreamId, Stream] = {}
        self.limit = limit

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def full(self) -> bool:
        return len(self._streams) >= self.limit

    def get(self, name: StreamName) -> Stream | None:
        return self._streams.get(stream_id(name.room, name.participant))

    def by_id(self, key: StreamId) -> Stream | None:
        return self._streams.get(key)

    def track(self, key: TrackId) -> Track | None:
        stream = self._streams.get(key.stream)
        return stream.tracks.get(key.track) if stream is not None else None

    def add(self, stream: Stream) -> None:
        assert not self.full, "the caller refuses a stream when the table is full"
        self._streams[stream.id] = stream

    def remove(self, stream: Stream) -> None:
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]
