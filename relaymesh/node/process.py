"""A node as an operating system's process: its sockets, its HTTP server, and SIGTERM.

In: settings. Out: a :class:`~relaymesh.node.app.Node` that runs until it is told to stop. It decides
nothing about media or meshes.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass

import structlog
import trio

from relaymesh.kernels import chosen
from relaymesh.node.agent import JoinRefused
from relaymesh.node.app import Node, NodePorts
from relaymesh.node.driver import MakeDriver, TaskDriver, ThreadDriver
from relaymesh.node.offers import MediaEndpoint
from relaymesh.node.settings import NodeSettings
from relaymesh.node.signalling import make_app
from relaymesh.node.streams import StreamPort
from relaymesh.protocol.ids import name_hash
from relaymesh.protocol.messages import Address, SiteInfo
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.process import settle_heap, wait_for_stop
from relaymesh.runtime.settings import format_endpoint, is_wildcard, parse_endpoint
from relaymesh.runtime.udp import UdpPort
from relaymesh.runtime.watchdog import keep_watch
from relaymesh.webrtc.addresses import stream_address
from relaymesh.webrtc.certificate import Certificate

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOf:
    """What makes a process one worker of a site, beside its settings."""

    site: str
    number: int  # from 1
    workers: int
    http: socket.socket  # listens for the site's router, in the place of ``settings.http``


def open_ports(settings: NodeSettings) -> NodePorts:
    """The two UDP ports of a node on real sockets."""
    media = UdpPort.open(*parse_endpoint(settings.media))
    try:
        relay = UdpPort.open(*parse_endpoint(settings.relay))
    except OSError:
        media.close()
        raise
    return NodePorts(media, relay, _open_streams(media) if settings.media_tcp else None)


def _open_streams(media: UdpPort) -> StreamPort | None:
    """The same port for TCP; without it the node serves who can be reached by UDP."""
    try:
        return StreamPort.open(*media.address)
    except OSError as error:
        log.warning("no TCP for clients that UDP does not reach", media=media.address, why=str(error))
        return None


async def resolve(host: str, port: int) -> tuple[str, int]:
    """*host* as a literal IP address: peers and clients are given numbers, never names."""
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
    return str(found[0][4][0]), port


async def run_node(
    settings: NodeSettings,
    ports: NodePorts | None = None,
    worker: WorkerOf | None = None,
    *,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until SIGTERM or SIGINT; as a *worker* of a site, if it is one.

    Raises:
        OSError: a port cannot be bound.
        JoinRefused: the controller does not let this node in.
    """
    ports = ports or open_ports(settings)
    http_host, http_port = parse_endpoint(settings.http)
    try:
        http_socket = bind_http(http_host, http_port) if worker is None else worker.http
    except OSError:
        ports.close()
        raise
    if worker is None:
        http_port = http_socket.getsockname()[1]
    node = await _make_node(settings, ports, http_host, http_port, worker)
    structlog.contextvars.bind_contextvars(node=settings.name)
    log.info(
        "node starts",
        region=settings.region,
        media=format_endpoint(ports.media.address),
        relay=format_endpoint(ports.relay.address),
        http=node.http_url,
        kernels=chosen().name,
        pid=os.getpid(),
    )
    if chosen().refused:
        log.warning("other kernels than asked for", note=chosen().note)
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
            nursery.start_soon(keep_watch, node.driver.busy_s)
            settle_heap()
            task_status.started(node)
            await stopping.wait()
            node.close()
            # One turn for the farewell to reach the controller before the channel goes.
            with trio.move_on_after(0.2):
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    finally:
        ports.close()
    log.info("stopped")
    if refused:
        raise refused[0]


async def _make_node(
    settings: NodeSettings, ports: NodePorts, http_host: str, http_port: int, worker: WorkerOf | None
) -> Node:
    media_host, media_port = parse_endpoint(settings.media_address or settings.media)
    relay_host, relay_port = parse_endpoint(settings.relay_address or settings.relay)
    media_host, media_port = await resolve(media_host, media_port or ports.media.address[1])
    relay_host, relay_port = await resolve(relay_host, relay_port or ports.relay.address[1])
    scheme = "https" if settings.tls_cert is not None else "http"
    further = [await resolve(host, port or media_port) for host, port in settings.advertised]
    streams = [stream_address(*address) for address in ((media_host, media_port), *further)]
    if ports.streams is None:
        streams = []
    endpoint = MediaEndpoint(
        host=media_host,
        port=media_port,
        certificate=Certificate.generate(time.time()),
        ufrag_prefix=f"{name_hash(settings.name):016x}"[:6],
        further_addresses=(*further, *streams),
    )
    threaded = _thread_for(ports)
    return Node(
        settings,
        ports,
        endpoint,
        relay_address=Address(relay_host, relay_port),
        http_url=settings.http_url or f"{scheme}://{format_endpoint((http_host, http_port))}",
        site=None if worker is None else _site_of(worker, ports),
        make_driver=threaded or TaskDriver,
        clock=trio.current_time if threaded is None else time.monotonic,
    )


def _thread_for(ports: NodePorts) -> MakeDriver | None:
    """``None`` where the system cannot, or a port is no socket but a task that emulates links."""
    media, relay = ports.media, ports.relay
    if not (isinstance(media, UdpPort) and isinstance(relay, UdpPort) and ThreadDriver.is_possible()):
        return None
    return lambda node, *_: ThreadDriver(node, media, relay)


def _site_of(worker: WorkerOf, ports: NodePorts) -> SiteInfo:
    host, port = ports.relay.address
    if is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return SiteInfo(worker.site, worker.number, worker.workers, Address(host, port))
