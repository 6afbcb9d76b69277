"""A controller process: the stages of :mod:`core` joined to the node channel, the API and the clock.

    nodes ⇄ server.NodeChannels ⇄ core.ControllerCore ⇄ api
                                       ↑ Timer

Everything runs in one trio task tree and one thread; the core is called from
these tasks and never waits. Who calls :func:`run_controller` owns its end.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import trio
from starlette.applications import Starlette

from relaymesh.controller.adjacency import KeySource
from relaymesh.controller.api import make_api
from relaymesh.controller.core import SILENCE_TIMEOUT_S, ControllerCore, CoreOptions
from relaymesh.controller.edges_api import Locate
from relaymesh.controller.geo import open_geoip
from relaymesh.controller.policy import MeshPolicy, OpenMesh, TopologyPolicy
from relaymesh.controller.server import NodeChannels, open_listeners
from relaymesh.controller.settings import NO_API, ControllerSettings
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.process import settle_heap, wait_for_stop
from relaymesh.runtime.settings import parse_endpoint
from relaymesh.runtime.timer import Timer
from relaymesh.topology import Topology, load_topology

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running controller is reached: (host, port) each."""

    nodes: tuple[str, int]
    api: tuple[str, int] | None  # None: it has no API


async def run_controller(
    settings: ControllerSettings,
    *,
    stop: trio.Event | None = None,
    key_source: KeySource = secrets.token_bytes,
    unix_time: Callable[[], float] = time.time,
    on_editable: Callable[[Callable[[Topology], None]], None] | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until *stop* is set, then close all channels and let open API requests finish; or until cancelled.

    *key_source* makes the keys of links; *unix_time* (seconds) says whether a join token has expired.
    *on_editable* is given what applies a topology as ``PUT /v1/topology`` does, for who runs this in
    their own process.

    Raises:
        OSError: an address cannot be bound, or a TLS file cannot be read (``ssl.SSLError``: or used).
        TopologyError: the topology file is none.
        GeoError: the MaxMind file cannot be used.
    """
    stopping = trio.Event() if stop is None else stop
    core = _make_core(settings, key_source, unix_time)
    locate = None if settings.geoip is None else open_geoip(settings.geoip)
    tls = _tls_context(settings)
    with ExitStack() as unserved:
        api_socket, api = _bind_api(settings)
        if api_socket is not None:
            unserved.callback(api_socket.close)
        host, port = parse_endpoint(settings.listen)
        listeners, port = await open_listeners(host, port, tls)
        unserved.pop_all()

    def on_change() -> None:
        channels.flush()
        for event in core.poll_events():
            log.info(event.name, **event.fields)
        timer.poke()

    def on_timeout(now: float) -> None:
        core.handle_timeout(now)
        on_change()

    def apply(topology: Topology) -> None:
        core.apply_topology(topology, trio.current_time(), author="this process")
        on_change()

    channels = NodeChannels(core, on_change)
    if on_editable is not None:
        on_editable(apply)
    timer = Timer(core.next_timeout, on_timeout)
    async with trio.open_nursery() as requests, trio.open_nursery() as background:
        if api_socket is not None:
            api_app = _make_api(settings, core, channels, on_change, locate)
            requests.start_soon(_serve_api, settings, api_app, api_socket, stopping.wait)
        background.start_soon(trio.serve_listeners, channels.serve_stream, listeners)
        background.start_soon(timer.run)
        addresses = Addresses((host, port), api)
        log.info("controller ready", nodes=addresses.nodes, api=addresses.api)
        task_status.started(addresses)
        await stopping.wait()
        log.info("controller stopping")
        background.cancel_scope.cancel()


async def serve_until_signal(settings: ControllerSettings) -> None:
    """Run a controller until SIGTERM or SIGINT."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_controller, settings, stop=stop))
        settle_heap()
        log.info("stop asked for", signal=await wait_for_stop())
        stop.set()


def _make_core(
    settings: ControllerSettings, key_source: KeySource, unix_time: Callable[[], float]
) -> ControllerCore:
    policy: MeshPolicy = OpenMesh()
    if settings.topology is not None:
        topology = load_topology(settings.topology)
        for warning in topology.warnings:
            log.warning("topology", problem=str(warning))
        policy = TopologyPolicy(topology)
    options = CoreOptions(
        join_secret=settings.read_join_secret(),
        probe_interval_ms=settings.probe_interval_ms,
        dead_after_ms=settings.dead_after_ms,
        report_interval_ms=settings.report_interval_ms,
        key_rotation_s=settings.key_rotation_s,
        objective=settings.objective,
        silence_timeout_s=max(SILENCE_TIMEOUT_S, 5 * settings.report_interval_ms / 1000),
    )
    return ControllerCore(options, policy, key_source=key_source, unix_time=unix_time)


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
    core: ControllerCore,
    channels: NodeChannels,
    on_change: Callable[[], None],
    locate: Locate | None,
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
    settings: ControllerSettings, app: Starlette, sock: socket.socket, stop: Callable[[], Awaitable[None]]
) -> None:
    # Loopback needs no TLS; beyond it the settings see to it that there is a certificate.
    cert, key = (settings.tls_cert, settings.tls_key) if settings.api_is_public else (None, None)
    await serve_http(app, sock, stop, tls_cert=cert, tls_key=key)
