"""Several node cores on an emulated network in virtual time, with the controller's part played by hand."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Any

from relaymesh.node.core import NodeCore
from relaymesh.node.encodings import Encoding
from relaymesh.node.events import CoreEvent
from relaymesh.node.hitless import Hitless
from relaymesh.node.offers import MediaEndpoint, Negotiator
from relaymesh.node.publications import LocalPublication, Publication, RemotePublication, Track
from relaymesh.node.selector import TOP
from relaymesh.protocol import frames
from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.frames import HOP_LIMIT, DemandFrame, MediaFrame, Wish
from relaymesh.protocol.messages import (
    Activate,
    Address,
    Forward,
    LinkConfig,
    Links,
    NodeMessage,
    ParticipantName,
    PublicationInfo,
    Route,
    Snapshot,
    TrackInfo,
    Welcome,
)
from relaymesh.webrtc.certificate import Certificate

CERTIFICATE = Certificate.generate(1_700_000_000)
VIDEO = TrackInfo(7, "video", "VP8", 90_000)
AUDIO = TrackInfo(8, "audio", "opus", 48_000, 2)
NAME = ParticipantName("room", "alice")
STANDING = 1 << 31  # serial of a demand that any demand of the edge itself is newer than


def make_core(
    seed: int = 1, *, max_sessions: int = 100, now: float = 0.0, hitless: Hitless = "audio"
) -> NodeCore:
    rng = random.Random(seed)
    endpoint = MediaEndpoint("192.0.2.1", 7600, CERTIFICATE, f"n{seed}")
    return NodeCore(
        negotiator=Negotiator(endpoint, rng, rng.randbytes),
        max_sessions=max_sessions,
        rng=rng,
        now=now,
        hitless=hitless,
    )


def demand_for(
    publication: Publication, edge: int, wishes: tuple[Wish, ...] | None = None, *, serial: int = 1
) -> DemandFrame:
    """A DEMAND frame of *edge*, for everything of *publication* unless *wishes* say less."""
    if wishes is None:
        wishes = tuple(Wish(e.track.number, e.number, TOP, TOP) for e in publication.encodings())
    return DemandFrame(publication.id, edge, serial, wishes, HOP_LIMIT, 1, 1)


def video_of(publication: Publication) -> Track:
    """Its first video track."""
    return next(track for track in publication.tracks.values() if track.is_video)


def relay_address(index: int) -> tuple[str, int]:
    return (f"10.0.0.{index}", 7500)


def count_frames(core: NodeCore, by: Any, sent: Counter[tuple[Any, int, int]]) -> None:
    """Count in *sent* what *core* sends its neighbours, as (by, to, type); a detour as what is inside it."""
    send = core.relay.send

    def counted(peer: int, frame: bytes, now: float) -> bool:
        kind, inner = frame[0], frame
        while kind == frames.DETOUR:
            inner = frames.follow_detour(inner, frames.read_route(inner, 3))[1]
            kind = inner[0]
        sent[by, peer, kind] += 1
        return send(peer, frame, now)

    core.relay.send = counted  # type: ignore[method-assign]


@dataclass
class Mesh:
    """Nodes 1..n, every link with the same delay and loss unless said otherwise in ``loss`` or ``cut``."""

    size: int
    edges: list[tuple[int, int]]
    seed: int = 1
    delay: float = 0.01
    loss: float = 0.0
    now: float = 0.0
    cores: dict[int, NodeCore] = field(default_factory=dict)
    messages: dict[int, list[NodeMessage]] = field(default_factory=dict)
    events: dict[int, list[CoreEvent]] = field(default_factory=dict)
    cut: set[tuple[int, int]] = field(default_factory=set)
    sent: Counter[tuple[int, int, int]] = field(default_factory=Counter)  # frames, by (from, to, type)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()
        for index in range(1, self.size + 1):
            core = self.cores[index] = make_core(index)
            count_frames(core, index, self.sent)
            self.messages[index], self.events[index] = [], []
            core.handle_message(Welcome(index, 100.0, 600.0, 1000.0), self.now)
        for a, b in self.edges:
            forth, back = self._rng.randbytes(16), self._rng.randbytes(16)
            for own, peer, send, receive in ((a, b, forth, back), (b, a, back, forth)):
                config = LinkConfig(peer, f"n{peer}", Address(*relay_address(peer)), 0, send, receive)
                self.cores[own].handle_message(Links(set=(config,)), self.now)

    def media(self, sender: int | None = None, receiver: int | None = None) -> int:
        """MEDIA frames sent so far: by one node, to one node, or by all."""
        return sum(
            count
            for (by, to, kind), count in self.sent.items()
            if kind == frames.MEDIA and sender in (None, by) and receiver in (None, to)
        )

    def quiet(self) -> None:
        """Let what is under way arrive; no LAYERS are said from now on, and what was dropped is forgotten."""
        for core in self.cores.values():
            for publication in core.publications.local():
                publication.layers_due = inf
        self.run(0.5)
        for core in self.cores.values():
            core.forwarder.dropped.clear()

    def routes(
        self, generation: int, tables: dict[int, dict[int, set[int]]], *, activate: bool = True
    ) -> None:
        """tables: node → next hop → destinations."""
        for index, table in tables.items():
            routes = tuple(
                Route(hop, encode_set(sum(1 << d for d in destinations)))
                for hop, destinations in table.items()
            )
            self.cores[index].handle_message(Snapshot(generation, routes), self.now)
        if activate:
            for index in tables:
                self.cores[index].handle_message(Activate(generation), self.now)

    def publish(
        self,
        at: int,
        *edges: int,
        tracks: tuple[TrackInfo, ...] = (VIDEO, AUDIO),
        demand: bool = True,
    ) -> LocalPublication:
        """A publication that enters at one node and may be played at others.

        With *demand* they want everything for good, whether anybody takes it there or not, until they
        say themselves what they want.
        """
        core = self.cores[at]
        publication = LocalPublication(NAME)
        publication.set_tracks(tracks)
        core.publications.add(publication)
        if demand:
            numbers = {number: track.encodings for number, track in publication.tracks.items()}
            for edge in edges:
                frame = demand_for(publication, edge, serial=STANDING)
                assert publication.demand.handle(frame, numbers, inf) == [], "not admitted yet"
        self.admit(at, *edges)
        return publication

    def admit(self, at: int, *edges: int) -> None:
        """The controller names the edges that may play it."""
        self.cores[at].handle_message(Forward(NAME, encode_set(sum(1 << e for e in edges))), self.now)

    def hold(
        self, at: int, ingress: int, tracks: tuple[TrackInfo, ...] = (VIDEO, AUDIO)
    ) -> RemotePublication:
        """The publication as an edge holds it after its subscription was answered."""
        core = self.cores[at]
        core.directory.hold_remote(PublicationInfo(NAME.room, NAME.participant, tracks), ingress, self.now)
        publication = core.publications.get(NAME)
        assert isinstance(publication, RemotePublication)
        return publication

    def listen(self, at: int, ingress: int, track: TrackInfo = VIDEO, number: int = 0) -> Recorder:
        """Hold it at an edge and take one encoding there; the demand is said with the next timeout."""
        taker = Recorder()
        publication = self.hold(at, ingress)
        publication.tracks[track.track].encodings[number].add_taker(taker)
        return taker

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(1_000_000):
            self._drain()
            timeouts = [t for core in self.cores.values() if (t := core.next_timeout()) is not None]
            if self._queue:
                timeouts.append(self._queue[0][0])
            at = max(self.now, min(timeouts))
            if at > end:
                self.now = end
                return
            self.now = at
            while self._queue and self._queue[0][0] <= self.now:
                _, _, to, data = heapq.heappop(self._queue)
                self.cores[to].handle_relay_datagram(data, self.now)
            for core in self.cores.values():
                timeout = core.next_timeout()
                if timeout is not None and timeout <= self.now:
                    core.handle_timeout(self.now)
        raise AssertionError("the mesh never came to rest")

    def _drain(self) -> None:
        for index, core in self.cores.items():
            self.messages[index] += core.poll_messages()
            self.events[index] += core.poll_events()
            for data, address in core.poll_relay_datagrams():
                to = int(address[0].rsplit(".", 1)[1])
                if (index, to) in self.cut or self._rng.random() < self.loss:
                    continue
                heapq.heappush(self._queue, (self.now + self.delay, next(self._order), to, data))


class Recorder:
    """A taker that remembers."""

    def __init__(self, spatial: int = TOP, temporal: int = TOP) -> None:
        self.frames: list[MediaFrame] = []
        self.skips: list[tuple[int, int, int]] = []  # (first, packets, pictures)
        self.wanted_layers = spatial, temporal

    def take(self, frame: MediaFrame, now: float) -> None:
        self.frames.append(frame)

    def skip(self, encoding: Encoding, first: int, packets: int, pictures: int) -> None:
        self.skips.append((first, packets, pictures))

    def collected(self, encoding: Encoding, now: float) -> None:
        self.frames += encoding.since_keyframe.frames()


def video_frame(
    publication: Publication,
    sequence: int,
    *,
    keyframe: bool = False,
    payload: bytes = b"\x10\0\0",
    encoding: int = 0,
    spatial: int = 0,
    temporal: int = 0,
    entry: bool = False,
    timestamp: int | None = None,
    marker: bool = True,
    layer_start: bool = True,
    layer_end: bool = True,
) -> MediaFrame:
    """A packet of the first video track; its timestamp follows its number unless given."""
    return MediaFrame(
        video_of(publication).id,
        encoding,
        sequence,
        (sequence * 3000 if timestamp is None else timestamp) & 0xFFFFFFFF,
        payload,
        keyframe=keyframe,
        marker=marker,
        hop_limit=HOP_LIMIT,
        spatial=spatial,
        temporal=temporal,
        entry=entry,
        layer_start=layer_start,
        layer_end=layer_end,
    )
