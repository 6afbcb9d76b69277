"""Who joins late: time to the first complete keyframe, a hundred joins each.

Where the track is carried and where the joiner is the first; of a publisher that ignores PLI and of one that
answers.

Measured from the moment the player's transport is connected to the one at which the last packet of the first
decodable keyframe picture leaves the edge. The figures are those of the plan: p50 ≤ 150 ms and
p99 ≤ 600 ms at an edge that carries the track; one path RTT more where it is the first.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

import pytest

from relaymesh.protocol.messages import ParticipantName
from relaymesh.topology import load_topology
from relaymesh.webrtc.rtcp import PictureLossIndication, ReportBlock, build_receiver_report
from relaymesh.webrtc.rtp import RtpPacket, build_rtp
from relaymesh.webrtc.twcc import TwccReceiver
from tests.whole_mesh import WholeMesh

SQUARE = Path(__file__).parent.parent / "topologies" / "square.yaml"
ALICE = ParticipantName("demo", "alice")
JOINS = 100
GOP = 240  # pictures: 8 s
KEY_PACKETS, DELTA_PACKETS, PACKET_BYTES = 20, 2, 1100  # 20 kB, and about 0.6 Mbit/s
TRANSPORT_NUMBER = 3  # extension id of chromium-whep
PATH_RTT = 0.02  # s; a – t1 – c and back


class Camera:
    """Sends VP8 of 30 pictures a second, a keyframe each 8 s; or only when it is asked, if it *answers*."""

    def __init__(self, mesh: WholeMesh, answers: bool) -> None:
        self.mesh = mesh
        self.answers = answers
        self.answered = 0  # requests
        self.core = mesh.nodes["a"].core
        self.browser = mesh.publish("a", ALICE)
        [session] = self.core.edge.publishers()
        video = next(t for t in session.receivers if t.track.is_video)
        self.payload_type, self.ssrc = video.codec.payload_type, video.encodings[0].ssrc
        self.sequence = self.picture = 0
        self.due = mesh.now

    def film(self, until: float) -> None:
        """What is due until then."""
        while self.due <= until:
            self.mesh.run(self.due - self.mesh.now)
            self._shoot()
            self.due += 1 / 30
        self.mesh.run(until - self.mesh.now)

    def _shoot(self) -> None:
        asked = sum(isinstance(packet, PictureLossIndication) for packet in self.browser.rtcp)
        keyframe = self.picture == 0 or (asked > self.answered if self.answers else self.picture % GOP == 0)
        self.answered = asked
        count = KEY_PACKETS if keyframe else DELTA_PACKETS
        assert self.ssrc is not None
        for place in range(count):
            # X and S; I and M: the picture's number; then VP8's own P bit (RFC 7741 §4.2, §4.3).
            head = bytes(
                (0x90 if place == 0 else 0x80, 0x80, 0x80 | self.picture >> 8 & 0x7F, self.picture & 0xFF)
            )
            body = bytes((0 if keyframe else 1,)) + bytes(PACKET_BYTES)
            packet = build_rtp(
                self.payload_type,
                place == count - 1,
                self.sequence & 0xFFFF,
                self.picture * 3000 & 0xFFFFFFFF,
                self.ssrc,
                head + body,
            )
            self.core.handle_media_datagram(self.browser.protect(packet), self.browser.address, self.mesh.now)
            self.sequence += 1
        self.picture += 1


class Viewer:
    """Joins, reports what arrives as Chromium does, and leaves."""

    def __init__(self, mesh: WholeMesh, camera: Camera, at: str) -> None:
        self.mesh, self.camera, self.at = mesh, camera, at
        self.core = mesh.nodes[at].core

    def join(self) -> float:
        """Seconds until the keyframe is there."""
        browser = self.mesh.play(self.at, ALICE)
        assert browser is not None
        session = list(self.core.edge.players())[-1]
        assert session.connected_at == self.mesh.now
        began, twcc, heard = self.mesh.now, TwccReceiver(), 0
        while not has_keyframe(browser.rtp):
            assert self.mesh.now - began < 10.0, "never a picture"
            self.camera.film(self.mesh.now + 0.005)
            came = browser.rtp + browser.padding
            for packet in came:
                twcc.record(int.from_bytes(packet.extensions[TRANSPORT_NUMBER], "big"), self.mesh.now)
            if heard < len(came) and (report := twcc.feedback(1, came[0].ssrc)) is not None:
                browser.send_rtcp(self.core, self.mesh.now, report)
            heard = len(came)
        took = self.mesh.now - began
        self.core.end_session(session, "it has seen enough", self.mesh.now)
        self.mesh.browsers.remove((self.at, browser))
        return took


def has_keyframe(packets: list[RtpPacket]) -> bool:
    """Whether the first picture is here, whole, and decodable without another one."""
    video = sorted((p for p in packets if len(p.payload) > 100), key=lambda p: p.sequence)
    if not video:
        return False
    first = video[0]
    assert first.payload[0] & 0x10 and not first.payload[4] & 1, "what comes first begins a keyframe"
    picture = [p for p in video if p.timestamp == first.timestamp]
    whole = [p.sequence for p in picture] == [first.sequence + k & 0xFFFF for k in range(len(picture))]
    return whole and picture[-1].marker  # what a link lost may come late


def stage(loss: float = 0.0, *, answers: bool = False) -> tuple[WholeMesh, Camera]:
    mesh = WholeMesh(load_topology(SQUARE), seed=7, loss=loss)
    for name in ("a", "t1", "t2", "c"):
        mesh.start_node(name)
    mesh.run(3.0)
    camera = Camera(mesh, answers)
    camera.film(mesh.now + 1.0)
    return mesh, camera


def joins(mesh: WholeMesh, camera: Camera, at: str) -> Iterator[float]:
    rng = random.Random(3)
    for _ in range(JOINS):
        yield Viewer(mesh, camera, at).join()
        camera.film(mesh.now + rng.uniform(0.2, 0.6))  # all over the 8 s between keyframes


def judge(taken: list[float], rtt: float = 0.0) -> None:
    percentiles = quantiles(taken, n=100, method="inclusive")
    assert percentiles[49] <= 0.150 + rtt, f"p50 {percentiles[49] * 1e3:.0f} ms"
    assert percentiles[98] <= 0.600 + rtt, f"p99 {percentiles[98] * 1e3:.0f} ms"


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("at", ["a", "c"])
def test_a_late_joiner_where_the_track_is_has_a_picture_at_once(at: str, answers: bool) -> None:
    mesh, camera = stage(answers=answers)
    assert mesh.play(at, ALICE) is not None  # stays
    camera.film(mesh.now + 1.0)
    judge(list(joins(mesh, camera, at)))


@pytest.mark.parametrize(("loss", "answers"), [(0.0, False), (0.02, False), (0.0, True), (0.02, True)])
def test_a_late_joiner_who_is_the_first_at_its_edge_waits_for_the_path_besides(
    loss: float, answers: bool
) -> None:
    mesh, camera = stage(loss, answers=answers)
    judge(list(joins(mesh, camera, "c")), PATH_RTT)


@pytest.mark.parametrize(
    ("offer", "reports"),
    [("aiortc-whep", True), ("chromium-whep", True), ("chromium-whep", False)],
)
def test_a_player_that_never_reports_arrivals_is_not_paused_for_ever(offer: str, reports: bool) -> None:
    """As aiortc, which offers REMB and sends none; and others that agree to report arrivals and do not."""
    mesh, camera = stage()
    browser = mesh.play("a", ALICE, offer)
    assert browser is not None
    core = mesh.nodes["a"].core
    [session] = core.edge.players()
    [sender] = (s for s in session.senders.values() if s.is_video)
    assert session.send_side.is_adaptive
    for _ in range(10):
        before = len(browser.rtp)
        camera.film(mesh.now + 1.0)
        assert len(browser.rtp) - before >= 30 * DELTA_PACKETS - 2
        if reports:
            block = ReportBlock(sender.numbers.ssrc, 0, 0, browser.rtp[-1].sequence, 0, 0, 0)
            browser.send_rtcp(core, mesh.now, build_receiver_report(1, [block]))


def test_a_player_that_reports_loss_and_no_arrivals_has_its_video_paused_and_tried_again() -> None:
    mesh, camera = stage()
    browser = mesh.play("a", ALICE)
    assert browser is not None
    core = mesh.nodes["a"].core
    [session] = core.edge.players()
    [sender] = (s for s in session.senders.values() if s.is_video)
    came = []
    for second in range(16):
        before = len(browser.rtp)
        camera.film(mesh.now + 1.0)
        came.append(len(browser.rtp) - before)
        lost = 80 if second < 4 else 0  # of 256
        block = ReportBlock(sender.numbers.ssrc, lost, 0, browser.rtp[-1].sequence, 0, 0, 0)
        browser.send_rtcp(core, mesh.now, build_receiver_report(1, [block]))
    assert came[2:8] == [0] * 6
    assert min(came[-4:]) >= 30 * DELTA_PACKETS - 2
