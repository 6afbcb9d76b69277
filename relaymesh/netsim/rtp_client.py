"""The client's end of a WebRTC connection with a node: ICE, DTLS and SRTP for synthetic media.

In: an answer's text, the node's datagrams, plain RTP and RTCP to send. Out: an
offer, datagrams for the node, plain packets that came. It is what a browser is to
a node, without codecs, capture or a screen: the node cannot tell the difference.
It knows no socket, task or clock.

The node is ICE-lite: we make the checks and nominate. Then we shake hands as the
DTLS client (the node's answer is always passive), and go on checking, which is
the consent (RFC 7675) without which either side lets go of the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal

from relaymesh.netsim.descriptions import (
    Direction,
    Section,
    codec_lines,
    extension_lines,
    payload_types,
    source_lines,
)
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.dtls import DtlsEndpoint
from relaymesh.webrtc.errors import SrtpError, StunError
from relaymesh.webrtc.rtp import classify
from relaymesh.webrtc.srtp import SrtpReceiver, SrtpSender
from relaymesh.webrtc.stun import build_binding_request, parse_binding_response

Address = tuple[str, int]

FIRST_CHECKS = 0.05  # seconds between checks until one is answered
CONSENT_CHECKS = 2.5  # seconds between checks from then on
CONSENT_LIMIT = 5.0  # seconds without an answer; browsers call a connection disconnected then
CONNECT_LIMIT = 5.0  # seconds from the answer until media may flow
UFRAG_BYTES, PASSWORD_BYTES = 3, 12


class AnswerError(Exception):
    """The answer lacks what a connection needs."""


class RtpClient:
    """One connection: made, offered, answered, connected, closed."""

    def __init__(self, certificate: Certificate, secret_bytes: Callable[[int], bytes]) -> None:
        self.reason = ""  # why it is closed
        self.received: list[tuple[Literal["rtp", "rtcp"], bytes]] = []  # plain packets; take them away
        self.undecodable = 0
        self._certificate = certificate
        self._secret_bytes = secret_bytes
        self._ufrag = secret_bytes(UFRAG_BYTES).hex()
        self._password = secret_bytes(PASSWORD_BYTES).hex()
        self._session = int.from_bytes(secret_bytes(4), "big")
        self._peer_name = self._peer_password = ""
        self._peer: Address | None = None
        self._fingerprints: list[tuple[str, str]] = []
        self._dtls: DtlsEndpoint | None = None
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self._outgoing: list[bytes] = []
        self._next_check = 0.0
        self._deadline = 0.0
        self._closed = False

    # --- signalling ----------------------------------------------------------------------------

    def offer(self, direction: Direction, sections: Iterable[Section], address: Address) -> str:
        """The offer's text; *address* is where we send from."""
        media = list(sections)
        lines = [
            "v=0",
            f"o=- {self._session} 1 IN IP4 {address[0]}",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE " + " ".join(str(mid) for mid in range(len(media))),
        ]
        for mid, section in enumerate(media):
            lines += [
                f"m={section.kind} {address[1]} UDP/TLS/RTP/SAVPF {payload_types(section)}",
                f"c=IN IP4 {address[0]}",
                f"a=ice-ufrag:{self._ufrag}",
                f"a=ice-pwd:{self._password}",
                f"a=fingerprint:sha-256 {self._certificate.fingerprint}",
                "a=setup:actpass",
                f"a=mid:{mid}",
                f"a={direction}",
                "a=rtcp-mux",
                "a=rtcp-rsize",
                *extension_lines(section),
                *codec_lines(section),
                *source_lines(section),
                f"a=candidate:1 1 udp 2130706431 {address[0]} {address[1]} typ host",
                "a=end-of-candidates",
            ]
        return "\r\n".join(lines) + "\r\n"

    def accept(self, answer: str, now: float) -> None:
        """Take the node's answer and begin to check.

        Raises:
            AnswerError: it lacks what a connection needs.
        """
        ufrag = re.search(r"(?m)^a=ice-ufrag:(\S+)", answer)
        password = re.search(r"(?m)^a=ice-pwd:(\S+)", answer)
        fingerprint = re.search(r"(?m)^a=fingerprint:(\S+) (\S+)", answer)
        candidate = re.search(r"(?m)^a=candidate:\S+ 1 udp \d+ (\S+) (\d{1,5}) typ host", answer)
        if ufrag is None or password is None or fingerprint is None or candidate is None:
            raise AnswerError("the answer lacks ICE credentials, a fingerprint or a candidate")
        self._peer_name, self._peer_password = ufrag[1], password[1]
        self._fingerprints = [(fingerprint[1], fingerprint[2])]
        self._peer = candidate[1], int(candidate[2])
        self._next_check = now
        self._deadline = now + CONNECT_LIMIT
        self.handle_timeout(now)

    # --- datagrams -----------------------------------------------------------------------------

    @property
    def peer(self) -> Address:
        """Where our datagrams go, once there was an answer."""
        assert self._peer is not None, "there was an answer"
        return self._peer

    @property
    def connected(self) -> bool:
        """Whether media can flow."""
        return self._sender is not None and not self._closed

    @property
    def closed(self) -> bool:
        """Whether it is over; :attr:`reason` says why."""
        return self._closed

    def handle_datagram(self, data: bytes, now: float) -> None:
        """Take one datagram of the node. What cannot be read is dropped and counted."""
        if self._closed:
            return
        try:
            match classify(data):
                case "rtp":
                    self.received.append(("rtp", self._opened().unprotect_rtp(data)))
                case "rtcp":
                    self.received.append(("rtcp", self._opened().unprotect_rtcp(data)))
                case "stun":
                    parse_binding_response(data, self._peer_password)
                    self._handle_consent(now)
                case "dtls" if self._dtls is not None:
                    self._dtls.handle_datagram(data, now)
                    self._follow_dtls(now)
                case _:
                    self.undecodable += 1
        except (SrtpError, StunError):
            self.undecodable += 1

    def send_rtp(self, packet: bytes) -> None:
        """Protect a packet and queue it; without a connection it is dropped."""
        if self._sender is not None and not self._closed:
            self._outgoing.append(self._sender.protect_rtp(packet))

    def send_rtcp(self, packet: bytes) -> None:
        """Protect a packet and queue it; without a connection it is dropped."""
        if self._sender is not None and not self._closed:
            self._outgoing.append(self._sender.protect_rtcp(packet))

    def poll_datagrams(self) -> list[bytes]:
        """What is to be sent to :attr:`peer` now, in order."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    # --- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`; ``None`` when it is over, or was not answered yet."""
        if self._closed or self._peer is None:
            return None
        resend = self._dtls.next_timeout() if self._dtls is not None else None
        due = min(self._next_check, self._deadline)
        return due if resend is None else min(due, resend)

    def handle_timeout(self, now: float) -> None:
        """Checks that are due, DTLS flights that were lost, and the end of nodes that are gone."""
        if self._closed or self._peer is None:
            return
        if now >= self._deadline:
            self._end("consent expired" if self.connected else "could not connect")
            return
        if now >= self._next_check:
            self._next_check = now + (FIRST_CHECKS if self._dtls is None else CONSENT_CHECKS)
            self._outgoing.append(
                build_binding_request(
                    username=f"{self._peer_name}:{self._ufrag}",
                    password=self._peer_password,
                    transaction_id=self._secret_bytes(12),
                    use_candidate=True,
                )
            )
        if self._dtls is not None:
            self._dtls.handle_timeout(now)
            self._follow_dtls(now)

    def close(self, now: float) -> None:
        """End it and tell the node; :meth:`poll_datagrams` still has the goodbye."""
        if self._dtls is not None and not self._closed:
            self._dtls.close(now)
            self._outgoing += self._dtls.poll_datagrams()
        self._end("closed")

    # --- parts ---------------------------------------------------------------------------------

    def _opened(self) -> SrtpReceiver:
        if self._receiver is None:
            raise SrtpError("not connected")
        if self._dtls is not None:
            self._dtls.note_peer_ready()
        return self._receiver

    def _handle_consent(self, now: float) -> None:
        if self._dtls is None:
            self._dtls = DtlsEndpoint(self._certificate, "client", self._fingerprints, now)
            self._next_check = now + CONSENT_CHECKS
            self._follow_dtls(now)
        if self._sender is not None:
            self._deadline = now + CONSENT_LIMIT

    def _follow_dtls(self, now: float) -> None:
        dtls = self._dtls
        assert dtls is not None, "it was made before"
        self._outgoing += dtls.poll_datagrams()
        if dtls.state in ("closed", "failed"):
            self._end(dtls.reason)
        elif self._sender is None and (keys := dtls.keys) is not None:
            self._sender = SrtpSender(keys.local, keys.profile)
            self._receiver = SrtpReceiver(keys.remote, keys.profile)
            self._deadline = now + CONSENT_LIMIT

    def _end(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self.reason = reason
