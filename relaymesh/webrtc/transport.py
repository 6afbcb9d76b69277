"""The transport of one client session: ICE-lite, DTLS and SRTP behind one face.

In: the client's datagrams, already told apart by their first byte (RFC 7983),
and RTP or RTCP packets to send. Out: datagrams with the address each goes to,
plain packets, and events. It does not know sockets, the other sessions, SDP, or
what the packets mean.

ICE-lite (RFC 8445 §2.5): the client makes the checks, we only answer. Whoever
signs a check with our password is the client, so its address is learned; where
we send moves only when the client nominates (USE-CANDIDATE). The first valid
check nominates at once, which saves a round trip and tells a stranger nothing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .certificate import Certificate
from .dtls import DtlsEndpoint
from .errors import SrtpError
from .srtp import SrtpReceiver, SrtpSender
from .stun import BindingRequest, binding_response, verify

__all__ = [
    "CREDENTIAL_BYTES",
    "Address",
    "AddressChanged",
    "Closed",
    "Connected",
    "Event",
    "IceCredentials",
    "Transport",
    "make_credentials",
]

Address = tuple[str, int]
"""Host and UDP port, as the socket tells them."""

HANDSHAKE_LIMIT = 15.0  # seconds from the answer until media may flow
CONSENT_LIMIT = 30.0  # seconds without a valid check (RFC 7675 §5.1); browsers check every few seconds
MAX_ADDRESSES = 8  # a client has a few interfaces, and a mapping of its NAT for each
MAX_QUEUED = 4096  # datagrams not yet polled; more means that nobody polls

CREDENTIAL_BYTES = 24
"""How many random bytes `make_credentials` takes."""
_UFRAG_BYTES = 6
_MAX_UFRAG_CHARACTERS = 256  # RFC 8839 §5.4
_ICE_CHARACTERS = re.compile(r"[A-Za-z0-9+/]*")  # RFC 8839 §5.4: exactly the alphabet of base64


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """What our session description tells the client to sign its checks with."""

    ufrag: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connected:
    """The handshake is done; media may flow both ways."""


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """The client nominated another address, or its first one."""

    address: Address
    previous: Address | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over. Comes once, as the last event."""

    reason: str


Event = Connected | AddressChanged | Closed


def make_credentials(rng_bytes: bytes, prefix: str = "") -> IceCredentials:
    """Credentials out of `CREDENTIAL_BYTES` random bytes from the operating system.

    48 bits name the session and 144 keep its secret (RFC 8445 §5.3 asks for 24
    and 128). `prefix`, of ICE characters only, stands before the name.
    """
    if len(rng_bytes) < CREDENTIAL_BYTES:
        raise ValueError(f"{CREDENTIAL_BYTES} random bytes are needed")
    name, secret = rng_bytes[:_UFRAG_BYTES], rng_bytes[_UFRAG_BYTES:CREDENTIAL_BYTES]
    ufrag = prefix + base64.b64encode(name).decode()
    if not _ICE_CHARACTERS.fullmatch(prefix) or len(ufrag) > _MAX_UFRAG_CHARACTERS:
        raise ValueError("the prefix is too long or has characters that ICE does not allow")
    return IceCredentials(ufrag, base64.b64encode(secret).decode())


class Transport:
    """ICE-lite + DTLS server + SRTP of one session.

    `fingerprints` are those of the client's offer, (hash name, hex pairs with
    colons); `now` starts the time the client has to connect.
    """

    def __init__(
        self,
        *,
        certificate: Certificate,
        credentials: IceCredentials,
        fingerprints: Sequence[tuple[str, str]],
        now: float,
    ) -> None:
        self.credentials = credentials
        self.address: Address | None = None
        """Where we send: the nominated address. None before the first valid check."""
        self.dropped = 0
        """Packets that were to be sent but could not be."""
        self._dtls = DtlsEndpoint(certificate, "server", fingerprints, now)
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self._peer_ready = False
        self._addresses: dict[Address, None] = {}  # the longest unused first
        self._outgoing: list[tuple[bytes, Address]] = []
        self._events: list[Event] = []
        self._closed = False
        self._handshake_deadline = now + HANDSHAKE_LIMIT
        self._consent_deadline = now + CONSENT_LIMIT
        self._checks = self._forged_checks = self._stray_dtls = 0
        self._follow_dtls()  # it may have failed over the fingerprints

    @property
    def connected(self) -> bool:
        """Whether media can flow: the handshake is done, and the session is not over."""
        return self._sender is not None

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._closed

    @property
    def addresses(self) -> frozenset[Address]:
        """Where the client may send from, at most `MAX_ADDRESSES`. Changes only in `handle_stun`."""
        return frozenset(self._addresses)

    def handle_stun(self, request: BindingRequest, address: Address, now: float) -> bool:
        """Answer a check that came from `address`.

        False: it is not from our client; nothing is sent, so that a stranger
        learns nothing. True: the reply is queued and the address is known.
        """
        if request.local_ufrag != self.credentials.ufrag or not verify(request, self.credentials.password):
            self._forged_checks += 1
            return False
        if self._closed:
            return True
        self._checks += 1
        self._consent_deadline = now + CONSENT_LIMIT
        self._learn(address)
        self._queue(binding_response(request, self.credentials.password, address), address)
        if address != self.address and (request.use_candidate or self.address is None):
            self._events.append(AddressChanged(address, self.address))
            self.address = address
        return True

    def handle_dtls(self, data: bytes, address: Address, now: float) -> None:
        """Take a DTLS datagram. From an address that never made a valid check it is ignored."""
        if self._closed or address not in self._addresses:
            self._stray_dtls += 1
            return
        self._dtls.handle_datagram(data, now)
        self._follow_dtls()

    def unprotect_rtp(self, data: bytes) -> bytes:
        """SRTP → RTP. Raises `SrtpError` when it does not open, or there are no keys."""
        receiver = self._receiver
        if receiver is None:
            raise SrtpError("not connected")
        packet = receiver.unprotect_rtp(data)
        if not self._peer_ready:
            self._note_peer_ready()
        return packet

    def unprotect_rtcp(self, data: bytes) -> bytes:
        """SRTCP → RTCP. Raises `SrtpError` when it does not open, or there are no keys."""
        receiver = self._receiver
        if receiver is None:
            raise SrtpError("not connected")
        packet = receiver.unprotect_rtcp(data)
        if not self._peer_ready:
            self._note_peer_ready()
        return packet

    def send_rtp(self, packet: bytes) -> None:
        """Protect an RTP packet and queue it; counted in `dropped` if that is not possible."""
        sender, address = self._sender, self.address
        if sender is None or address is None or len(self._outgoing) >= MAX_QUEUED:
            self.dropped += 1
            return
        try:
            self._outgoing.append((sender.protect_rtp(packet), address))
        except SrtpError:
            self.dropped += 1

    def send_rtcp(self, packet: bytes) -> None:
        """Protect an RTCP packet and queue it; counted in `dropped` if that is not possible."""
        sender, address = self._sender, self.address
        if sender is None or address is None or len(self._outgoing) >= MAX_QUEUED:
            self.dropped += 1
            return
        try:
            self._outgoing.append((sender.protect_rtcp(packet), address))
        except SrtpError:
            self.dropped += 1

    def poll_datagrams(self) -> list[tuple[bytes, Address]]:
        """What is to be sent now, in order, each with the address it goes to."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def poll_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None when the session is over."""
        if self._closed:
            return None
        deadline = self._deadline()
        resend_at = self._dtls.next_timeout()
        return deadline if resend_at is None else min(deadline, resend_at)

    def handle_timeout(self, now: float) -> None:
        """Resend of the handshake's flights, and the end of clients that are gone."""
        if self._closed:
            return
        if now >= self._deadline():
            self._end("consent expired" if self.connected else "handshake timeout", now)
            return
        self._dtls.handle_timeout(now)
        self._follow_dtls()

    def close(self, now: float) -> None:
        """End the session and tell the client; `poll_datagrams` still has the goodbye."""
        if not self._closed:
            self._end("closed", now)

    def debug_state(self) -> dict[str, object]:
        """What an operator wants to see; no secrets."""
        return {
            "ufrag": self.credentials.ufrag,
            "address": self.address,
            "addresses": list(self._addresses),
            "connected": self.connected,
            "closed": self._closed,
            "peer_ready": self._peer_ready,
            "checks": self._checks,
            "forged_checks": self._forged_checks,
            "stray_dtls": self._stray_dtls,
            "dropped": self.dropped,
            "queued": len(self._outgoing),
            "dtls": self._dtls.debug_state(),
        }

    def _deadline(self) -> float:
        return self._handshake_deadline if self._sender is None else self._consent_deadline

    def _learn(self, address: Address) -> None:
        """Make `address` the newest of those the client uses; forget the oldest beyond the bound."""
        self._addresses.pop(address, None)
        self._addresses[address] = None
        if len(self._addresses) > MAX_ADDRESSES:
            oldest = next(known for known in self._addresses if known != self.address)
            del self._addresses[oldest]

    def _queue(self, data: bytes, address: Address) -> None:
        if len(self._outgoing) < MAX_QUEUED:
            self._outgoing.append((data, address))
        else:
            self.dropped += 1

    def _follow_dtls(self) -> None:
        """Send what DTLS wants sent, and see what has become of it."""
        self._collect_dtls()
        if self._dtls.state in ("closed", "failed"):
            self._over(self._dtls.reason)
        elif self._sender is None and (keys := self._dtls.keys) is not None:
            self._sender = SrtpSender(keys.local, keys.profile)
            self._receiver = SrtpReceiver(keys.remote, keys.profile)
            self._events.append(Connected())

    def _collect_dtls(self) -> None:
        # A server speaks only when spoken to, so an address is known by then.
        datagrams = self._dtls.poll_datagrams()
        if self.address is not None:
            for data in datagrams:
                self._queue(data, self.address)

    def _note_peer_ready(self) -> None:
        self._peer_ready = True
        self._dtls.note_peer_ready()

    def _end(self, reason: str, now: float) -> None:
        self._dtls.close(now)
        self._collect_dtls()
        self._over(reason)

    def _over(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._sender = self._receiver = None
            self._events.append(Closed(reason))
