"""The packet path of the mesh, in one place: who gets a frame, here and beyond.

A frame from a local publisher goes to its takers at this node and, once for
each next hop, towards the edges that want it. A frame from a link is taken by
this node if its own bit is set, and passed on for the bits that remain. No
per-stream state is needed to pass a frame on. What should go to a neighbour
that cannot be reached goes around it (:mod:`relaymesh.node.repair`).
"""

from __future__ import annotations

from collections import Counter

from relaymesh.node.hitless import WayTable
from relaymesh.node.relay import RelayPort
from relaymesh.node.repair import LocalRepair, Part
from relaymesh.node.streams import Encoding, MediaClock, Stream, StreamTable, Track
from relaymesh.node.tables import ForwardingTables
from relaymesh.protocol import frames
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import HOP_LIMIT, ClockFrame, KeyframeRequest, MediaFrame
from relaymesh.protocol.ids import TrackId

# Not a CLOCK, which says what time it is, nor a DETOUR, whose hops are strict: nothing is repaired twice.
_SALVAGED = frozenset((frames.MEDIA, frames.KEYFRAME_REQUEST))


class Forwarder:
    """Moves frames between publishers, players and links by the tables held."""

    def __init__(
        self, streams: StreamTable, tables: ForwardingTables, repair: LocalRepair, relay: RelayPort
    ) -> None:
        self._streams = streams
        self._tables = tables
        self._repair = repair
        self._relay = relay
        self.ways = WayTable()
        self.own_index: int | None = None
        self.forwarded = 0  # frames passed on in transit
        self.originated = 0  # frames sent into the mesh from here, one for each next hop
        self.detoured = 0  # frames sent around a neighbour from here
        self.salvaged = 0  # … again, since their link died before they were acknowledged
        self.second_copies = 0  # of hitless tracks, sent from here
        self.merged = 0  # packets sent by two ways, that both came here
        self.delivered = 0  # media frames taken here from links
        self.dropped: Counter[str] = Counter()

    # --- from a publisher here -----------------------------------------------------------------

    def originate(self, stream: Stream, frame: MediaFrame, now: float) -> None:
        """A media frame of a local publisher: to its takers here, and into the mesh."""
        track = stream.tracks.get(frame.track_id.track)
        if track is None or not track.main.deliver(frame, now):
            return
        if stream.edges:
            frame.generation = self._tables.active
            try:
                if track.info.hitless:
                    self._send_twice(frame, stream.edges, now)
                else:
                    self._send_media(frame, self._split(stream.edges, frame.generation), now)
            except ProtocolError as error:
                self.dropped[error.reason] += 1

    def _send_media(self, frame: MediaFrame, parts: list[Part], now: float) -> None:
        for hop, part, hops in parts:
            frame.destinations = part
            self._send(hop, frames.detour(frames.encode_media(frame), hops), now)
            self.originated += 1

    def _send_twice(self, frame: MediaFrame, edges: int, now: float) -> None:
        """A packet of a hitless track: its first copies, then the second ones, which keep apart from them."""
        tabled, firsts, seconds = self.ways.split(edges, frame.generation)
        self._send_media(frame, self._split(tabled, frame.generation) + firsts, now)
        frame.copy = True
        try:
            self._send_media(frame, seconds, now)
        finally:
            frame.copy = False  # it is kept, for takers here
        self.second_copies += len(seconds)

    def originate_clock(self, stream: Stream, track: Track, clock: MediaClock, now: float) -> None:
        """A sender report of a local publisher, for the edges' own reports."""
        generation = self._tables.active
        for hop, part, hops in self._split(stream.edges, generation):
            frame = ClockFrame(track.id, 0, clock.ntp, clock.timestamp, HOP_LIMIT, generation, part)
            self._send(hop, frames.detour(frames.encode_clock(frame), hops), now)

    # --- towards a publisher elsewhere ---------------------------------------------------------

    def request_keyframe(self, encoding: Encoding, now: float) -> None:
        """Ask the ingress node of a relayed track for a keyframe."""
        ingress = encoding.track.stream.ingress
        if ingress is None:
            return
        generation = self._tables.active
        for hop, part, hops in self._split(1 << ingress, generation):
            frame = KeyframeRequest(encoding.track.id, encoding.number, HOP_LIMIT, generation, part)
            self._send(hop, frames.detour(frames.encode_keyframe_request(frame), hops), now)

    # --- from a link ---------------------------------------------------------------------------

    def handle_frame(self, peer: int, kind: int, body: bytes, now: float) -> None:
        """A routed frame of the neighbour *peer*; what does not decode is counted and dropped."""
        try:
            route = frames.read_route(body)
            if kind == frames.DETOUR:
                self._follow(peer, body, route, now)
                return
            own = 1 << self.own_index if self.own_index is not None else 0
            beyond = route.destinations & ~own
            if beyond:
                self._pass_on(peer, kind, body, route, beyond, now)
            if route.destinations & own:
                self._take(kind, body, now)
        except ProtocolError as error:
            self.dropped[error.reason] += 1

    def _pass_on(
        self, peer: int, kind: int, body: bytes, route: frames.Route, beyond: int, now: float
    ) -> None:
        if route.hop_limit <= 1:
            self.dropped["hop_limit"] += 1
            return
        for hop, part, hops in self._split(beyond, route.generation):
            if hop == peer and not hops:
                # Tables that disagree; sending it back would only spend hops.
                self.dropped["reflected"] += 1
                continue
            self._send(hop, frames.detour(frames.reroute(kind, body, route, part), hops), now)
            self.forwarded += 1

    def salvage(self, peer: int, now: float) -> None:
        """The link to *peer* went down: what it swallowed goes around at once.

        What had arrived all the same arrives twice, and edges take it once. Without a way around it
        stays with the link, which sends it again should it come back in time.
        """
        if not self._tables.detours(peer, self._tables.active):
            return
        for source in self._relay.take_unacknowledged(peer):
            try:
                for kind, body in frames.split_frames(source):
                    if kind in _SALVAGED:
                        self._send_around(peer, kind, body, now)
            except ProtocolError as error:
                self.dropped[error.reason] += 1

    def _send_around(self, peer: int, kind: int, body: bytes, now: float) -> None:
        route = frames.read_route(body)
        for hop, part, hops in self._repair.ways(peer, route.destinations, route.generation):
            if hop != peer:
                frame = frames.readdress(kind, body, route, part)
                if kind == frames.MEDIA:
                    frame = frames.as_copy(frame)
                self._send(hop, frames.detour(frame, hops), now)
                self.salvaged += 1

    def _follow(self, peer: int, body: bytes, route: frames.Route, now: float) -> None:
        """A frame on a detour: only its list of hops counts, and what links seem to be does not."""
        if route.hop_limit <= 1:
            self.dropped["hop_limit"] += 1
            return
        hop, frame = frames.follow_detour(body, route)
        if hop == peer:
            self.dropped["reflected"] += 1
            return
        self._send(hop, frame, now)
        self.forwarded += 1

    def _take(self, kind: int, body: bytes, now: float) -> None:
        if kind == frames.MEDIA:
            frame = frames.decode_media(body)
            encoding = self._encoding(frame.track_id, frame.encoding)
            if encoding is not None and encoding.track.stream.source == "relay":
                frame.sequence = encoding.extender.extend(frame.sequence)
                merged = encoding.merged
                if encoding.deliver(frame, now):
                    self.delivered += 1
                self.merged += encoding.merged - merged
                return
        elif kind == frames.CLOCK:
            clock = frames.decode_clock(body)
            encoding = self._encoding(clock.track_id, clock.encoding)
            if encoding is not None and encoding.track.stream.source == "relay":
                encoding.clock = MediaClock(clock.ntp, clock.timestamp, now)
                return
        elif kind == frames.SKIP:
            skip = frames.decode_skip(body)
            encoding = self._encoding(skip.track_id, skip.encoding)
            if encoding is not None and encoding.track.stream.source == "relay":
                encoding.skip(encoding.extender.extend(skip.first), skip.packets, skip.pictures)
                return
        elif kind == frames.KEYFRAME_REQUEST:
            request = frames.decode_keyframe_request(body)
            encoding = self._encoding(request.track_id, request.encoding)
            if encoding is not None and encoding.track.stream.source == "local":
                if encoding.track.is_video:  # a wish for audio would never be seen fulfilled
                    encoding.keyframe_wish.ask(now)
                return
        self.dropped["unwanted"] += 1

    def _encoding(self, key: TrackId, number: int) -> Encoding | None:
        track = self._streams.track(key)
        return track.encodings.get(number) if track is not None else None

    def _split(self, destinations: int, generation: int) -> list[Part]:
        """(next hop, its destinations, hops it must go by after that), around what is out of reach."""
        parts, unrouted = self._tables.split(destinations, generation)
        if unrouted:
            self.dropped["no_route"] += 1
        if not self._repair.active:
            return [(hop, part, ()) for hop, part in parts]
        found: list[Part] = []
        for hop, part in parts:
            ways = self._repair.ways(hop, part, generation)
            self.detoured += sum(way[0] != hop for way in ways)
            found += ways
        return found

    def _send(self, hop: int, frame: bytes, now: float) -> None:
        if not self._relay.send(hop, frame, now):
            self.dropped["no_link"] += 1

    def debug_state(self) -> dict[str, object]:
        return {
            "forwarded": self.forwarded,
            "originated": self.originated,
            "detoured": self.detoured,
            "salvaged": self.salvaged,
            "second_copies": self.second_copies,
            "merged": self.merged,
            "ways": self.ways.debug_state(),
            "delivered": self.delivered,
            "dropped": dict(self.dropped),
        }
