"""The edge port of a node: one UDP port for all clients, and their sessions.

A datagram is told apart by its first byte (RFC 7983); a client by the ICE
ufrag of its connectivity checks, and from then on by its address. Nothing is
answered but a check whose integrity holds: anything else only moves a counter.

So one address carries one session. A second one that comes from the same client socket is
refused while the first is heard, and ended once both are known to be alive; a client that
starts again on its old port has been silent as its old self, and takes over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from math import inf

from relaymesh.kernels.fan_out import FanOut
from relaymesh.node.dues import Dues
from relaymesh.node.send_side import OVERHEAD_BYTES
from relaymesh.node.session import Session
from relaymesh.webrtc import stun
from relaymesh.webrtc.addresses import Address
from relaymesh.webrtc.errors import StunError
from relaymesh.webrtc.rtp import classify
from relaymesh.webrtc.transport import IceCredentials

MAX_DATAGRAM_BYTES = 1500
OWNER_SILENT = 5.0  # s; a client says something each 2.5 s at least: checks, reports or media
TICK = 0.01  # s; what is due of sessions is done this often, all at once: each wake of a process costs


class Edge:
    """All WebRTC sessions of this node, by id, ufrag and address."""

    def __init__(self, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}
        self._by_ufrag: dict[str, Session] = {}
        self._by_address: dict[Address, Session] = {}
        self.fan_out = FanOut(OVERHEAD_BYTES)
        self._next_tick = -inf
        # When each session is to be called, by the number of its coming. Those touched since the last look
        # may have something to poll, and may be due at another time.
        self._due = Dues()
        self._numbers: dict[Session, int] = {}
        self._numbered: dict[int, Session] = {}
        self._came = 0
        self._touched: dict[Session, None] = {}
        self._speaking: dict[Session, None] = {}
        self._farewells: list[tuple[bytes, Address]] = []
        self.refused: Counter[str] = Counter()  # datagrams, by why

    # --- sessions ------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return len(self._sessions) >= self.max_sessions

    def add(self, session: Session) -> None:
        assert not self.full, "the caller refuses a session when the edge is full"
        self._sessions[session.id] = session
        self._by_ufrag[session.transport.credentials.ufrag] = session
        self._came += 1
        self._numbers[session] = self._came
        self._numbered[self._came] = session
        session.use_edge(self.fan_out, partial(self._touch, session))

    def _touch(self, session: Session) -> None:
        if session in self._numbers:  # it may be gone
            self._touched[session] = self._speaking[session] = None

    def restart_ice(self, session: Session, credentials: IceCredentials, now: float) -> None:
        """Know *session* under new credentials too; the old ones stay until the client uses the new."""
        session.transport.restart_ice(credentials, now)
        self._forget_ufrags(session, session.transport.ufrags)
        self._by_ufrag[credentials.ufrag] = session
        self._touch(session)

    def _forget_ufrags(self, session: Session, but: tuple[str, ...] = ()) -> None:
        for ufrag in [u for u, known in self._by_ufrag.items() if known is session and u not in but]:
            del self._by_ufrag[ufrag]

    def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def publishers(self) -> Iterator[Session]:
        """Sessions that publish."""
        return (s for s in self._sessions.values() if s.publication is not None)

    def players(self) -> Iterator[Session]:
        """Sessions that play."""
        return (s for s in self._sessions.values() if s.played is not None)

    def remove(self, session: Session, reason: str, now: float) -> None:
        """Close *session* and forget it; its last datagrams (DTLS close_notify) still go out."""
        session.close(reason, now)
        self._farewells += session.transport.poll_datagrams()
        self._sessions.pop(session.id, None)
        if (number := self._numbers.pop(session, None)) is not None:
            del self._numbered[number]
            self._due.forget(number)
        self._touched.pop(session, None)
        self._speaking.pop(session, None)
        self._forget_ufrags(session)
        for address in [a for a, s in self._by_address.items() if s is session]:
            del self._by_address[address]

    def __len__(self) -> int:
        return len(self._sessions)

    def knows(self, address: Address) -> bool:
        """Whether a session's client has proved that it is there."""
        return address in self._by_address

    # --- datagrams -----------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, address: Address, now: float) -> None:
        if not data:
            self.refused["truncated"] += 1
            return
        if len(data) > MAX_DATAGRAM_BYTES:
            self.refused["oversized"] += 1
            return
        kind = classify(data)
        if kind == "stun":
            self._handle_stun(data, address, now)
            return
        if kind is None:
            self.refused["malformed"] += 1
            return
        session = self._by_address.get(address)
        if session is None:
            self.refused["unknown_address"] += 1
        elif kind == "dtls":
            self._touch(session)
            session.transport.handle_dtls(data, address, now)
            session.drain_events(now)
        else:
            self._touch(session)
            session.handle_packet(data, kind == "rtcp", address, now)

    def _handle_stun(self, data: bytes, address: Address, now: float) -> None:
        try:
            request = stun.parse_binding_request(data)
        except StunError:
            self.refused["malformed"] += 1
            return
        session = self._by_ufrag.get(request.local_ufrag)
        if session is None:
            self.refused["unknown_ufrag"] += 1
            return
        owner = self._by_address.get(address)
        if (
            owner is not None
            and owner is not session
            and not self._yields(owner, session, request, address, now)
        ):
            return
        if not session.transport.handle_stun(request, address, now):
            self.refused["unauthentic"] += 1
            return
        self._touch(session)
        if self._by_address.get(address) is not session:
            self._by_address[address] = session
            known = session.transport.addresses
            for stale in [a for a, s in self._by_address.items() if s is session and a not in known]:
                del self._by_address[stale]
        session.drain_events(now)

    def _yields(
        self, owner: Session, newcomer: Session, request: stun.BindingRequest, address: Address, now: float
    ) -> bool:
        """Decide if *address* passes from *owner* to *newcomer*, which checks from there.

        One of the two is ended once it is clear that they share a socket, or that the owner is gone.
        """
        if owner.closed is not None or owner.transport.address != address:
            return True
        if not newcomer.transport.authenticates(request):
            self.refused["unauthentic"] += 1
            return False
        heard_at = owner.transport.heard_at
        if now - heard_at >= OWNER_SILENT:
            owner.closed = "its client is silent, and another session comes from the same address"
            self._touch(owner)
            return True
        self.refused["address_in_use"] += 1
        since = newcomer.contends_since
        if since is None:
            newcomer.contends_since = now
        elif heard_at > since and newcomer.closed is None:
            newcomer.closed = "another session uses the same client socket; each needs its own"
            self._touch(newcomer)
        return False

    def poll_datagrams(self) -> list[tuple[bytes, Address]]:
        """What is to be sent now, each with the address it goes to."""
        datagrams = self.poll_few()
        if self.fan_out:
            datagrams += self.fan_out.pop()
        return datagrams

    def poll_few(self) -> list[tuple[bytes, Address]]:
        """All but media, which waits in the fan-out and is to be sent behind these: a handshake's end."""
        datagrams, self._farewells = self._farewells, []
        if self._speaking:
            speaking, self._speaking = self._speaking, {}
            for session in speaking:
                datagrams += session.transport.poll_datagrams()
        return datagrams

    # --- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When something of a session is due, at most once in a tick."""
        if self._touched:
            self._note_touched()
        first = self._due.first()
        return None if first == inf else max(first, self._next_tick)

    def _note_touched(self) -> None:
        """Look when the sessions are due that were touched."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        for session in touched:
            at = session.next_timeout()
            self._due.set(self._numbers[session], inf if at is None else at)

    def handle_timeout(self, now: float) -> list[Session]:
        """Run what is due; the sessions that are over, still to be removed by the caller."""
        at = self.next_timeout()
        if at is None or now < at:
            return []
        self._next_tick = now + TICK
        over = []
        bug: Exception | None = None
        for session in [self._numbered[number] for number in self._due.take(now)]:
            try:
                if session.closed is None:
                    session.handle_timeout(now)
                    session.drain_events(now)
            except Exception as error:  # raised again below: the other sessions' time goes on
                session.closed = session.closed or "a bug in the node"
                bug = bug or error
            self._touch(session)
            if session.closed is not None:
                over.append(session)
        if bug is not None:
            raise bug  # once: by the next tick its session is over
        return over

    def audit(self) -> list[str]:
        """Sessions that are due earlier than was noted, or have something to say untouched: none, ever."""
        self._note_touched()
        late = [
            session.id
            for session, number in self._numbers.items()
            if (at := session.next_timeout()) is not None and at < self._due.at(number)
        ]
        return late + [s.id for s in self._numbers if s not in self._speaking and s.transport.has_output]

    def debug_state(self) -> dict[str, object]:
        return {
            "refused": dict(self.refused),
            "sessions": [s.debug_state() for s in self._sessions.values()],
        }
