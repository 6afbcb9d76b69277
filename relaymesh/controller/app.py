"""A controller process: the stages of :mod:`core` joined to the node channel, the API and the clock.

    nodes ⇄ server.NodeChannels ⇄ core.ControllerCore ⇄ api
                                       ↑ Timer
    store ⇄ leadership: one of several controllers leads; the others answer at the same ports as standbys

Everything runs in one trio task tree and one thread; the core is called from
these tasks and never waits. The caller of :func:`run_controller` owns its end.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from random import Random

import trio
from starlette.applications import Starlette

from relaymesh.controller.adjacency import KeySource
from relaymesh.controller.api import make_api
from relaymesh.controller.core import ControllerCore
from relaymesh.controller.edges_api import Locate
from relaymesh.controller.geo import open_geoip
from relaymesh.controller.leadership import Leadership
from relaymesh.controller.options import SILENCE_TIMEOUT_S, CoreOptions
from relaymesh.controller.policy import MeshPolicy, OpenMesh, TopologyPolicy
from relaymesh.controller.reign import Reign
from relaymesh.controller.seat import Seat
from relaymesh.controller.server import NodeChannels, open_listeners
from relaymesh.controller.settings import NO_API, ControllerSettings
from relaymesh.controller.standby import StandbyCore
from relaymesh.controller.store import Store, open_store, parse_store
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.process import settle_heap, wait_for_stop
from relaymesh.runtime.settings import parse_endpoint
from relaymesh.topology import Topology, TopologyError, load_topology, parse_topology

GOODBYE_S = 0.2  # for nodes to be told where to go

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of a running controller: (host, port) each."""

    nodes: tuple[str, int]
    api: tuple[str, int] | None  # None: it has no API


async def run_controller(
    settings: ControllerSettings,
    *,
    stop: trio.Event | None = None,
    key_source: KeySource = secrets.token_bytes,
    unix_time: Callable[[], float] = time.time,
    on_editable: Callable[[Callable[[Topology], None]], None] | None = None,
    store: Store | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until *stop* is set, then close all channels and let open API requests finish; or until cancelled.

    *key_source* makes the keys of links; *unix_time* (seconds) is for the expiry of join tokens.
    *on_editable* is called with a function that applies a topology as ``PUT /v1/topology`` does, for
    callers who run this in their own process; *store* replaces the one the settings name.

    Raises:
        OSError: an address cannot be bound, or a TLS file cannot be read (``ssl.SSLError``: or used).
        TopologyError: the topology file is invalid.
        GeoError: the MaxMind file cannot be used.
        StoreDown: the store is a file that cannot be used.
    """
    process = _Process(settings, key_source, unix_time)
    stopping = trio.Event() if stop is None else stop
    async with AsyncExitStack() as stack:
        if store is None and (spec := parse_store(settings.store)) is not None:
            store = await stack.enter_async_context(open_store(spec, Random(key_source(16))))
        ports = await _open_ports(settings, process.tls)
        if store is not None:
            process.compete(store, settings.node_url(*ports.addresses.nodes))
        if on_editable is not None:
            on_editable(process.apply)
        await process.serve(ports, stopping, task_status)


@dataclass(frozen=True, slots=True)
class _Ports:
    """Open ports, not yet served."""

    addresses: Addresses
    listeners: list[trio.abc.Listener[trio.abc.Stream]]
    api: socket.socket | None


async def _open_ports(settings: ControllerSettings, tls: ssl.SSLContext | None) -> _Ports:
    with ExitStack() as unserved:
        api_socket, api = _bind_api(settings)
        if api_socket is not None:
            unserved.callback(api_socket.close)
        host, port = parse_endpoint(settings.listen)
        listeners, port = await open_listeners(host, port, tls)
        unserved.pop_all()
    return _Ports(Addresses((host, port), api), listeners, api_socket)


class _Process:
    """The seat at the ports, and leadership where there is a store to compete for."""

    def __init__(
        self, settings: ControllerSettings, key_source: KeySource, unix_time: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._key_source = key_source
        policy, self.tls = _load_policy(settings), _tls_context(settings)
        locate = None if settings.geoip is None else open_geoip(settings.geoip)
        join_secret = settings.read_join_secret()
        self._leadership: Leadership | None = None
        self._seat = Seat(
            lambda reign: _make_core(settings, policy, key_source, unix_time, reign),
            lambda: StandbyCore(join_secret, unix_time, lambda: str(self._describe()["leader"])),
            partial(_make_api, settings, locate),
            None if settings.admin_token is None else settings.admin_token.get_secret_value(),
            self._describe,
        )

    def compete(self, store: Store, url: str) -> None:
        """Share *store* with other controllers, of which one leads; nodes reach this one at *url*."""
        rng, holder = Random(self._key_source(16)), self._key_source(8).hex()
        self._leadership = Leadership(store, self._seat, holder=holder, url=url, rng=rng)

    def apply(self, topology: Topology) -> None:
        """Apply a topology as ``PUT /v1/topology`` does, if this controller leads."""
        if self._seat.core is not None:
            self._seat.core.apply_topology(topology, trio.current_time(), author="this process")
            self._seat.changed()

    async def serve(
        self, ports: _Ports, stopping: trio.Event, task_status: trio.TaskStatus[Addresses]
    ) -> None:
        """Serve nodes and API until *stopping* is set; then let open API requests finish."""
        async with trio.open_nursery() as requests, trio.open_nursery() as background:
            if ports.api is not None:
                requests.start_soon(_serve_api, self._settings, self._seat, ports.api, stopping.wait)
            background.start_soon(trio.serve_listeners, self._seat.serve_stream, ports.listeners)
            leading = trio.CancelScope()
            if self._leadership is None:
                background.start_soon(self._seat.lead(Reign()).run)
            else:
                background.start_soon(_run_within, leading, self._leadership.run)
            log.info("controller ready", nodes=ports.addresses.nodes, api=ports.addresses.api)
            task_status.started(ports.addresses)
            await stopping.wait()
            log.info("controller stopping")
            if self._leadership is not None:
                leading.cancel()
                await self._leadership.give_back()
                await trio.sleep(GOODBYE_S)
            background.cancel_scope.cancel()

    def _describe(self) -> dict[str, object]:
        return {"role": "standby", "leader": ""} if self._leadership is None else self._leadership.describe()


async def _run_within(scope: trio.CancelScope, run: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await run()


async def serve_until_signal(settings: ControllerSettings) -> None:
    """Run a controller until SIGTERM or SIGINT."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_controller, settings, stop=stop))
        settle_heap()
        log.info("stop asked for", signal=await wait_for_stop())
        stop.set()


def _load_policy(settings: ControllerSettings) -> MeshPolicy:
    if settings.topology is None:
        return OpenMesh()
    topology = load_topology(settings.topology)
    for warning in topology.warnings:
        log.warning("topology", problem=str(warning))
    return TopologyPolicy(topology)


def _make_core(
    settings: ControllerSettings,
    policy: MeshPolicy,
    key_source: KeySource,
    unix_time: Callable[[], float],
    reign: Reign,
) -> ControllerCore:
    if reign.remembered.topology:
        try:
            policy = TopologyPolicy(parse_topology(reign.remembered.topology))
        except TopologyError as error:
            log.error("the topology that was applied cannot be read; the file holds", why=str(error))
        else:
            log.info("the topology that was applied last holds, and not the file")
    options = CoreOptions(
        join_secret=settings.read_join_secret(),
        probe_interval_ms=settings.probe_interval_ms,
        dead_after_ms=settings.dead_after_ms,
        report_interval_ms=settings.report_interval_ms,
        key_rotation_s=settings.key_rotation_s,
        objective=settings.objective,
        silence_timeout_s=max(SILENCE_TIMEOUT_S, 5 * settings.report_interval_ms / 1000),
    )
    return ControllerCore(options, policy, key_source=key_source, unix_time=unix_time, reign=reign)


def _tls_context(settings: ControllerSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


def _bind_api(settings: ControllerSettings) -> tuple[socket.socket | None, tuple[str, int] | None]:
    if settings.api_listen == NO_API:
        return None, None
    host, port = parse_endpoint(settings.api_listen)
    sock = bind_http(host, port)
    return sock, (host, sock.getsockname()[1])


def _make_api(
    settings: ControllerSettings,
    locate: Locate | None,
    core: ControllerCore,
    channels: NodeChannels,
    on_change: Callable[[], None],
) -> Starlette:
    token = settings.admin_token

    def on_applied(topology: Topology) -> None:
        on_change()

    return make_api(
        core,
        None if token is None else token.get_secret_value(),
        channels.debug_state,
        on_applied,
        locate=locate,
    )


async def _serve_api(
    settings: ControllerSettings, seat: Seat, sock: socket.socket, stop: Callable[[], Awaitable[None]]
) -> None:
    # Loopback needs no TLS; beyond it the settings see to it that there is a certificate.
    cert, key = (settings.tls_cert, settings.tls_key) if settings.api_is_public else (None, None)
    await serve_http(seat.app, sock, stop, tls_cert=cert, tls_key=key)
