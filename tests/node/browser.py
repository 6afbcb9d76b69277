"""A WebRTC client in small, in virtual time: offers, checks, shakes hands, sends and receives RTP.

It offers what a real browser offered (tests/vectors/sdp) with its own
fingerprint, and talks to one node core directly, without a network.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from relaymesh.node.core import NodeCore
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.dtls import DtlsEndpoint
from relaymesh.webrtc.rtcp import RtcpPacket, parse_rtcp
from relaymesh.webrtc.rtp import RtpPacket, build_rtp, classify, parse_rtp
from relaymesh.webrtc.srtp import SrtpReceiver, SrtpSender
from relaymesh.webrtc.stun import build_binding_request
from tests.node.mesh import CERTIFICATE

OWN = Certificate.generate(1_700_000_000)
OFFERS = Path(__file__).parent.parent / "vectors" / "sdp"
Address = tuple[str, int]


def offer_text(name: str) -> str:
    """A recorded offer, with this client's fingerprint."""
    text = (OFFERS / f"{name}.sdp").read_text()
    return re.sub(r"(?m)^a=fingerprint:.*?(\r?)$", rf"a=fingerprint:sha-256 {OWN.fingerprint}\1", text)


class Browser:
    """One peer connection with a node."""

    def __init__(self, address: Address = ("198.51.100.1", 5000)) -> None:
        self.address = address
        self.dtls = DtlsEndpoint(OWN, "client", [("sha-256", CERTIFICATE.fingerprint)], 0.0)
        self.rtp: list[RtpPacket] = []  # media, and what was sent again
        self.padding: list[RtpPacket] = []  # probes of the path
        self.rtcp: list[RtcpPacket] = []
        self._transactions = itertools.count(1)
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self.ufrag = self.password = ""
        self.answer = ""

    def accept(self, answer: str) -> None:
        self.answer = answer
        self.ufrag = re.search(r"a=ice-ufrag:(\S+)", answer)[1]  # type: ignore[index]
        self.password = re.search(r"a=ice-pwd:(\S+)", answer)[1]  # type: ignore[index]

    def check(self, password: str | None = None) -> bytes:
        return build_binding_request(
            username=f"{self.ufrag}:me",
            password=password or self.password,
            transaction_id=next(self._transactions).to_bytes(12, "big"),
            use_candidate=True,
        )

    def connect(self, core: NodeCore, now: float) -> None:
        core.handle_media_datagram(self.check(), self.address, now)
        for _ in range(20):
            for data in self.dtls.poll_datagrams():
                core.handle_media_datagram(data, self.address, now)
            if not exchange(core, now, self) and self.dtls.state == "connected":
                return
        sessions = core.edge._sessions.values()
        there = [(session.closed, session.transport.debug_state()) for session in sessions]
        raise AssertionError(f"here {self.dtls.debug_state()}, there {core.edge.refused} {there}")

    def take(self, data: bytes) -> None:
        kind = classify(data)
        if kind == "dtls":
            self.dtls.handle_datagram(data, 0.0)
        elif kind in ("rtp", "rtcp"):
            keys = self.dtls.keys
            assert keys is not None
            self._receiver = self._receiver or SrtpReceiver(keys.remote, keys.profile)
            if kind == "rtp":
                packet = parse_rtp(self._receiver.unprotect_rtp(data))
                (self.padding if packet.padding_only else self.rtp).append(packet)
            else:
                self.rtcp += parse_rtcp(self._receiver.unprotect_rtcp(data))

    def protect(self, packet: bytes, *, rtcp: bool = False) -> bytes:
        keys = self.dtls.keys
        assert keys is not None
        self._sender = self._sender or SrtpSender(keys.local, keys.profile)
        return self._sender.protect_rtcp(packet) if rtcp else self._sender.protect_rtp(packet)

    def send_rtp(
        self,
        core: NodeCore,
        now: float,
        sequence: int,
        payload: bytes,
        *,
        payload_type: int,
        ssrc: int,
        extensions: bytes = b"",
    ) -> None:
        packet = build_rtp(
            payload_type, True, sequence & 0xFFFF, sequence * 3000 & 0xFFFFFFFF, ssrc, payload, extensions
        )
        core.handle_media_datagram(self.protect(packet), self.address, now)

    def send_rtcp(self, core: NodeCore, now: float, packet: bytes) -> None:
        core.handle_media_datagram(self.protect(packet, rtcp=True), self.address, now)


def exchange(core: NodeCore, now: float, *browsers: Browser) -> int:
    """Give every browser what the node sent it; how many datagrams that were."""
    by_address = {b.address: b for b in browsers}
    assert core.edge.audit() == []
    datagrams = core.poll_media_datagrams()
    for data, address in datagrams:
        if address in by_address:
            by_address[address].take(data)
    return len(datagrams)
