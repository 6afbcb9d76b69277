"""The synthetic client against a real node core, in virtual time, over a link that loses datagrams."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from relaymesh.netsim.descriptions import Section
from relaymesh.netsim.descriptions import answered_sources as sources_of
from relaymesh.netsim.rtp_client import CONNECT_LIMIT, CONSENT_LIMIT, AnswerError, RtpClient
from relaymesh.node.core import NodeCore
from relaymesh.protocol.messages import ParticipantName
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.rtp import build_rtp, parse_rtp
from relaymesh.webrtc.sdp import parse_offer
from tests.node.mesh import make_core

OWN = Certificate.generate(1_700_000_000)
NAME = ParticipantName("room", "alice")
MEDIA = [Section("audio", 1001), Section("video", 2001, 2002)]


class Wire:
    """One node, clients at addresses, and datagrams that take no time but may be lost."""

    def __init__(self, loss: float = 0.0) -> None:
        self.now = 10.0
        self.core: NodeCore = make_core(1, now=self.now)
        self.clients: dict[tuple[str, int], RtpClient] = {}
        self.loss = loss
        self._rng = Random(5)

    def client(self, port: int) -> RtpClient:
        client = self.clients["198.51.100.9", port] = RtpClient(OWN, Random(port).randbytes)
        return client

    def exchange(self) -> None:
        moved = True
        while moved:
            moved = False
            for address, client in self.clients.items():
                for data in client.poll_datagrams():
                    moved = True
                    if self._rng.random() >= self.loss:
                        self.core.handle_media_datagram(data, address, self.now)
            for data, address in self.core.poll_media_datagrams():
                moved = True
                if self._rng.random() >= self.loss:
                    self.clients[address].handle_datagram(data, self.now)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = self.now + seconds
        for _ in range(20_000):
            self.exchange()
            if condition() or self.now >= end:
                return
            times = [self.core.next_timeout(), *(c.next_timeout() for c in self.clients.values())]
            self.now = max(self.now, min(end, *(t for t in times if t is not None)))
            for client in self.clients.values():
                due = client.next_timeout()
                if due is not None and due <= self.now:
                    client.handle_timeout(self.now)
            due = self.core.next_timeout()
            if due is not None and due <= self.now:
                self.core.handle_timeout(self.now)
        raise AssertionError("too many steps")

    def publish(self, port: int = 5000) -> RtpClient:
        client = self.client(port)
        _, answer = self.core.publish(
            NAME, client.offer("sendonly", MEDIA, ("198.51.100.9", port)), ("VP8",), self.now
        )
        client.accept(answer, self.now)
        return client

    def play(self, port: int = 5001) -> tuple[RtpClient, str]:
        client = self.client(port)
        publication = self.core.directory.find(NAME)
        assert publication is not None
        wanted = [Section("audio"), Section("video")]
        _, answer = self.core.play(
            publication, client.offer("recvonly", wanted, ("198.51.100.9", port)), self.now
        )
        client.accept(answer, self.now)
        return client, answer


def test_the_offer_can_be_read() -> None:
    offer = parse_offer(RtpClient(OWN, Random(1).randbytes).offer("sendonly", MEDIA, ("192.0.2.9", 4000)))
    assert [section.kind for section in offer.media] == ["audio", "video"]
    assert offer.media[1].ssrcs == ((2001, 2002),)
    assert offer.fingerprints == (("sha-256", OWN.fingerprint),)


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_media_goes_from_one_client_to_another(loss: float) -> None:
    wire = Wire(loss)
    publisher = wire.publish()
    wire.run_until(lambda: publisher.connected, 4)
    player, answer = wire.play()
    wire.run_until(lambda: player.connected, 4)
    assert publisher.connected and player.connected
    wire.run_until(lambda: False, 1)
    wire.loss = 0.0
    payload = b"\x90\x80\x80\x01\x00" + bytes(100)  # the first packet of a VP8 keyframe
    publisher.send_rtp(build_rtp(96, True, 7, 3000, 2001, payload))
    publisher.send_rtp(build_rtp(111, True, 9, 960, 1001, b"opus"))
    wire.run_until(lambda: len(player.received) >= 2, 1)
    packets = {p.ssrc: p for kind, data in player.received if kind == "rtp" for p in [parse_rtp(data)]}
    audio, video = sources_of(answer)
    assert audio is not None and video is not None
    assert packets[video[0]].payload[-100:] == payload[-100:]
    assert packets[audio[0]].payload == b"opus"
    assert video[1] is not None and audio[1] is None


def test_each_end_learns_of_a_goodbye() -> None:
    wire = Wire()
    publisher = wire.publish()
    wire.run_until(lambda: publisher.connected, 5)
    publisher.close(wire.now)
    assert publisher.closed and publisher.next_timeout() is None
    wire.run_until(lambda: not list(wire.core.edge.sessions()), 5)
    assert list(wire.core.edge.sessions()) == []


def test_a_node_that_is_gone_is_noticed() -> None:
    wire = Wire()
    publisher = wire.publish()
    wire.run_until(lambda: publisher.connected, 5)
    wire.loss = 1.0
    gone_at = wire.now
    wire.run_until(lambda: publisher.closed, 60)
    assert publisher.reason == "consent expired"
    assert wire.now - gone_at <= CONSENT_LIMIT + 0.1


def test_a_node_that_never_answers_is_given_up() -> None:
    wire = Wire(1.0)
    publisher = wire.publish()
    began = wire.now
    wire.run_until(lambda: publisher.closed, 60)
    assert (publisher.reason, wire.now - began) == ("could not connect", pytest.approx(CONNECT_LIMIT))


def test_an_answer_without_a_candidate_is_refused() -> None:
    with pytest.raises(AnswerError):
        RtpClient(OWN, Random(1).randbytes).accept("v=0\r\na=ice-ufrag:x\r\n", 0.0)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x16" + bytes(20), b"\x01\x01" + bytes(40), b"\xff" * 30])
def test_nonsense_is_counted_and_changes_nothing(data: bytes) -> None:
    wire = Wire()
    publisher = wire.publish()
    wire.run_until(lambda: publisher.connected, 5)
    publisher.handle_datagram(data, wire.now)
    assert publisher.connected and publisher.received == []
