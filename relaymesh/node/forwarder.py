"""The packet path of the mesh, in one place: who gets a frame, here and beyond.

A frame from a local publisher goes to its takers at this node and, once for
each next hop, towards the edges whose demand covers its encoding and layer. A frame
from a link is taken by this node if its own bit is set, and passed on for the bits
that remain. No per-track state is needed to pass a frame on. What should go to a neighbour
that cannot be reached goes around it (:mod:`relaymesh.node.repair`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from msgspec import structs

from relaymesh.node.demand import EncodingKey
from relaymesh.node.encodings import Encoding, MediaClock
from relaymesh.node.hitless import WayTable
from relaymesh.node.publications import LocalPublication, PublicationTable, RemotePublication, Track
from relaymesh.node.relay import RelayPort
from relaymesh.node.repair import LocalRepair
from relaymesh.node.tables import ForwardingTables, Part
from relaymesh.protocol import frames
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import (
    EXTENSION_REPLAY,
    HOP_LIMIT,
    ClockFrame,
    DemandFrame,
    KeyframeRequest,
    LayersFrame,
    MediaFrame,
    SkipFrame,
)
from relaymesh.protocol.ids import TrackId

# Not a CLOCK, which says what time it is, nor a DETOUR, whose hops are strict: nothing is repaired twice.
_SALVAGED = frozenset((frames.MEDIA, frames.KEYFRAME_REQUEST, frames.DEMAND))
MAX_HELD_BACK = 4096  # encodings with a picture that is just left out for some edges
BEGIN_BYTES = 12_000  # a player of whose path nothing is known begins with so much at once
REPLAY_BYTES = 1_500_000  # more is not sent to a new edge at once: it gets the next keyframe
REPLAY_LAST, REPLAY_IGNORED = 1, 2  # the last packet of a burst; the publisher answers no request
_REORDERED = 64  # serials so little behind the newest come late, or twice


@dataclass(slots=True)
class _HeldBack:
    """Packets of one encoding that some edges do not want."""

    edges: int
    first: int  # extended sequence number
    packets: int = 0
    pictures: int = 0


class Forwarder:
    """Moves frames between publishers, players and links by the tables held."""

    def __init__(
        self, publications: PublicationTable, tables: ForwardingTables, repair: LocalRepair, relay: RelayPort
    ) -> None:
        self._publications = publications
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
        self.replayed = 0  # bursts since a keyframe, for edges whose demand was new
        self.changed_tracks: dict[Track, None] = {}  # of which LAYERS told something, until they are taken
        self._held_back: dict[Encoding, _HeldBack] = {}
        self.dropped: Counter[str] = Counter()

    # --- from a publisher here -----------------------------------------------------------------

    def originate(self, track: Track, frame: MediaFrame, now: float) -> None:
        """A media frame of a local publisher: to its takers here, and into the mesh."""
        publication = track.publication
        assert isinstance(publication, LocalPublication), "only what enters here is originated here"
        encoding = track.encodings.get(frame.encoding)
        if encoding is None or track.muted or not encoding.deliver(frame, now):
            return
        demand = publication.demand
        edges = demand.edges(track.number, frame.encoding, frame.spatial, frame.temporal)
        left_out = demand.audience(track.number, frame.encoding) & ~edges
        try:
            held = self._held_back.get(encoding)
            if held is not None and (left_out != held.edges or frame.sequence != held.first + held.packets):
                self._tell_skip(encoding, now)  # before what closes up to it
            if edges:
                frame.generation = self._tables.active
                if track.info.hitless:
                    self._send_twice(frame, edges, now)
                else:
                    self._send_media(frame, self._split(edges, frame.generation), now)
            if left_out:
                self._hold_back(encoding, frame, left_out, now)
        except ProtocolError as error:
            self.dropped[error.reason] += 1

    def _send_media(self, frame: MediaFrame, parts: list[Part], now: float) -> None:
        if frame.sequence >> 32:  # extended here, 32 bits on the wire; the far edge extends it again
            frame = structs.replace(frame, sequence=frame.sequence & 0xFFFFFFFF)
        encoded = b""
        for hop, part, hops in parts:
            if encoded:  # for all hops the same but for the header
                encoded = frames.readdress(encoded, frames.read_route(encoded, frames.HEAD_BYTES), part)
            else:
                frame.destinations = part
                encoded = frames.encode_media(frame)
            self._send(hop, frames.detour(encoded, hops), now)
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

    def _hold_back(self, encoding: Encoding, frame: MediaFrame, edges: int, now: float) -> None:
        """*edges* want this encoding but not this layer: tell them, once a picture, that none is missing."""
        held = self._held_back.get(encoding)
        if held is None:
            if len(self._held_back) >= MAX_HELD_BACK:
                self._tell_skip(next(iter(self._held_back)), now)
            held = self._held_back[encoding] = _HeldBack(edges, frame.sequence)
        ends = frame.layer_end or frame.marker
        held.packets += 1
        held.pictures += ends and frame.spatial == 0
        if ends or held.packets == 255:
            self._tell_skip(encoding, now)

    def _tell_skip(self, encoding: Encoding, now: float) -> None:
        held = self._held_back.pop(encoding)
        generation = self._tables.active
        for hop, part, hops in self._split(held.edges, generation):
            frame = SkipFrame(
                encoding.track.id,
                encoding.number,
                held.first & 0xFFFFFFFF,
                held.packets,
                held.pictures,
                HOP_LIMIT,
                generation,
                part,
            )
            self._send(hop, frames.detour(frames.encode_skip(frame), hops), now)

    def replay(self, edge: int, encoding: Encoding, now: float) -> bool:
        """Send *edge*, whose demand is new, what is kept since the last keyframe; ``False``: nothing is."""
        kept = encoding.since_keyframe.frames()
        if not kept or encoding.since_keyframe.size_bytes > REPLAY_BYTES:
            return False
        generation = self._tables.active
        try:
            for frame in kept:
                # A copy: the edge may have had demand before, and some of these. Marked as kept ones,
                # so that the edge collects them and begins with all of them at once.
                flags = REPLAY_IGNORED if encoding.keyframe_wish.is_ignored(now) else 0
                flags |= REPLAY_LAST if frame is kept[-1] else 0
                mark = (EXTENSION_REPLAY, bytes((flags,)))
                again = structs.replace(
                    frame, generation=generation, copy=True, extensions=(*frame.extensions, mark)
                )
                self._send_media(again, self._split(1 << edge, generation), now)
        except ProtocolError as error:
            self.dropped[error.reason] += 1
        self.replayed += 1
        return True

    def originate_clock(self, encoding: Encoding, edges: int, now: float) -> None:
        """The newest sender report of a local publisher's encoding, for the edges' own reports."""
        clock = encoding.clock
        if clock is None or not edges:
            return
        generation = self._tables.active
        for hop, part, hops in self._split(edges, generation):
            frame = ClockFrame(
                encoding.track.id, encoding.number, clock.ntp, clock.timestamp, HOP_LIMIT, generation, part
            )
            self._send(hop, frames.detour(frames.encode_clock(frame), hops), now)

    def originate_layers(self, track: Track, serial: int, edges: int, now: float) -> None:
        """Tell *edges* which encodings of a local publisher's track are live, and their layers' rates."""
        if not edges:
            return
        generation = self._tables.active
        told = tuple(track.layers.values())
        try:
            for hop, part, hops in self._split(edges, generation):
                frame = LayersFrame(track.id, serial, track.muted, told, HOP_LIMIT, generation, part)
                self._send(hop, frames.detour(frames.encode_layers(frame), hops), now)
        except ProtocolError as error:
            self.dropped[error.reason] += 1

    # --- towards a publisher elsewhere ---------------------------------------------------------

    def request_keyframe(self, encoding: Encoding, now: float) -> None:
        """Ask the ingress node of a relayed track for a keyframe."""
        publication = encoding.track.publication
        if not isinstance(publication, RemotePublication):
            return
        generation = self._tables.active
        for hop, part, hops in self._split(1 << publication.ingress, generation):
            frame = KeyframeRequest(encoding.track.id, encoding.number, HOP_LIMIT, generation, part)
            self._send(hop, frames.detour(frames.encode_keyframe_request(frame), hops), now)

    def demand(self, publication: RemotePublication, now: float) -> None:
        """Tell the ingress node what is wanted here, if that must be said now."""
        if self.own_index is None:
            return
        said = publication.wishes.poll(publication.wanted(), now)
        if said is None:
            return
        generation = self._tables.active
        for hop, part, hops in self._split(1 << publication.ingress, generation):
            frame = DemandFrame(publication.id, self.own_index, *said, HOP_LIMIT, generation, part)
            self._send(hop, frames.detour(frames.encode_demand(frame), hops), now)

    # --- from a link ---------------------------------------------------------------------------

    def handle_frame(self, peer: int, frame: bytes, now: float) -> None:
        """A whole routed *frame* of the neighbour *peer*; what does not decode is counted and dropped."""
        try:
            route = frames.read_route(frame, frames.HEAD_BYTES)
            if frame[0] == frames.DETOUR:
                self._follow(peer, frame, route, now)
                return
            destinations = route[2]
            own = destinations & (1 << self.own_index) if self.own_index is not None else 0
            if own != destinations:
                self._pass_on(peer, frame, route, destinations & ~own, now)
            if own:
                self._take(frame, now)
        except ProtocolError as error:
            self.dropped[error.reason] += 1

    def _pass_on(self, peer: int, frame: bytes, route: frames.Route, beyond: int, now: float) -> None:
        hop_limit, generation, _, _ = route
        if hop_limit <= 1:
            self.dropped["hop_limit"] += 1
            return
        for hop, part, hops in self._split(beyond, generation):
            if hop == peer and not hops:
                # Tables that disagree; sending it back would only spend hops.
                self.dropped["reflected"] += 1
                continue
            onward = frames.reroute(frame, route, part)
            if hops:
                onward = frames.detour(onward, hops)
            self._send(hop, onward, now)
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
                for frame in frames.split_frames(source):
                    if frame[0] in _SALVAGED:
                        self._send_around(peer, frame, now)
            except ProtocolError as error:
                self.dropped[error.reason] += 1

    def _send_around(self, peer: int, frame: bytes, now: float) -> None:
        route = frames.read_route(frame, frames.HEAD_BYTES)
        _, generation, destinations, _ = route
        for hop, part, hops in self._repair.ways(peer, destinations, generation):
            if hop != peer:
                around = frames.readdress(frame, route, part)
                if frame[0] == frames.MEDIA:
                    around = frames.as_copy(around)
                self._send(hop, frames.detour(around, hops), now)
                self.salvaged += 1

    def _follow(self, peer: int, frame: bytes, route: frames.Route, now: float) -> None:
        """A frame on a detour: only its list of hops counts, and what links seem to be does not."""
        if route[0] <= 1:
            self.dropped["hop_limit"] += 1
            return
        hop, frame = frames.follow_detour(frame, route)
        if hop == peer:
            self.dropped["reflected"] += 1
            return
        self._send(hop, frame, now)
        self.forwarded += 1

    def _take(self, frame: bytes, now: float) -> None:
        taker = self._TAKERS.get(frame[0])
        if taker is None or not taker(self, frame, now):
            self.dropped["unwanted"] += 1

    def _take_media(self, whole: bytes, now: float) -> bool:
        frame = frames.decode_media(whole, frames.HEAD_BYTES)
        encoding = self._remote_encoding(frame.track_id, frame.encoding)
        if encoding is None:
            return False
        frame.sequence = encoding.extender.extend(frame.sequence)
        merged = encoding.merged
        if frame.extensions and frame.extensions[-1][0] == EXTENSION_REPLAY:
            flags = frame.extensions[-1][1][0]
            frame.extensions = frame.extensions[:-1]
            if flags & REPLAY_IGNORED:
                encoding.keyframe_wish.note_ignored()
            encoding.collect(frame, bool(flags & REPLAY_LAST), now)
        elif encoding.deliver(frame, now):
            self.delivered += 1
        self.merged += encoding.merged - merged
        return True

    def _take_clock(self, whole: bytes, now: float) -> bool:
        clock = frames.decode_clock(whole[frames.HEAD_BYTES :])
        encoding = self._remote_encoding(clock.track_id, clock.encoding)
        if encoding is None:
            return False
        encoding.clock = MediaClock(clock.ntp, clock.timestamp, now)
        return True

    def _take_skip(self, whole: bytes, now: float) -> bool:
        skip = frames.decode_skip(whole[frames.HEAD_BYTES :])
        encoding = self._remote_encoding(skip.track_id, skip.encoding)
        if encoding is None:
            return False
        encoding.skip(encoding.extender.extend(skip.first), skip.packets, skip.pictures, now)
        if skip.keyframe and encoding.takers:
            encoding.keyframe_wish.ask(now)
        return True

    def _take_layers(self, whole: bytes, now: float) -> bool:
        told = frames.decode_layers(whole[frames.HEAD_BYTES :])
        track = self._publications.track(told.track_id)
        if track is None or not track.is_remote:
            return False
        if track.layers_serial is not None and (track.layers_serial - told.serial) & 0xFFFFFFFF < _REORDERED:
            return True  # late, or repeated
        track.layers_serial = told.serial
        layers = {layers.number: layers for layers in told.encodings if layers.number in track.encodings}
        if (layers, told.muted) != (track.layers, track.muted):
            track.layers, track.muted = layers, told.muted
            self.changed_tracks[track] = None
        return True

    def _take_keyframe_request(self, whole: bytes, now: float) -> bool:
        request = frames.decode_keyframe_request(whole[frames.HEAD_BYTES :])
        return self._publications.want_keyframe(request.track_id, request.encoding, now)

    def _take_demand(self, whole: bytes, now: float) -> bool:
        frame = frames.decode_demand(whole[frames.HEAD_BYTES :])
        publication = self._publications.by_id(frame.participant_id)
        if not isinstance(publication, LocalPublication):
            return False
        tracks = {number: track.encodings for number, track in publication.tracks.items()}
        new = publication.demand.handle(frame, tracks, now)
        if new is None:
            return False
        self.serve(publication, new, now)
        return True

    _TAKERS: ClassVar[dict[int, Callable[[Forwarder, bytes, float], bool]]] = {
        frames.MEDIA: _take_media,
        frames.CLOCK: _take_clock,
        frames.SKIP: _take_skip,
        frames.LAYERS: _take_layers,
        frames.KEYFRAME_REQUEST: _take_keyframe_request,
        frames.DEMAND: _take_demand,
    }

    def serve(
        self, publication: LocalPublication, wanted: Iterable[tuple[int, EncodingKey]], now: float
    ) -> None:
        """Give edges what they want as of now: the clock, and a picture to begin with.

        An edge that has a picture of the track already switches with a keyframe of its own; what is kept
        would show it the past once more. But where none is to be had, an edge that has dearer encodings only
        is sent what is kept of a cheaper one: its path carries those no longer, so the picture stands still.
        """
        demand = publication.demand
        for edge, (number, encoding_number) in wanted:
            track = publication.tracks.get(number)
            encoding = track.encodings.get(encoding_number) if track is not None else None
            if track is None or encoding is None:
                continue
            self.originate_clock(encoding, 1 << edge, now)
            if not track.is_video:
                continue
            ranked = track.ranked()
            taken = [demand.audience(number, one.number) >> edge & 1 for one in ranked]
            place = ranked.index(encoding)
            has_cheaper, has_dearer = any(taken[:place]), any(taken[place + 1 :])
            kept_bytes, ignored = encoding.since_keyframe.size_bytes, encoding.keyframe_wish.is_ignored(now)
            begins = not has_cheaper and (ignored or not has_dearer)
            replayed = begins and self.replay(edge, encoding, now)
            # More than a player begins with is sent in case nobody answers; a keyframe is asked for beside,
            # of a publisher that did not answer too: it may have been late once.
            if not replayed or kept_bytes > BEGIN_BYTES:
                encoding.keyframe_wish.ask(now)

    def take_changed_tracks(self) -> list[Track]:
        """Tracks of which LAYERS told something since the last call."""
        changed, self.changed_tracks = list(self.changed_tracks), {}
        return changed

    def _remote_encoding(self, key: TrackId, number: int) -> Encoding | None:
        track = self._publications.track(key)
        return track.encodings.get(number) if track is not None and track.is_remote else None

    def _split(self, destinations: int, generation: int) -> list[Part]:
        """(next hop, its destinations, hops it must go by after that), around what is out of reach."""
        parts, unrouted = self._tables.split(destinations, generation)
        if unrouted:
            self.dropped["no_route"] += 1
        if not self._repair.active:
            return parts
        found: list[Part] = []
        for hop, part, _ in parts:
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
            "replayed": self.replayed,
            "second_copies": self.second_copies,
            "merged": self.merged,
            "ways": self.ways.debug_state(),
            "delivered": self.delivered,
            "dropped": dict(self.dropped),
        }
