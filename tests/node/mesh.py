"""Several node cores on an emulated network in virtual time, with the controller's part played by hand."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from relaymesh.node.core import CoreEvent, NodeCore
from relaymesh.node.offers import MediaEndpoint, Negotiator
from relaymesh.node.publications import Stream
from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.frames import HOP_LIMIT, MediaFrame
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


def make_core(seed: int = 1, *, max_sessions: int = 100, now: float = 0.0) -> NodeCore:
    rng = random.Random(seed)
    endpoint = MediaEndpoint("192.0.2.1", 7600, CERTIFICATE, f"n{seed}")
    return NodeCore(
        negotiator=Negotiator(endpoint, rng, rng.randbytes), max_sessions=max_sessions, rng=rng, now=now
    )


def relay_address(index: int) -> tuple[str, int]:
    return (f"10.0.0.{index}", 7500)


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

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()
        for index in range(1, self.size + 1):
            core = self.cores[index] = make_core(index)
            self.messages[index], self.events[index] = [], []
            core.handle_message(Welcome(index, 100.0, 600.0, 1000.0), self.now)
        for a, b in self.edges:
            forth, back = self._rng.randbytes(16), self._rng.randbytes(16)
            for own, peer, send, receive in ((a, b, forth, back), (b, a, back, forth)):
                config = LinkConfig(peer, f"n{peer}", Address(*relay_address(peer)), 0, send, receive)
                self.cores[own].handle_message(Links(set=(config,)), self.now)

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

    def publish(self, at: int, *edges: int) -> Stream:
        """A stream that enters at one node and is wanted at others."""
        core = self.cores[at]
        stream = Stream(NAME, "local", at)
        stream.set_tracks((VIDEO, AUDIO))
        core.streams.add(stream)
        core.handle_message(Forward(NAME, encode_set(sum(1 << e for e in edges))), self.now)
        return stream

    def hold(self, at: int, ingress: int) -> Stream:
        """The stream as an edge holds it after its subscription was answered."""
        core = self.cores[at]
        core._hold_remote(PublicationInfo(NAME.room, NAME.participant, (VIDEO, AUDIO)), ingress, self.now)
        stream = core.streams.get(NAME)
        assert stream is not None
        return stream

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

    def __init__(self) -> None:
        self.frames: list[MediaFrame] = []

    def take(self, frame: MediaFrame, now: float) -> None:
        self.frames.append(frame)

    def skip(self, first: int, packets: int, pictures: int) -> None:
        pass


def video_frame(
    stream: Stream, sequence: int, *, keyframe: bool = False, payload: bytes = b"\x10\0\0"
) -> MediaFrame:
    track = next(t for t in stream.tracks.values() if t.is_video)
    return MediaFrame(
        track.id,
        0,
        sequence,
        sequence * 3000 & 0xFFFFFFFF,
        payload,
        keyframe=keyframe,
        marker=True,
        hop_limit=HOP_LIMIT,
    )
