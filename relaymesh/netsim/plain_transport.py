"""A session's transport without its cryptography, for simulated clients.

The same face as :class:`relaymesh.webrtc.transport.Transport`: clients are
bound by authenticated connectivity checks and lost when those stop, but then
RTP and RTCP travel as they are. Handshakes and SRTP cost processor time and
draw randomness from the system, and nothing that is simulated depends on them.
A session's end is told by :data:`GOODBYE`, which looks like a DTLS alert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relaymesh.kernels.fan_out import FanOut, Path
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.stun import BindingRequest, binding_response, verify
from relaymesh.webrtc.transport import (
    CONSENT_LIMIT,
    HANDSHAKE_LIMIT,
    Address,
    AddressChanged,
    Closed,
    Connected,
    Event,
    IceCredentials,
)

GOODBYE = b"\x15bye"  # content type 21 (RFC 9147 §4): the edge hands it to handle_dtls
GOODBYE_REASON = "the peer said goodbye"


class PlainTransport:
    """ICE-lite only; connected with the first valid check."""

    def __init__(
        self,
        *,
        certificate: Certificate,
        credentials: IceCredentials,
        fingerprints: Sequence[tuple[str, str]],
        now: float,
        role: str = "server",
    ) -> None:
        self._credentials = credentials
        self._address: Address | None = None
        self.path = Path()
        self.fan_out: FanOut | None = None
        self.touch: Callable[[], None] | None = None
        self._dropped = 0
        self._outgoing: list[tuple[bytes, Address]] = []
        self._events: list[Event] = []
        self._closed = False
        self._deadline = now + HANDSHAKE_LIMIT
        self._heard_at = now

    @property
    def dropped(self) -> int:
        return self._dropped + self.path.dropped

    @property
    def credentials(self) -> IceCredentials:
        return self._credentials

    @property
    def address(self) -> Address | None:
        return self._address

    @property
    def is_on_stream(self) -> bool:
        return False

    @property
    def connected(self) -> bool:
        return self._address is not None and not self._closed

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset() if self._address is None else frozenset((self._address,))

    @property
    def ufrags(self) -> tuple[str, ...]:
        return (self._credentials.ufrag,)

    @property
    def consented(self) -> bool:
        return not self._closed

    @property
    def heard_at(self) -> float:
        return self._heard_at

    def authenticates(self, request: BindingRequest) -> bool:
        return request.local_ufrag == self._credentials.ufrag and verify(request, self._credentials.password)

    def handle_stun(self, request: BindingRequest, address: Address, now: float) -> bool:
        """Answer a check; the first valid one connects, later ones keep the session."""
        if not self.authenticates(request):
            return False
        if self._closed:
            return True
        self._heard_at = now
        self._deadline = now + CONSENT_LIMIT
        if address != self._address:
            if self._address is None:
                self._events.append(Connected())
            self._events.append(AddressChanged(address, self._address))
            self._address = self.path.address = address
            self.path.is_open = True
        self._append(binding_response(request, self._credentials.password, address), address)
        return True

    def handle_dtls(self, data: bytes, address: Address, now: float) -> None:
        if data == GOODBYE and address == self._address:
            self._over(GOODBYE_REASON)

    def restart_ice(self, credentials: IceCredentials, now: float) -> None:
        """Take new credentials at once: simulated clients restart between two checks."""
        self._credentials = credentials

    def unprotect_rtp(self, data: bytes, address: Address | None = None, now: float | None = None) -> bytes:
        self._heard_at = self._heard_at if now is None else now
        return data

    def unprotect_rtcp(self, data: bytes, address: Address | None = None, now: float | None = None) -> bytes:
        self._heard_at = self._heard_at if now is None else now
        return data

    def send_rtp(self, packet: bytes) -> None:
        if self.fan_out is not None:
            self.fan_out.put(self.path, packet)
        else:
            self.send_rtcp(packet)

    def send_rtcp(self, packet: bytes) -> None:
        address = self._address
        if address is None or self._closed:
            self._dropped += 1
        else:
            self._append(packet, address)

    def _append(self, data: bytes, address: Address) -> None:
        if not self._outgoing and self.touch is not None:
            self.touch()
        self._outgoing.append((data, address))

    @property
    def has_output(self) -> bool:
        return bool(self._outgoing)

    def poll_datagrams(self) -> list[tuple[bytes, Address]]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def poll_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def next_timeout(self) -> float | None:
        return None if self._closed else self._deadline

    def handle_timeout(self, now: float) -> None:
        if not self._closed and now >= self._deadline:
            self._over("consent expired" if self.connected else "handshake timeout")

    def close(self, now: float) -> None:
        if self.connected:
            assert self._address is not None, "connected means it has one"
            self._append(GOODBYE, self._address)
        self._over("closed")

    def debug_state(self) -> dict[str, object]:
        return {"address": self._address, "connected": self.connected, "closed": self._closed}

    def _over(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self.path.is_open = False
            self._events.append(Closed(reason))
