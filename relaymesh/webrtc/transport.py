"""The transport of one client session: ICE-lite, DTLS and SRTP behind one face.

In: the client's datagrams, already told apart by their first byte (RFC 7983),
and RTP or RTCP packets to send. Out: datagrams with the address each goes to,
plain packets, and events. It does not know sockets, the other sessions, SDP, or
what the packets mean.

*How long a session lasts.* Sending needs consent, receiving needs a sender:

- A valid check is the client's consent to be sent to. RFC 7675 has whoever sends ask for it; a
  lite agent asks nothing, so a check asked of us must do, as long as the RFC lets an answer do: 30 s.
- Without it no RTP is sent. What is received goes on: SRTP that opens is a sign of life, and so
  is SRTCP of a client that has sent SRTP. Some publishers (old pion, ffmpeg 8.0) make no checks
  once media flows. RTCP goes on to them: it is little, answers to what they send, and tells them
  what is lost.
- After 30 s without any of these the session is over. A client that only plays is kept by checks
  alone: its reports are no consent (§5.1 counts nothing but STUN), and without one it gets nothing.
- A DTLS close_notify ends the session at once (§5.2), and so does a BYE, which is for the
  session's owner to read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relaymesh.kernels.fan_out import FanOut, Path

from .addresses import Address, is_stream
from .certificate import Certificate
from .dtls import DtlsEndpoint, Role
from .errors import SrtpError
from .ice import CREDENTIAL_BYTES, MAX_ADDRESSES, IceCredentials, IceLite, make_credentials
from .srtp import SrtpReceiver, SrtpSender
from .stun import BindingRequest

__all__ = [
    "CREDENTIAL_BYTES",
    "MAX_ADDRESSES",
    "Address",
    "AddressChanged",
    "Closed",
    "Connected",
    "Event",
    "IceCredentials",
    "Transport",
    "make_credentials",
]

HANDSHAKE_LIMIT = 15.0  # seconds from the answer until media may flow
CONSENT_LIMIT = 30.0  # seconds without a valid check (RFC 7675 §5.1); browsers check every few seconds
MAX_QUEUED = 4096  # datagrams not yet polled; more means that nobody polls


@dataclass(frozen=True, slots=True)
class Connected:
    """The handshake is done; media may flow both ways."""


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """We send to another address, or to the first one (see `ice`)."""

    address: Address
    previous: Address | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over. Comes once, as the last event."""

    reason: str


Event = Connected | AddressChanged | Closed


class Transport:
    """ICE-lite + DTLS + SRTP of one session.

    `fingerprints` are those of the client's offer, (hash name, hex pairs with
    colons); `now` starts the time the client has to connect. `role` is our part
    in the handshake; as the client we say hello with the first valid check.
    """

    def __init__(
        self,
        *,
        certificate: Certificate,
        credentials: IceCredentials,
        fingerprints: Sequence[tuple[str, str]],
        now: float,
        role: Role = "server",
    ) -> None:
        self.path = Path()
        """Where RTP may leave without being handed over here, under the same keys; open while that may be."""
        self.fan_out: FanOut | None = None
        """Where RTP waits to be sealed and sent as datagrams; without one it is polled with the rest."""
        self.touch: Callable[[], None] | None = None
        """Told when there is something to poll."""
        self._on_stream = False
        self._dropped = 0
        self._ice = IceLite(credentials)
        self._dtls = DtlsEndpoint(certificate, role, fingerprints, now, deferred=True)
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self._peer_ready = False
        self._outgoing: list[tuple[bytes, Address]] = []
        self._events: list[Event] = []
        self._closed = False
        self._handshake_deadline = now + HANDSHAKE_LIMIT
        self._consent_until = now + CONSENT_LIMIT
        self._consented = True  # until that time has come
        self._alive_until = now + CONSENT_LIMIT
        self._sends_media = False  # the client has sent SRTP
        self._stray_dtls = 0
        self._follow_dtls()  # it may have failed over the fingerprints

    @property
    def dropped(self) -> int:
        """Packets that were to be sent but could not be, or not without consent."""
        return self._dropped + self.path.dropped

    @property
    def credentials(self) -> IceCredentials:
        """The newest ones, which an answer names."""
        return self._ice.credentials

    @property
    def ufrags(self) -> tuple[str, ...]:
        """The names that the client's checks may call us by.

        Changes in `restart_ice`, and afterwards in `handle_stun` and `handle_timeout`.
        """
        return self._ice.ufrags

    @property
    def address(self) -> Address | None:
        """Where we send (see `ice`). None before the first valid check."""
        return self._ice.address

    @property
    def is_on_stream(self) -> bool:
        """Whether we send by a stream (ICE-TCP): no packet may leave by :attr:`path` then."""
        return self._on_stream

    @property
    def connected(self) -> bool:
        """Whether media can flow: the handshake is done, and the session is not over."""
        return self._sender is not None

    @property
    def consented(self) -> bool:
        """Whether the client has lately asked to be sent to; without it no RTP goes out."""
        return self._consented

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._closed

    @property
    def addresses(self) -> frozenset[Address]:
        """Where the client may send from, at most `MAX_ADDRESSES`. Changes only in `handle_stun`."""
        return self._ice.addresses

    @property
    def heard_at(self) -> float:
        """When the last authentic packet came from `address`."""
        return self._ice.heard_at

    def authenticates(self, request: BindingRequest) -> bool:
        """Whether a check is signed by our client; changes nothing."""
        return self._ice.authenticates(request)

    def handle_stun(self, request: BindingRequest, address: Address, now: float) -> bool:
        """Answer a check that came from `address`.

        False: it is not from our client; nothing is sent, so that a stranger
        learns nothing. True: the reply is queued and the address is known.
        """
        before = self._ice.address
        reply = self._ice.handle_check(request, address, now)
        if reply is None:
            return False
        if self._closed:
            return True
        self._consented = True
        self._follow_consent()
        self._consent_until = now + CONSENT_LIMIT
        self._alive_until = now + CONSENT_LIMIT
        self._queue(reply, address)
        self._tell_move(before)
        if before is None:
            self._dtls.begin(now)
            self._follow_dtls()
        return True

    def restart_ice(self, credentials: IceCredentials, now: float) -> None:
        """Take new credentials for the client's checks, as an answer to its ICE restart names them.

        Media flows on as before. The old ones are valid until the first check under the new, or for
        `ice.OLD_CREDENTIALS`: so the caller must know this session under both `ufrags`.
        """
        self._ice.restart(credentials, now)

    def handle_dtls(self, data: bytes, address: Address, now: float) -> None:
        """Take a DTLS datagram. From an address that never made a valid check it is ignored."""
        if self._closed or not self._ice.knows(address):
            self._stray_dtls += 1
            return
        self._dtls.handle_datagram(data, now)
        self._follow_dtls()

    def unprotect_rtp(self, data: bytes, address: Address | None = None, now: float | None = None) -> bytes:
        """SRTP → RTP. Raises `SrtpError` when it does not open, or there are no keys.

        With the `address` it came from and `now` it counts as a sign of life, and for where we send.
        """
        receiver = self._receiver
        if receiver is None:
            raise SrtpError("not connected")
        packet = receiver.unprotect_rtp(data)
        self._sends_media = True
        if not self._peer_ready:
            self._note_peer_ready()
        if address is not None and now is not None:
            self._note_authentic(address, now)
        return packet

    def unprotect_rtcp(self, data: bytes, address: Address | None = None, now: float | None = None) -> bytes:
        """SRTCP → RTCP. Raises `SrtpError` when it does not open, or there are no keys.

        With the `address` it came from and `now` it counts for where we send; and as a sign of life
        if the client also sends RTP.
        """
        receiver = self._receiver
        if receiver is None:
            raise SrtpError("not connected")
        packet = receiver.unprotect_rtcp(data)
        if not self._peer_ready:
            self._note_peer_ready()
        if address is not None and now is not None:
            self._note_authentic(address, now)
        return packet

    def send_rtp(self, packet: bytes) -> None:
        """Send an RTP packet, protected; counted in `dropped` if that is not possible or not allowed."""
        if self.fan_out is not None and not self._on_stream:
            self.fan_out.put(self.path, packet)
            return
        sender, address = self._sender, self._ice.address
        if sender is None or address is None or not self._consented or len(self._outgoing) >= MAX_QUEUED:
            self._dropped += 1
            return
        try:
            self._append(sender.protect_rtp(packet), address)
        except SrtpError:
            self._dropped += 1

    def send_rtcp(self, packet: bytes) -> None:
        """Protect an RTCP packet and queue it; counted in `dropped` if that is not possible."""
        sender, address = self._sender, self._ice.address
        if sender is None or address is None or len(self._outgoing) >= MAX_QUEUED:
            self._dropped += 1
            return
        try:
            self._append(sender.protect_rtcp(packet), address)
        except SrtpError:
            self._dropped += 1

    def _append(self, data: bytes, address: Address) -> None:
        if not self._outgoing and self.touch is not None:
            self.touch()
        self._outgoing.append((data, address))

    @property
    def has_output(self) -> bool:
        """Whether there is something to poll."""
        return bool(self._outgoing)

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
        due = self._deadline()
        if self._consented:
            due = min(due, self._consent_until)
        for at in (self._dtls.next_timeout(), self._ice.next_timeout()):
            if at is not None and at < due:
                due = at
        return due

    def handle_timeout(self, now: float) -> None:
        """Resend of the handshake's flights, the end of consent, and of clients that are gone."""
        if self._closed:
            return
        if now >= self._deadline():
            self._end("consent expired" if self.connected else "handshake timeout", now)
            return
        if now >= self._consent_until:
            self._consented = False
            self._follow_consent()
        self._ice.handle_timeout(now)
        self._dtls.handle_timeout(now)
        self._follow_dtls()

    def close(self, now: float) -> None:
        """End the session and tell the client; `poll_datagrams` still has the goodbye."""
        if not self._closed:
            self._end("closed", now)

    def debug_state(self) -> dict[str, object]:
        """What an operator wants to see; no secrets."""
        return {
            **self._ice.debug_state(),
            "connected": self.connected,
            "consented": self._consented,
            "closed": self._closed,
            "peer_ready": self._peer_ready,
            "stray_dtls": self._stray_dtls,
            "dropped": self.dropped,
            "queued": len(self._outgoing),
            "dtls": self._dtls.debug_state(),
        }

    def _deadline(self) -> float:
        return self._handshake_deadline if self._sender is None else self._alive_until

    def _note_authentic(self, address: Address, now: float) -> None:
        """The client proved by a packet from *address* that it is there."""
        if self._sends_media:
            self._alive_until = now + CONSENT_LIMIT
        before = self._ice.address
        self._ice.note_authentic(address, now)
        self._tell_move(before)

    def _tell_move(self, before: Address | None) -> None:
        address = self._ice.address
        if address != before and address is not None:
            self._on_stream = is_stream(address)
            self.path.address = None if self._on_stream else address
            self._events.append(AddressChanged(address, before))

    def _queue(self, data: bytes, address: Address) -> None:
        if len(self._outgoing) < MAX_QUEUED:
            self._append(data, address)
        else:
            self._dropped += 1

    def _follow_dtls(self) -> None:
        """Send what DTLS wants sent, and see what has become of it."""
        self._collect_dtls()
        if self._dtls.state in ("closed", "failed"):
            self._over(self._dtls.reason)
        elif self._sender is None and (keys := self._dtls.keys) is not None:
            self._sender = SrtpSender(keys.local, keys.profile)
            self._receiver = SrtpReceiver(keys.remote, keys.profile)
            self.path.sender = self._sender.kernel
            self._follow_consent()
            self._events.append(Connected())

    def _follow_consent(self) -> None:
        self.path.is_open = self._consented and self._sender is not None

    def _collect_dtls(self) -> None:
        # We speak only when spoken to or after a check, so an address is known by then.
        datagrams = self._dtls.poll_datagrams()
        address = self._ice.address
        if address is not None:
            for data in datagrams:
                self._queue(data, address)

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
            self._follow_consent()
            self._events.append(Closed(reason))
