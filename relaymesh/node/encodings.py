"""One encoding of a track as a node holds it: recent packets, those since the last keyframe, takers.

Its packets come from a WebRTC session here or from a link; that makes no
difference to those who take them. Out: each packet once to every taker, a
merged wish for a keyframe, and what somebody who joins now needs first.
Nothing here decodes media or knows a socket.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

from relaymesh.node.keyframe_wish import KeyframeWish
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.seqnum import Extender

if TYPE_CHECKING:
    from relaymesh.kernels.fan_out import Stream
    from relaymesh.node.followers import Followers
    from relaymesh.node.publications import Track

CACHE_PACKETS = 1024  # a power of two; two seconds of 4 Mbit/s video
OUTAGE = 0.08  # s without a packet of a relayed video,
OUTAGE_PACKETS = 3  # and so many missing after it: nobody's picture goes on without a keyframe
# What a joiner needs: OBS and ffmpeg send a keyframe each 8 to 10 s by habit. At 1.5 Mbit/s 12 s are 2.3 MB.
KEPT_SINCE_KEYFRAME = 12.0  # s
KEPT_BYTES = 3_000_000
# Packets that may still be on their way, being repaired: a hole among the newest is no reason not to begin.
YOUNG_PACKETS = 32
KEPT_SKIPS = 2048  # stretches left out upstream, since a keyframe

Skip = tuple[int, int, int]  # extended sequence number of the first packet, packets, pictures


class Taker(Protocol):
    """Takes an encoding's packets at this node."""

    def take(self, frame: MediaFrame, now: float) -> None:
        """One packet, in the order of arrival."""

    def skip(self, encoding: Encoding, first: int, packets: int, pictures: int) -> None:
        """Packets, from an extended sequence number on, left out upstream by intent; so many pictures."""

    def collected(self, encoding: Encoding, now: float) -> None:
        """What was kept upstream since the last keyframe is here now, to begin with."""

    @property
    def wanted_layers(self) -> tuple[int, int]:
        """The highest (spatial, temporal) layer it wants."""


class SinceKeyframe:
    """The packets of an encoding since its last keyframe, within bounds; empty where they do not fit."""

    __slots__ = (
        "_began_at",
        "_bytes",
        "_collects_to",
        "_frames",
        "_highest",
        "_skipped",
        "_skips",
        "_start",
        "_timestamp",
        "collecting",
    )

    def __init__(self) -> None:
        self._frames: dict[int, MediaFrame] = {}
        self._start: int | None = None  # the keyframe's first sequence number
        self._timestamp = 0
        self._began_at = -inf
        self._highest = 0
        self._bytes = 0
        self._skipped = 0
        self._skips: list[Skip] = []
        self.collecting = False  # what the ingress keeps is on its way here, perhaps not in order
        self._collects_to: int | None = None  # its last packet, once that is known

    def add(self, frame: MediaFrame, now: float) -> None:
        """Keep *frame*, or begin anew with it."""
        sequence = frame.sequence
        if frame.keyframe and (
            self._start is None or (sequence > self._start and frame.timestamp != self._timestamp)
        ):
            self._begin(frame, now)
        elif self._start is None:
            if not self.collecting:
                return
        elif frame.keyframe and sequence < self._start and frame.timestamp == self._timestamp:
            self._start = sequence  # the same keyframe's, and late
        elif sequence < self._start:
            return
        if sequence in self._frames:
            return
        self._frames[sequence] = frame
        self._highest = max(self._highest, sequence)
        self._bytes += len(frame.payload)
        if self._bytes > KEPT_BYTES or now - self._began_at > KEPT_SINCE_KEYFRAME:
            self.clear()

    def _begin(self, frame: MediaFrame, now: float) -> None:
        # Its first packet may be the one that was lost and came later than those after it.
        sequence = frame.sequence
        self.collecting = self.collecting and self._start is None
        self._frames = {n: kept for n, kept in self._frames.items() if n > sequence}
        self._bytes = sum(len(kept.payload) for kept in self._frames.values())
        self._start, self._timestamp, self._began_at = sequence, frame.timestamp, now
        self._highest = max(self._frames, default=sequence)
        self._skips = [skip for skip in self._skips if skip[0] > sequence]
        self._skipped = sum(packets for _, packets, _ in self._skips)

    def collect(self, frame: MediaFrame, last: bool, now: float) -> None:
        """Keep a packet that the ingress sent again, though those before it are not here yet."""
        if self._start is None and not self.collecting:
            self.collecting, self._collects_to, self._began_at = True, None, now
        if last and self.collecting:
            self._collects_to = frame.sequence
        self.add(frame, now)

    def take_collected(self) -> bool:
        """Whether all that the ingress sent again is here as of now; said once."""
        if not self.collecting or self._start is None or self._collects_to is None:
            return False
        between = range(self._start, self._collects_to + 1)
        if len(self._frames) + self._skipped < len(between):
            return False
        if sum(n not in self._frames for n in between) > self._skipped:
            return False
        self.collecting = False
        return True

    def skip(self, first: int, packets: int, pictures: int) -> None:
        """So many packets from *first* on were left out upstream by intent: they are not missing."""
        if self._start is None or first < self._start:
            return
        self._skips.append((first, packets, pictures))
        self._skipped += packets
        self._highest = max(self._highest, first + packets - 1)
        if len(self._skips) > KEPT_SKIPS:
            self.clear()

    def clear(self) -> None:
        """Forget them, until the next keyframe."""
        self._frames, self._start, self._bytes, self._skipped, self._skips = {}, None, 0, 0, []
        self.collecting = False

    def get(self, sequence: int) -> MediaFrame | None:
        """The packet with this extended sequence number, if it is kept."""
        return self._frames.get(sequence)

    @property
    def size_bytes(self) -> int:
        """Payload bytes kept."""
        return self._bytes

    @property
    def skips(self) -> list[Skip]:
        """What was left out of them upstream by intent, in order."""
        return sorted(self._skips)

    def frames(self) -> list[MediaFrame]:
        """All of them in order, beginning with the keyframe; empty while one is missing or on its way."""
        if self._start is None or self.collecting:
            return []
        if len(self._frames) + self._skipped < self._highest - self._start + 1:
            left_out = {n for first, packets, _ in self._skips for n in range(first, first + packets)}
            young = self._highest - YOUNG_PACKETS
            if any(n not in self._frames and n not in left_out for n in range(self._start, young)):
                return []
        return [self._frames[number] for number in sorted(self._frames)]


class MediaClock:
    """A sender report's pair: the publisher's NTP time and the RTP timestamp of the same instant."""

    __slots__ = ("ntp", "received_at", "timestamp")

    def __init__(self, ntp: int, timestamp: int, received_at: float) -> None:
        self.ntp = ntp  # 64-bit NTP
        self.timestamp = timestamp  # RTP units
        self.received_at = received_at  # s, our clock, when it came


class Encoding:
    """One encoding of a track at this node."""

    __slots__ = (
        "_one_by_one",
        "cache",
        "clock",
        "duplicates",
        "extender",
        "first",
        "followers",
        "highest",
        "keyframe_wish",
        "last_arrival",
        "last_skip",
        "merged",
        "number",
        "received",
        "since_keyframe",
        "skipped",
        "takers",
        "track",
    )

    def __init__(self, track: Track, number: int) -> None:
        self.track = track
        self.number = number
        self.extender = Extender(32)  # of the sequence numbers on the relay, which wrap
        self.cache: list[MediaFrame | None] = [None] * CACHE_PACKETS
        self.since_keyframe = SinceKeyframe()
        self.first: int | None = None
        self.highest: int | None = None
        self.received = 0
        self.duplicates = 0  # sent once, and came twice
        self.skipped = 0  # packets left out upstream by intent
        self.merged = 0  # packets sent by two ways (hitless, or repaired), that both came
        self.last_arrival = float("-inf")
        self.last_skip = -inf  # s; when a link last told that it left something out
        self.clock: MediaClock | None = None
        self.takers: list[Taker] = []
        self._one_by_one: dict[Taker, None] = {}  # those of them that are handed every packet
        self.followers: Followers | None = None  # the others, all at once
        self.keyframe_wish = KeyframeWish(track.keyframe_requests)

    def add_taker(self, taker: Taker) -> None:
        """Hand *taker* every packet from now on."""
        self.takers.append(taker)
        self._one_by_one[taker] = None
        self.track.publication.demand_changed()

    def follow(self, taker: Taker, stream: Stream, *, renumbered: bool) -> None:
        """Send every new packet on as *stream*; *taker* is handed only what comes late, or is refused.

        *renumbered*: its pictures are counted anew.
        """
        assert self.followers is not None, "the caller made a stream for them"
        self._one_by_one.pop(taker, None)
        self.followers.add(stream, renumbered=renumbered)

    def unfollow(self, taker: Taker, stream: Stream) -> None:
        """Hand *taker* every packet again."""
        assert self.followers is not None, "it follows"
        self.followers.remove(stream)
        self._one_by_one[taker] = None

    def remove_taker(self, taker: Taker) -> None:
        """Hand it nothing any more."""
        self.takers.remove(taker)
        if taker not in self.takers:  # one that begins again is there twice for a moment
            self._one_by_one.pop(taker, None)
        if not self.takers and self.track.is_remote:
            self.since_keyframe.clear()  # nothing comes from now on: a later taker would begin in the past
            self.keyframe_wish.drop()  # none would be seen: the publisher would be asked for ever
        self.track.publication.demand_changed()

    def deliver(self, frame: MediaFrame, now: float) -> bool:
        """Keep *frame* and hand it to every taker; ``False`` if it is a duplicate or older than the cache."""
        sequence = frame.sequence
        is_late = self.highest is not None and sequence < self.highest
        if self.highest is None:
            self.first = self.highest = sequence
        elif sequence > self.highest:
            if (
                sequence - self.highest > OUTAGE_PACKETS
                and now - self.last_arrival >= OUTAGE
                and self.track.is_video
                and self.track.is_remote
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
            self.keyframe_wish.seen(now)
        if self.track.is_video and self._is_followed:
            self.since_keyframe.add(frame, now)
        if is_late:
            takers = tuple(self.takers)
        else:
            if self.followers is not None and len(self.followers):
                self.followers.send(frame, now)
            takers = tuple(self._one_by_one)
        for taker in takers:  # one that switches leaves, or the old one's place does
            taker.take(frame, now)
        if self.since_keyframe.collecting:
            self._tell_collected(now)
        return True

    def collect(self, frame: MediaFrame, last: bool, now: float) -> None:
        """Keep a packet that the ingress sent again so that takers can begin; when all are here they do."""
        sequence = frame.sequence
        if self.recent(sequence) is None:
            self.received += 1
            slot = sequence & (CACHE_PACKETS - 1)
            kept = self.cache[slot]
            if kept is None or kept.sequence < sequence:
                self.cache[slot] = frame
        if self.highest is None or sequence > self.highest:
            self.highest = sequence
        self.first = sequence if self.first is None else min(self.first, sequence)
        self.last_arrival = now
        if self._is_followed:
            self.since_keyframe.collect(frame, last, now)
            self._tell_collected(now)

    @property
    def _is_followed(self) -> bool:
        """Whether all of it comes on: it enters here, is taken, or is fetched ahead for who connects."""
        track = self.track
        return bool(self.takers) or not track.is_remote or bool(track.publication.connecting)

    def _tell_collected(self, now: float) -> None:
        if self.since_keyframe.take_collected():
            self.keyframe_wish.drop()
            for taker in tuple(self.takers):
                taker.collected(self, now)

    def skip(self, first: int, packets: int, pictures: int, now: float = -inf) -> None:
        """*packets* from number *first* on were left out upstream, with them so many *pictures*."""
        self.last_skip = now
        if self.highest is None or first <= self.highest - CACHE_PACKETS or self.recent(first) is not None:
            return
        last = first + packets - 1
        if last <= self.highest:
            return  # told twice, or too late
        left_out = last - max(self.highest, first - 1)
        self.skipped += left_out
        self.since_keyframe.skip(last - left_out + 1, left_out, pictures)
        self.highest = last
        for taker in tuple(self.takers):
            taker.skip(self, first, packets, pictures)

    def recent(self, sequence: int) -> MediaFrame | None:
        """The packet with this extended sequence number, if it is still kept."""
        frame = self.cache[sequence & (CACHE_PACKETS - 1)]
        if frame is not None and frame.sequence == sequence:
            return frame
        return self.since_keyframe.get(sequence)

    def after(self, sequence: int) -> list[MediaFrame]:
        """The packets behind this extended sequence number that are here already, in order."""
        if self.highest is None or sequence >= self.highest:
            return []
        found = (self.recent(later) for later in range(sequence + 1, self.highest + 1))
        return [frame for frame in found if frame is not None]

    @property
    def lost(self) -> int:
        """Packets between the first and the highest that never came (reordering counts until it resolves)."""
        if self.highest is None or self.first is None:
            return 0
        return max(0, self.highest - self.first + 1 - self.received - self.skipped)

    @property
    def wanted_layers(self) -> tuple[int, int] | None:
        """The highest (spatial, temporal) layer that a taker here wants; ``None`` without takers."""
        if not self.takers:
            return None
        wanted = [taker.wanted_layers for taker in self.takers]
        return max(spatial for spatial, _ in wanted), max(temporal for _, temporal in wanted)
