"""RTP packets as long as an Ethernet frame carries cross the mesh: each once, byte for byte.

GStreamer's default MTU of 1400, FFmpeg's of 1472, and cameras make payloads of up to 1460 bytes; with the
headers of the mesh they fit no relay datagram, and travel in two fragments (ADR 0021).
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relaymesh.node.core import NodeCore
from relaymesh.protocol.bitstring import encode_set, set_of
from relaymesh.protocol.messages import Forward, HitlessWays, ParticipantName, SubscribeReply, TrackInfo, Way
from relaymesh.topology import load_topology
from relaymesh.webrtc.rtcp import build_nack
from relaymesh.webrtc.rtp import rtx_unwrap
from relaymesh.webrtc.twcc import TwccReceiver
from tests.node.browser import Browser, exchange, offer_text
from tests.node.mesh import NAME, Mesh, Recorder, video_frame, video_of
from tests.whole_mesh import WholeMesh

SQUARE = Path(__file__).parent.parent / "topologies" / "square.yaml"
TRANSPORT_NUMBER = 3  # extension id of chromium-whep
ALICE = ParticipantName("demo", "alice")
SIZES = range(1200, 1461)  # bytes of payload
# Three hops in a row.
CHAIN = {1: {2: {2, 3, 4}}, 2: {1: {1}, 3: {3, 4}}, 3: {2: {1, 2}, 4: {4}}, 4: {3: {1, 2, 3}}}


def payload(size: int, *, keyframe: bool = False) -> bytes:
    """VP8 of *size* bytes, another for each size."""
    return (b"\x10\x00\x00" if keyframe else b"\x10\x01\x00") + random.Random(size).randbytes(size - 3)


def chain(loss: float = 0.0) -> Mesh:
    mesh = Mesh(4, [(1, 2), (2, 3), (3, 4)], loss=loss, seed=5)
    mesh.routes(1, CHAIN)
    mesh.run(1.0)
    return mesh


def joined_in(core: NodeCore) -> int:
    """Frames that this node put together of two fragments."""
    neighbours = core.relay.debug_state()["neighbours"]
    assert isinstance(neighbours, dict)
    return sum(link["fragments"]["joined"] for link in neighbours.values())


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_every_size_crosses_three_hops_exactly_once_with_the_same_bytes(loss: float) -> None:
    mesh = chain(loss)
    publication = mesh.publish(1, 4)
    taker = mesh.listen(4, 1)
    sent = [payload(size, keyframe=size == SIZES[0]) for size in SIZES]
    for sequence, data in enumerate(sent):
        frame = video_frame(publication, sequence, keyframe=sequence == 0, payload=data)
        mesh.cores[1].forwarder.originate(video_of(publication), frame, mesh.now)
        mesh.run(0.005)
    mesh.run(1.0)
    assert len(taker.frames) == len(sent)
    assert {frame.sequence: frame.payload for frame in taker.frames} == dict(enumerate(sent))
    for core in mesh.cores.values():
        assert core.forwarder.dropped == {}
    for index in (2, 3, 4):
        assert 100 < joined_in(mesh.cores[index]) < len(sent)


def test_they_go_both_of_two_ways_and_the_second_copies_on_detours() -> None:
    # 1 to 4 by 2 and, told, by 3.
    mesh = Mesh(4, [(1, 2), (2, 4), (1, 3), (3, 4)])
    mesh.routes(1, {1: {2: {2, 4}, 3: {3}}, 2: {1: {1}, 4: {4}}, 3: {1: {1}, 4: {4}}, 4: {2: {1, 2}, 3: {3}}})
    mesh.run(1.0)
    marked = TrackInfo(7, "video", "VP8", 90_000, hitless=True)
    publication = mesh.publish(1, 4, tracks=(marked,))
    taker = Recorder()
    held = mesh.hold(4, 1, (marked,))
    held.tracks[7].encodings[0].add_taker(taker)
    mesh.cores[1].handle_message(HitlessWays(1, (Way((3, 4), encode_set(set_of([4]))),)), mesh.now)
    mesh.run(0.5)
    for sequence, size in enumerate(SIZES):
        if sequence == 130:
            mesh.cut |= {(2, 4)}
        frame = video_frame(publication, sequence, keyframe=sequence == 0, payload=payload(size))
        mesh.cores[1].forwarder.originate(video_of(publication), frame, mesh.now)
        mesh.run(0.005)
    mesh.run(1.0)
    # What one way swallowed goes around late; each is taken once.
    assert sorted(frame.sequence for frame in taker.frames) == list(range(len(SIZES)))
    assert all(frame.payload == payload(SIZES[frame.sequence]) for frame in taker.frames)
    assert held.tracks[7].encodings[0].duplicates == 0
    assert held.tracks[7].encodings[0].merged > 100


# --- into the mesh and out of it -----------------------------------------------------------------


class Player(Browser):
    """Tells its node what arrives, as Chromium does."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self._arrived, self._told = TwccReceiver(), 0

    def report(self, core: NodeCore, now: float) -> None:
        came = self.rtp + self.padding
        if len(came) == self._told:
            return
        for packet in came:
            self._arrived.record(int.from_bytes(packet.extensions[TRANSPORT_NUMBER], "big"), now)
        self._told = len(came)
        report = self._arrived.feedback(1, came[0].ssrc)
        if report is not None:
            self.send_rtcp(core, now, report)


class Stage:
    """A publisher at the first node of a chain, who answers no request for keyframes; players anywhere."""

    def __init__(self) -> None:
        self.mesh = chain()
        first = self.mesh.cores[1]
        self.camera = Browser()
        session, answer = first.publish(NAME, offer_text("gstreamer-whip-vp8"), ("VP8",), self.mesh.now)
        self.camera.accept(answer)
        self.camera.connect(first, self.mesh.now)
        assert session.publication is not None
        self.publication = session.publication
        first.handle_message(Forward(NAME, encode_set(1 << 4)), self.mesh.now)
        self.mesh.cores[4].handle_message(SubscribeReply(1, self.publication.info(), 1), self.mesh.now)
        video = next(track for track in session.receivers if track.track.is_video)
        self.payload_type, self.ssrc = video.codec.payload_type, video.encodings[0].ssrc
        self.players: list[tuple[NodeCore, Player]] = []
        self.sequence = 0

    def play(self, at: int) -> Player:
        core = self.mesh.cores[at]
        held = core.publications.get(NAME)
        assert held is not None
        player = Player(("198.51.100.2", 6000 + len(self.players)))
        _, answer = core.play(held, offer_text("chromium-whep"), self.mesh.now)
        player.accept(answer)
        player.connect(core, self.mesh.now)
        self.players.append((core, player))
        return player

    def film(self, *sizes: int, every: float = 0.05) -> None:
        for size in sizes:
            assert self.ssrc is not None
            self.camera.send_rtp(
                self.mesh.cores[1],
                self.mesh.now,
                self.sequence,
                payload(size, keyframe=self.sequence == 0),
                payload_type=self.payload_type,
                ssrc=self.ssrc,
            )
            self.sequence += 1
            for _ in range(5):
                self.mesh.run(every / 5)
                for core in self.mesh.cores.values():
                    exchange(core, self.mesh.now, *(player for at, player in self.players if at is core))
                for core, player in self.players:
                    player.report(core, self.mesh.now)


def test_srtp_of_every_size_is_played_at_the_publishers_node_and_three_hops_away() -> None:
    stage = Stage()
    near, far = stage.play(1), stage.play(4)
    stage.mesh.run(0.2)
    sizes = (*SIZES[::3], 1460)
    stage.film(*sizes)
    stage.film(100)
    for player in (near, far):
        assert [packet.payload for packet in player.rtp[: len(sizes)]] == [
            payload(size, keyframe=place == 0) for place, size in enumerate(sizes)
        ]
    assert stage.mesh.cores[1].edge.refused == {}
    # Asked for again it comes as RTX: two bytes more, and more than a datagram of the mesh holds.
    asked = far.rtp[len(sizes) - 1]
    before = len(far.rtp)
    far.send_rtcp(stage.mesh.cores[4], stage.mesh.now, build_nack(1, asked.ssrc, [asked.sequence]))
    exchange(stage.mesh.cores[4], stage.mesh.now, far)
    again = far.rtp[before]
    assert again.ssrc != asked.ssrc
    assert rtx_unwrap(again.payload) == (asked.sequence, payload(1460))


def test_a_late_joiner_begins_with_the_long_packets_that_are_kept() -> None:
    stage = Stage()
    stage.film(1460, 1390, 1420)
    # Nobody there had demand: what is kept is sent again, as long packets with a mark on them.
    far = stage.play(4)
    stage.mesh.run(0.2)
    stage.film(1455)
    sent = [payload(1460, keyframe=True), payload(1390), payload(1420), payload(1455)]
    assert [packet.payload for packet in far.rtp] == sent
    # And the edge keeps them for the next.
    second = stage.play(4)
    stage.film(1301)
    assert [packet.payload for packet in second.rtp] == [*sent, payload(1301)]


@pytest.mark.parametrize("failure", ["link", "node"])
def test_what_a_dead_link_swallowed_of_long_packets_goes_around(failure: str) -> None:
    mesh = WholeMesh(load_topology(SQUARE), seed=3)
    for name in ("a", "t1", "t2", "c"):
        mesh.start_node(name)
    mesh.run(3.0)
    camera = mesh.publish("a", ALICE)
    [session] = mesh.nodes["a"].core.edge.publishers()
    video = next(track for track in session.receivers if track.track.is_video)
    ssrc = video.encodings[0].ssrc
    assert ssrc is not None
    player = mesh.play("c", ALICE)
    assert player is not None
    sent = []
    for sequence in range(20):
        if sequence == 10:
            if failure == "link":
                mesh.cut |= {("t1", "c"), ("c", "t1")}
            else:
                mesh.kill("t1")
        sent.append(payload(1440 + sequence, keyframe=sequence == 0))
        camera.send_rtp(
            mesh.nodes["a"].core,
            mesh.now,
            sequence,
            sent[-1],
            payload_type=video.codec.payload_type,
            ssrc=ssrc,
        )
        mesh.run(0.05)
    mesh.run(0.5)
    assert [packet.payload for packet in player.rtp] == sent
    assert sum(node.core.forwarder.salvaged for node in mesh.nodes.values()) > 0


def test_a_client_datagram_of_fifteen_hundred_bytes_is_taken_and_a_longer_one_is_not() -> None:
    stage = Stage()
    far = stage.play(4)
    stage.mesh.run(0.2)
    longest = 1500 - 12 - 16  # RTP header, and the tag of SRTP
    stage.film(longest)
    assert [packet.payload for packet in far.rtp] == [payload(longest, keyframe=True)]
    stage.film(longest + 1)
    assert stage.mesh.cores[1].edge.refused == {"oversized": 1}
    assert len(far.rtp) == 1
