"""A node as a process: the ring of sockets and tasks around :class:`~relaymesh.node.core.NodeCore`.

Datagrams and time come by a driver (:mod:`relaymesh.node.driver`), messages of the
controller by the agent, requests of clients by HTTP. After each touch the core is drained
fully: datagrams at once, by whoever touched it; messages and events in trio's thread. Whatever
calls the core holds the driver's lock, and awaits nothing meanwhile.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio
from starlette.routing import Route

from relaymesh.node.agent import Agent, client_tls
from relaymesh.node.core import NodeCore
from relaymesh.node.driver import MakeDriver, TaskDriver
from relaymesh.node.events import CoreEvent, LinkChanged, PublishAnswered, SessionEnded, SubscribeAnswered
from relaymesh.node.hitless import Hitless
from relaymesh.node.offers import MediaEndpoint, Negotiator, TransportFactory
from relaymesh.node.refusals import SignallingError
from relaymesh.node.session import Session
from relaymesh.node.settings import NodeSettings
from relaymesh.node.status import NodeStatus
from relaymesh.node.streams import StreamPort
from relaymesh.node.tap import Tap
from relaymesh.node.whip import Fragment, Opened
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    Address,
    ControllerMessage,
    Join,
    NodeMessage,
    ParticipantName,
    SiteInfo,
)
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.udp import DatagramPort
from relaymesh.webrtc.addresses import Address as ClientAddress
from relaymesh.webrtc.addresses import is_stream
from relaymesh.webrtc.transport import Transport

REPLY_TIMEOUT = 2.0  # s; of the controller, before a client is told to try again
RATE_INTERVAL = 1.0  # s

Batch = list[tuple[bytes, tuple[str, int]]]  # datagrams and where they came from

log = get_logger(__name__)


@dataclass(slots=True)
class NodePorts:
    """The sockets of a node, already bound; somebody else may supply other kinds of them."""

    media: DatagramPort
    relay: DatagramPort
    streams: StreamPort | None = None  # for clients that UDP does not reach
    tasks: list[Callable[[], Any]] = field(default_factory=list)  # what the ports need to have run
    routes: list[Route] = field(default_factory=list)  # HTTP routes they bring along

    def close(self) -> None:
        """Close all of them."""
        self.media.close()
        self.relay.close()
        if self.streams is not None:
            self.streams.close()


@dataclass(slots=True)
class Waiter:
    """Somebody waits for the controller's answer to one request."""

    done: trio.Event = field(default_factory=trio.Event)
    reason: str | None = None  # None = the channel broke


@dataclass(frozen=True, slots=True)
class Entropy:
    """Where a node's randomness comes from; the emulated network gives a seeded one."""

    rng: Random
    secret_bytes: Callable[[int], bytes]

    @classmethod
    def of_system(cls) -> Entropy:
        return cls(Random(secrets.randbits(128)), secrets.token_bytes)


class Node:
    """The running node: a core, its ports, and the calls signalling makes."""

    def __init__(
        self,
        settings: NodeSettings,
        ports: NodePorts,
        endpoint: MediaEndpoint,
        *,
        relay_address: Address,
        http_url: str,
        site: SiteInfo | None = None,
        entropy: Entropy | None = None,
        make_transport: TransportFactory = Transport,
        clock: Callable[[], float] = trio.current_time,
        make_driver: MakeDriver = TaskDriver,
        tap: Tap | None = None,
    ) -> None:
        """*clock*: seconds, never going back; what the node, its core and its driver take for now.
        *site*: where it is one worker of several on its host."""
        entropy = entropy or Entropy.of_system()
        self.settings = settings
        self.http_url = http_url
        self.clock = clock
        self._ports = ports
        self._tap = tap
        self._relay_address = relay_address
        self._site = site
        self._boot_id = entropy.secret_bytes(8).hex()
        self._waiters: dict[int, Waiter] = {}
        self.core = NodeCore(
            negotiator=Negotiator(endpoint, entropy.rng, entropy.secret_bytes, make_transport),
            max_sessions=settings.max_sessions,
            hitless=settings.hitless,
            rng=entropy.rng,
            now=clock(),
            tap=tap,
        )
        self.agent = Agent(
            settings.controllers,
            client_tls(settings.controllers, settings.ca),
            admits=self._admits,
            make_join=self._make_join,
            on_message=self._on_message,
            on_disconnected=self._on_disconnected,
            rng=entropy.rng,
        )
        self.driver = make_driver(self, ports.media, ports.relay)
        self._messages: deque[NodeMessage] = deque()  # for the controller, and …
        self._events: deque[CoreEvent] = deque()  # … for those who wait here, until trio's thread has them
        self._status = NodeStatus(settings.name, settings.region, self.core)

    # --- inputs --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything but HTTP: the two ports, time, and the control channel; cancel it.

        Raises:
            JoinRefused: the controller does not let this node in.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            nursery.start_soon(self._run_rates)
            if self._ports.streams is not None:
                nursery.start_soon(self._ports.streams.run, self)
            for extra in self._ports.tasks:
                nursery.start_soon(extra)
            await self.agent.run()

    def close(self) -> None:
        """Tell every client that the node stops."""
        with self.driver.lock:
            self.core.close(self.clock())
            self.drain()

    async def _run_rates(self) -> None:
        while True:
            with self.driver.lock:
                self._status.sample(self.clock())
            await trio.sleep(RATE_INTERVAL)

    def take_media(self, batch: Batch, now: float) -> None:
        """Datagrams of clients; :meth:`flush` sends what they cause."""
        self._guarded(self.core.handle_media_batch, batch, now, self._on_bug)

    def take_packets(self, packets: list[bytes], address: ClientAddress) -> None:
        """Packets of a client on a stream, and everything they cause."""
        with self.driver.lock:
            self.take_media([(packet, address) for packet in packets], self.clock())
            self.drain()

    def vouches_for(self, address: ClientAddress) -> bool:
        """Whether the client on a stream has a session."""
        with self.driver.lock:
            return self.core.edge.knows(address)

    def take_relay(self, batch: Batch, now: float) -> None:
        """Datagrams of other nodes; :meth:`flush` sends what they cause."""
        self._guarded(self.core.handle_relay_batch, [data for data, _ in batch], now, self._on_bug)

    def take_time(self, now: float) -> None:
        """What was due; :meth:`flush` sends what it causes."""
        self._guarded(self.core.handle_timeout, now)

    def next_timeout(self) -> float | None:
        """When :meth:`take_time` is to be called."""
        return self.core.next_timeout()

    def _admits(self, message: ControllerMessage) -> bool:
        with self.driver.lock:
            return self.core.fence.admits(message)

    def _on_message(self, message: Any) -> None:
        log.debug("controller says", message=type(message).__name__)
        with self.driver.lock:
            if self._tap is None or self._tap.lets_in(message):
                self._guarded(self.core.handle_message, message, self.clock())
            self.drain()

    def _on_disconnected(self) -> None:
        with self.driver.lock:
            self.core.handle_disconnected()
            self._messages.clear()  # said of a channel that is gone; the next join says it all
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.done.set()

    def _guarded(self, handle: Callable[..., None], *arguments: Any) -> None:
        """A bug that one datagram, session or message wakes must not end the node for all the others."""
        try:
            handle(*arguments)
        except Exception as bug:
            self._on_bug(bug)

    def _on_bug(self, bug: Exception) -> None:
        self.core.forwarder.dropped["bug"] += 1
        log.error("bug in the node; the input that woke it is dropped", exc_info=bug)

    # --- outputs -------------------------------------------------------------------------------

    def drain(self) -> None:
        """After a touch that the driver did not make: send all, and heed when the core is due."""
        self.flush()
        self.driver.poke()

    def flush(self) -> None:
        """Hand out everything the core wants said."""
        core = self.core
        if datagrams := core.edge.poll_few():
            self._send_to_clients(datagrams)
        if core.edge.fan_out:
            self._ports.media.send_fan_out(core.edge.fan_out)
        if datagrams := core.poll_relay_datagrams():
            self._ports.relay.send_batch(datagrams)
        messages, events = core.poll_messages(), core.poll_events()
        if messages or events:
            self._messages += messages
            self._events += events
            self.driver.tell(self._hand_out)

    def _send_to_clients(self, datagrams: Batch) -> None:
        streams = self._ports.streams
        if streams is not None and len(streams):
            streams.send_batch([datagram for datagram in datagrams if is_stream(datagram[1])])
            datagrams = [datagram for datagram in datagrams if not is_stream(datagram[1])]
        self._ports.media.send_batch(datagrams)

    def _hand_out(self) -> None:
        """In trio's thread: what was said since the last time, in its order."""
        if self._messages:
            messages = [self._messages.popleft() for _ in range(len(self._messages))]
            tap = self._tap
            self.agent.offer(messages if tap is None else [one for one in messages if tap.lets_out(one)])
        while self._events:
            self._on_event(self._events.popleft())

    def _on_event(self, event: CoreEvent) -> None:
        if isinstance(event, PublishAnswered):
            self._answer(event.request, event.reason)
        elif isinstance(event, SubscribeAnswered):
            self._answer(event.request, "" if event.found else "not found")
        elif isinstance(event, LinkChanged):
            log.info("link up" if event.up else "link down", peer=event.peer)
        elif isinstance(event, SessionEnded):
            log.info(
                "session ended",
                session=event.session[:8],
                role=event.role,
                room=event.room,
                participant=event.participant,
                why=event.reason,
            )

    def _answer(self, request: int, reason: str) -> None:
        waiter = self._waiters.pop(request, None)
        if waiter is not None:
            waiter.reason = reason
            waiter.done.set()

    async def _reply(self, request: int) -> str | None:
        """The controller's answer; ``None`` when there was none in time."""
        waiter = self._waiters[request] = Waiter()
        with self.driver.lock:
            self.drain()
        with trio.move_on_after(REPLY_TIMEOUT):
            await waiter.done.wait()
        self._waiters.pop(request, None)
        return waiter.reason

    def _make_join(self) -> Join:
        with self.driver.lock:
            state = self.core.join_state()
        return Join(
            version=CONTROL_VERSION,
            name=self.settings.name,
            region=self.settings.region,
            token=self.settings.token.get_secret_value(),
            boot_id=self._boot_id,
            relay=self._relay_address,
            http_url=self.http_url,
            max_sessions=self.settings.max_sessions,
            site=self._site,
            **state,  # type: ignore[arg-type]
        )

    # --- signalling ----------------------------------------------------------------------------

    async def publish(
        self,
        name: ParticipantName,
        offer: str,
        prefer: tuple[str, ...],
        hitless: Hitless | None = None,
        credential: bytes = b"",
        *,
        partial: bool = False,
    ) -> Opened:
        with self.driver.lock:
            session, answer = self.core.publish(
                name, offer, prefer, self.clock(), hitless, credential, partial=partial
            )
            self.drain()
            publication = session.publication
            assert publication is not None, "it was made to publish"
            request = self.core.directory.announce(publication) if self.core.outbox.connected else None
        if request is not None:
            reason = await self._reply(request)
            if reason:  # the core has ended the session
                raise SignallingError(409, reason)
        # Without a controller it is served here, and announced when it is back.
        return self._opened(session, answer)

    async def play(self, name: ParticipantName, offer: str, *, partial: bool = False) -> Opened:
        directory = self.core.directory
        with self.driver.lock:
            publication = directory.find(name)
            connected = self.core.outbox.connected
            request = directory.subscribe(name) if publication is None and connected else None
        if request is not None:
            reason = await self._reply(request)
            if reason is None:
                raise SignallingError(503, "the controller did not answer in time")
        elif publication is None:
            raise SignallingError(
                503, "this node does not know the publication and cannot ask the controller now"
            )
        with self.driver.lock:
            publication = directory.find(name)
            if publication is None:
                raise SignallingError(404, f"nobody publishes as {name.participant} in {name.room}")
            session, answer = self.core.play(publication, offer, self.clock(), partial=partial)
            self.drain()
        return self._opened(session, answer)

    def _opened(self, session: Session, answer: str) -> Opened:
        room, participant = session.name.room, session.name.participant
        log.info(session.role, session=session.id[:8], room=room, participant=participant)
        if session.refused:
            parts = [str(section) for section in session.refused]
            log.warning("part of the offer is refused", session=session.id[:8], refused=parts)
        return Opened(session.id, answer, session.transport.credentials.ufrag, session.refused)

    def ice_tag(self, session_id: str) -> str | None:
        session = self.core.edge.get(session_id)
        return session.transport.credentials.ufrag if session is not None else None

    def take_fragment(self, session_id: str, text: str, *, may_restart: bool) -> Fragment | None:
        with self.driver.lock:
            session = self.core.edge.get(session_id)
            if session is None:
                raise SignallingError(404, "no such session; it may have ended")
            fragment = self.core.admission.handle_fragment(
                session, text, self.clock(), may_restart=may_restart
            )
            self.drain()
        if fragment is None:
            return None
        log.info("ICE restarts", session=session.id[:8])
        return Fragment(fragment, session.transport.credentials.ufrag)

    def end(self, session_id: str) -> bool:
        with self.driver.lock:
            session = self.core.edge.get(session_id)
            if session is None:
                return False
            self.core.end_session(session, "the client left", self.clock())
            self.drain()
        return True

    def status(self) -> dict[str, object]:
        with self.driver.lock:
            return self._status.snapshot(self.clock())
