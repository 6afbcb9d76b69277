"""A node as a process: the ring of sockets and tasks around :class:`~relaymesh.node.core.NodeCore`.

Tasks, each a few lines: media port → core, relay port → core, timer → core,
controller ↔ core (agent), HTTP → core (signalling). After each touch the core
is drained fully: datagrams, messages, events. All of it is trio; nothing here
awaits between reading a batch of packets and sending what they caused.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog
import trio
from starlette.routing import Route

from relaymesh.node.agent import Agent, JoinRefused, client_tls
from relaymesh.node.core import NodeCore
from relaymesh.node.events import LinkChanged, PublishAnswered, SessionEnded, SubscribeAnswered
from relaymesh.node.hitless import Hitless
from relaymesh.node.offers import MediaEndpoint, Negotiator, SignallingError, TransportFactory
from relaymesh.node.settings import NodeSettings
from relaymesh.node.signalling import make_app
from relaymesh.node.status import NodeStatus
from relaymesh.node.tap import Tap
from relaymesh.protocol.ids import name_hash
from relaymesh.protocol.messages import CONTROL_VERSION, Address, Join, ParticipantName
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.process import settle_heap, wait_for_stop
from relaymesh.runtime.settings import format_endpoint, parse_endpoint
from relaymesh.runtime.timer import Timer
from relaymesh.runtime.udp import DatagramPort, UdpPort
from relaymesh.webrtc.certificate import Certificate
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
    tasks: list[Callable[[], Any]] = field(default_factory=list)  # what the ports need to have run
    routes: list[Route] = field(default_factory=list)  # HTTP routes they bring along


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
        entropy: Entropy | None = None,
        make_transport: TransportFactory = Transport,
        clock: Callable[[], float] = trio.current_time,
        make_timer: Callable[[Callable[[], float | None], Callable[[float], None]], Timer] = Timer,
        tap: Tap | None = None,
    ) -> None:
        """*clock*: seconds, never going back; what the node and its core take for now, and its timer too."""
        entropy = entropy or Entropy.of_system()
        self.settings = settings
        self.http_url = http_url
        self.clock = clock
        self._ports = ports
        self._tap = tap
        self._relay_address = relay_address
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
            admits=self.core.fence.admits,
            make_join=self._make_join,
            on_message=self._on_message,
            on_disconnected=self._on_disconnected,
            rng=entropy.rng,
        )
        self.timer = make_timer(self.core.next_timeout, self._on_timeout)
        self._status = NodeStatus(settings.name, settings.region, self.core)

    # --- inputs --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything but HTTP: the two ports, time, and the control channel; cancel it.

        Raises:
            JoinRefused: the controller does not let this node in.
        """
        async with trio.open_nursery() as nursery:
            for task in (self._run_media_port, self._run_relay_port, self.timer.run, self._run_rates):
                nursery.start_soon(task)
            for extra in self._ports.tasks:
                nursery.start_soon(extra)
            await self.agent.run()

    async def _run_media_port(self) -> None:
        while True:
            self.handle_media(await self._ports.media.receive())

    async def _run_relay_port(self) -> None:
        while True:
            self.handle_relay(await self._ports.relay.receive())

    def handle_media(self, batch: Batch) -> None:
        """Datagrams of clients, and everything they cause."""
        handle, now = self.core.handle_media_datagram, self.clock()
        for data, address in batch:
            self._guarded(handle, data, address, now)
        self.drain()

    def handle_relay(self, batch: Batch) -> None:
        """Datagrams of other nodes, and everything they cause."""
        handle, now = self.core.handle_relay_datagram, self.clock()
        for data, _ in batch:
            self._guarded(handle, data, now)
        self.drain()

    async def _run_rates(self) -> None:
        while True:
            self._status.sample(self.clock())
            await trio.sleep(RATE_INTERVAL)

    def _on_timeout(self, now: float) -> None:
        self._guarded(self.core.handle_timeout, now)
        self.drain()

    def _on_message(self, message: Any) -> None:
        log.debug("controller says", message=type(message).__name__)
        if self._tap is None or self._tap.lets_in(message):
            self._guarded(self.core.handle_message, message, self.clock())
        self.drain()

    def _on_disconnected(self) -> None:
        self.core.handle_disconnected()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.done.set()

    def _guarded(self, handle: Callable[..., None], *arguments: Any) -> None:
        """A bug that one datagram, session or message wakes must not end the node for all the others."""
        try:
            handle(*arguments)
        except Exception:
            self.core.forwarder.dropped["bug"] += 1
            log.exception("bug in the node; the input that woke it is dropped")

    # --- outputs -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Hand out everything the core wants said."""
        core = self.core
        if datagrams := core.poll_media_datagrams():
            self._ports.media.send_batch(datagrams)
        if datagrams := core.poll_relay_datagrams():
            self._ports.relay.send_batch(datagrams)
        if messages := core.poll_messages():
            tap = self._tap
            self.agent.offer(messages if tap is None else [one for one in messages if tap.lets_out(one)])
        for event in core.poll_events():
            self._on_event(event)

    def _on_event(self, event: object) -> None:
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
        self.drain()
        with trio.move_on_after(REPLY_TIMEOUT):
            await waiter.done.wait()
        self._waiters.pop(request, None)
        return waiter.reason

    def _make_join(self) -> Join:
        return Join(
            version=CONTROL_VERSION,
            name=self.settings.name,
            region=self.settings.region,
            token=self.settings.token.get_secret_value(),
            boot_id=self._boot_id,
            relay=self._relay_address,
            http_url=self.http_url,
            max_sessions=self.settings.max_sessions,
            **self.core.join_state(),  # type: ignore[arg-type]
        )

    # --- signalling ----------------------------------------------------------------------------

    async def publish(
        self,
        name: ParticipantName,
        offer: str,
        prefer: tuple[str, ...],
        hitless: Hitless | None = None,
        credential: bytes = b"",
    ) -> tuple[str, str]:
        session, answer = self.core.publish(name, offer, prefer, self.clock(), hitless, credential)
        self.timer.poke()
        publication = session.publication
        assert publication is not None, "it was made to publish"
        if self.core.outbox.connected:
            reason = await self._reply(self.core.directory.announce(publication))
            if reason:  # the core has ended the session
                raise SignallingError(409, reason)
        # Without a controller it is served here, and announced when it is back.
        log.info("publisher", session=session.id[:8], room=name.room, participant=name.participant)
        return session.id, answer

    async def play(self, name: ParticipantName, offer: str) -> tuple[str, str]:
        directory = self.core.directory
        publication = directory.find(name)
        if publication is None:
            if not self.core.outbox.connected:
                raise SignallingError(
                    503, "this node does not know the publication and cannot ask the controller now"
                )
            reason = await self._reply(directory.subscribe(name))
            if reason is None:
                raise SignallingError(503, "the controller did not answer in time")
            publication = directory.find(name)
        if publication is None:
            raise SignallingError(404, f"nobody publishes as {name.participant} in {name.room}")
        session, answer = self.core.play(publication, offer, self.clock())
        self.timer.poke()
        log.info("player", session=session.id[:8], room=name.room, participant=name.participant)
        return session.id, answer

    def has_session(self, session_id: str) -> bool:
        return self.core.edge.get(session_id) is not None

    def end(self, session_id: str) -> bool:
        session = self.core.edge.get(session_id)
        if session is None:
            return False
        self.core.end_session(session, "the client left", self.clock())
        self.drain()
        return True

    def status(self) -> dict[str, object]:
        return self._status.snapshot(self.clock())


def open_ports(settings: NodeSettings) -> NodePorts:
    """The two UDP ports of a node on real sockets."""
    media = UdpPort.open(*parse_endpoint(settings.media))
    try:
        relay = UdpPort.open(*parse_endpoint(settings.relay))
    except OSError:
        media.close()
        raise
    return NodePorts(media, relay)


async def resolve(host: str, port: int) -> tuple[str, int]:
    """*host* as a literal IP address: peers and clients are given numbers, never names."""
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
    return str(found[0][4][0]), port


async def run_node(
    settings: NodeSettings,
    ports: NodePorts | None = None,
    *,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises:
        OSError: a port cannot be bound.
        JoinRefused: the controller does not let this node in.
    """
    ports = ports or open_ports(settings)
    http_host, http_port = parse_endpoint(settings.http)
    try:
        http_socket = bind_http(http_host, http_port)
    except OSError:
        ports.media.close()
        ports.relay.close()
        raise
    node = await _make_node(settings, ports, http_host, http_socket.getsockname()[1])
    structlog.contextvars.bind_contextvars(node=settings.name)
    log.info(
        "node starts",
        region=settings.region,
        media=format_endpoint(ports.media.address),
        relay=format_endpoint(ports.relay.address),
        http=node.http_url,
        pid=os.getpid(),
    )
    stopping = trio.Event()
    refused: list[JoinRefused] = []

    async def run_inside() -> None:
        try:
            await node.run()
        except* JoinRefused as group:
            refused.extend(error for error in group.exceptions if isinstance(error, JoinRefused))
            stopping.set()

    async def watch_signals() -> None:
        log.info("stopping", signal=await wait_for_stop())
        stopping.set()

    app = make_app(node, ports.routes)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: serve_http(
                    app,
                    http_socket,
                    stopping.wait,
                    tls_cert=settings.tls_cert,
                    tls_key=settings.tls_key,
                    task_status=task_status,
                )
            )
            nursery.start_soon(run_inside)
            nursery.start_soon(watch_signals)
            settle_heap()
            task_status.started(node)
            await stopping.wait()
            node.core.close(node.clock())
            node.drain()
            # One turn for the farewell to reach the controller before the channel goes.
            with trio.move_on_after(0.2):
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    finally:
        ports.media.close()
        ports.relay.close()
    log.info("stopped")
    if refused:
        raise refused[0]


async def _make_node(settings: NodeSettings, ports: NodePorts, http_host: str, http_port: int) -> Node:
    media_host, media_port = parse_endpoint(settings.media_address or settings.media)
    relay_host, relay_port = parse_endpoint(settings.relay_address or settings.relay)
    media_host, media_port = await resolve(media_host, media_port or ports.media.address[1])
    relay_host, relay_port = await resolve(relay_host, relay_port or ports.relay.address[1])
    scheme = "https" if settings.tls_cert is not None else "http"
    endpoint = MediaEndpoint(
        host=media_host,
        port=media_port,
        certificate=Certificate.generate(time.time()),
        ufrag_prefix=f"{name_hash(settings.name):016x}"[:6],
    )
    return Node(
        settings,
        ports,
        endpoint,
        relay_address=Address(relay_host, relay_port),
        http_url=settings.http_url or f"{scheme}://{format_endpoint((http_host, http_port))}",
    )
