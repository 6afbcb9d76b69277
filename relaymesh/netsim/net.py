"""The emulated network: hosts with addresses, links between them, packets under way.

In: datagrams and stream segments, each from one host to another. Out: the same
at the other end, when the link's model says so. It holds the timeline of a
virtual run (:mod:`relaymesh.netsim.clock`) and delivers from inside its jumps.
Sizes are what an IP link carries: header and payload.

A host is an IP address. Which host a task stands on is a context variable, so
a whole node with all tasks it starts is put somewhere with one ``with``::

    with network.on_host("10.0.0.1"):
        nursery.start_soon(node.run)

What it must not know: what is in a packet.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import trio

from relaymesh.netsim.clock import Timeline
from relaymesh.netsim.hosts import HOST, ip_header_bytes, os_error
from relaymesh.netsim.ports import SimUdpPort
from relaymesh.netsim.sockets import Resolver, SimSocketFactory
from relaymesh.netsim.streams import StreamSocket
from relaymesh.netsim.trace import Trace, way_name
from relaymesh.runtime.udp import RECEIVE_BYTES, Address

LOOPBACK_S = 20e-6  # from a host to itself
FIRST_FREE_PORT = 49152  # RFC 6335 §6: dynamic ports
LAST_PORT = 65535
UDP_HEADER_BYTES = 8
MAX_UDP_PAYLOAD = 65_507

# (kind "udp" or "stream", from, to, bytes on the wire, sent at, delivered at or None when it was lost)
PacketHook = Callable[[str, Address, Address, int, float, float | None], None]


class Link(Protocol):
    """One direction between two hosts; :class:`~relaymesh.netsim.link_model.LinkModel` is one."""

    def due(self, now: float, size: int) -> tuple[float, ...]:
        """When a packet of *size* bytes sent at *now* arrives: never, once, or more than once."""


class _Loopback:
    """A host to itself."""

    def due(self, now: float, size: int) -> tuple[float, ...]:
        return (now + LOOPBACK_S,)


class _NoWay:
    """Where there is no link, or a partition between."""

    def due(self, now: float, size: int) -> tuple[float, ...]:
        return ()


LOOPBACK, NO_WAY = _Loopback(), _NoWay()


# Datagrams of one way that arrive together: bytes, size on the wire, when it was sent (s).
Burst = list[tuple[bytes, int, float]]
Ways = dict[Address, dict[Address, "Way"]]  # by source, then by target


class Way:
    """From one address to another: what every packet on it would have to look up."""

    __slots__ = ("burst", "burst_due", "header_bytes", "link", "name", "source", "target", "why")

    def __init__(self, source: Address, target: Address, link: Link) -> None:
        self.source = source
        self.target = target
        self.link = link
        self.name = way_name(source, target)
        self.header_bytes = ip_header_bytes(source[0]) + UDP_HEADER_BYTES
        self.why = "no-way" if link is NO_WAY else "link"  # why a packet on it is lost
        # The datagrams under way that arrive last, all at one time: a burst is one event.
        self.burst: Burst | None = None
        self.burst_due = 0.0  # s; when it arrives


class Network:
    """Everything between the hosts of one virtual run; use a new one for each run.

    *link* names the direction from one host to another; it is asked once for
    each pair. ``None``: there is no way. *names* is the whole DNS. With
    *grain* (seconds) packets arrive at multiples of it, later than they would
    by less than one grain; fewer, fuller wake-ups make a run faster.
    """

    def __init__(
        self,
        seed: int,
        link: Callable[[str, str], Link | None],
        names: Mapping[str, str] | None = None,
        *,
        trace: bool = True,
        start: float = 0.0,
        grain: float = 0.0,
    ) -> None:
        self.seed = seed
        self.names = dict(names or {})
        self.timeline = Timeline(start)
        self.on_packet: list[PacketHook] = []
        self.packets = 0  # delivered, segments of streams among them
        self.sent = 0
        self.dropped: Counter[str] = Counter()  # why: how many
        self._link = link
        self._links: dict[tuple[str, str], Link] = {}
        self._parted: list[tuple[frozenset[str], frozenset[str]]] = []
        self._ways: Ways = {}
        self._ports: dict[Address, SimUdpPort] = {}
        self._listeners: dict[Address, StreamSocket] = {}
        self._streams: dict[str, dict[StreamSocket, None]] = {}  # by host, in order of making
        self._next_port: Counter[str] = Counter()
        self._trace = Trace() if trace else None
        self._grain = grain

    # --- where and when ------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual time, in seconds."""
        return self.timeline.now

    def at(self, when: float, act: Callable[..., object], *arguments: Any) -> None:
        """Call *act* at *when* (seconds), between the steps of tasks; it must not block."""
        self.timeline.at(when, act, *arguments)

    @contextmanager
    def on_host(self, host: str) -> Iterator[None]:
        """Tasks started inside, and theirs, stand on *host*."""
        token = HOST.set(host)
        try:
            yield
        finally:
            HOST.reset(token)

    def install(self) -> None:
        """Make this the network of the trio run it is called in."""
        trio.socket.set_custom_socket_factory(self.socket_factory())
        trio.socket.set_custom_hostname_resolver(Resolver(self.names))

    def socket_factory(self, host: str | None = None) -> SimSocketFactory:
        """Sockets on *host*; without one, on the host of the task that asks."""
        return SimSocketFactory(self, host)

    def udp_port(self, host: str, port: int) -> SimUdpPort:
        """Bind a UDP port (0 picks a free one).

        Raises:
            OSError: the port is taken.
        """
        address = (host, port or self.free_port(host))
        if address in self._ports:
            raise os_error(errno.EADDRINUSE)
        opened = self._ports[address] = SimUdpPort(self, address)
        return opened

    def forget_port(self, port: SimUdpPort) -> None:
        """*port* was closed."""
        if self._ports.get(port.address) is port:
            del self._ports[port.address]

    def listener(self, address: Address) -> StreamSocket | None:
        """Who takes connections to *address*."""
        return self._listeners.get(address)

    def add_listener(self, address: Address, listener: StreamSocket) -> None:
        """*listener* takes connections to *address* from now on.

        Raises:
            OSError: another one does.
        """
        if self._listeners.setdefault(address, listener) is not listener:
            raise os_error(errno.EADDRINUSE)

    def add_stream(self, host: str, stream: StreamSocket) -> None:
        """*stream* was made on *host*."""
        self._streams.setdefault(host, {})[stream] = None

    def forget_stream(self, host: str, stream: StreamSocket) -> None:
        """*stream* was closed; it may have been a listener."""
        self._streams.get(host, {}).pop(stream, None)
        address = stream.getsockname()
        if self._listeners.get(address) is stream:
            del self._listeners[address]

    def free_port(self, host: str) -> int:
        """A port of *host* that nothing is bound to."""
        for _ in range(LAST_PORT - FIRST_FREE_PORT + 1):
            port = FIRST_FREE_PORT + self._next_port[host] % (LAST_PORT - FIRST_FREE_PORT + 1)
            self._next_port[host] += 1
            if (host, port) not in self._ports and (host, port) not in self._listeners:
                return port
        raise os_error(errno.EADDRINUSE)

    # --- faults --------------------------------------------------------------------------------

    def kill_host(self, host: str, *, reset: bool = True) -> None:
        """Everything open on *host* is closed as by a crash; it may be opened anew at once.

        Its tasks are the caller's: cancel them in the same step, before, and
        they have no time to say goodbye; what they still try fails.

        With *reset* the peers of its streams are told, as the kernel of a machine
        does for a process; without, as when the power fails, they find out by themselves.
        """
        for address, port in list(self._ports.items()):
            if address[0] == host:
                port.close()
        for stream in list(self._streams.get(host, ())):
            stream.die(reset=reset)

    def partition(self, one: Collection[str], other: Collection[str]) -> None:
        """Nothing sent from now on passes between the hosts of *one* and of *other*. Partitions add up."""
        self._parted.append((frozenset(one), frozenset(other)))
        self._ways.clear()

    def heal(self) -> None:
        """Undo all partitions."""
        self._parted.clear()
        self._ways.clear()

    def has_way(self, source: str, target: str) -> bool:
        """Whether there is a link from one host to another, be it down or behind a partition."""
        return self._find_link(source, target) is not NO_WAY

    def _find_link(self, source: str, target: str) -> Link:
        pair = (source, target)
        if pair not in self._links:
            self._links[pair] = LOOPBACK if source == target else self._link(*pair) or NO_WAY
        return self._links[pair]

    def _find_way(self, source: Address, target: Address) -> Way:
        """The way from one address to another as it is now; forgotten when partitions change."""
        link = self._find_link(source[0], target[0])
        for one, other in self._parted:
            if (source[0] in one and target[0] in other) or (source[0] in other and target[0] in one):
                link = NO_WAY
        way = self._ways.setdefault(source, {})[target] = Way(source, target, link)
        return way

    def _way(self, source: Address, target: Address) -> Way:
        ways = self._ways.get(source)
        return (ways.get(target) if ways is not None else None) or self._find_way(source, target)

    # --- datagrams -----------------------------------------------------------------------------

    def send_datagrams(self, source: Address, datagrams: Iterable[tuple[bytes, Address]]) -> int:
        """Send each to its address; how many were too long to be sent."""
        timeline, ways = self.timeline, self._ways.setdefault(source, {})
        now, grain = timeline.now, self._grain
        too_long = 0
        for data, target in datagrams:
            length = len(data)
            if length > MAX_UDP_PAYLOAD:
                too_long += 1
                continue
            way = ways.get(target) or self._find_way(source, target)
            self.sent += 1
            size = length + way.header_bytes
            if length > RECEIVE_BYTES:
                data = data[:RECEIVE_BYTES]  # no port takes more
            arrivals = way.link.due(now, size)
            for when in arrivals:
                if grain:
                    when = self._on_grain(when)
                if way.burst is not None and way.burst_due == when:
                    way.burst.append((data, size, now))
                else:
                    way.burst, way.burst_due = [(data, size, now)], when
                    timeline.at(when, self._deliver, way, way.burst)
            if not arrivals:
                self._lose("udp", way, size, now, way.why)
        return too_long

    def _deliver(self, way: Way, burst: Burst) -> None:
        if way.burst is burst:
            way.burst = None
        port, source, now = self._ports.get(way.target), way.source, self.timeline.now
        batch: list[tuple[bytes, Address]] = []  # for a port that takes what arrives in one instant together
        for data, size, sent_at in burst:
            if port is not None and port.closed:  # by what one of them reached
                port = self._ports.get(way.target)
            if port is None:
                self._lose("udp", way, size, sent_at, "nobody")
                continue
            if port.takes_batches:
                batch.append((data, source))
            elif port.handler is not None:
                port.handler(data, source)
            elif not port.arrive(data, source):
                self._lose("udp", way, size, sent_at, "queue-full")
                continue
            self.packets += 1
            if self._trace is not None:
                self._trace.add(now, way.name, size, data)
            for hook in self.on_packet:
                hook("udp", source, way.target, size, sent_at, now)
        if batch and port is not None:
            port.take_batch(batch, self.timeline)

    def _lose(self, kind: str, way: Way, size: int, sent_at: float, why: str) -> None:
        self.dropped[why] += 1
        for hook in self.on_packet:
            hook(kind, way.source, way.target, size, sent_at, None)

    def _on_grain(self, when: float) -> float:
        return max(when, -(-when // self._grain) * self._grain)

    # --- segments of streams -------------------------------------------------------------------

    def transmit(
        self, source: Address, target: Address, size: int, act: Callable[..., object], *arguments: Any
    ) -> float | None:
        """Send one packet of a stream and call *act* for each copy that arrives.

        Returns when the first copy does; ``None``: none does.
        """
        way = self._way(source, target)
        self.sent += 1
        arrivals = way.link.due(self.now, size)
        if not arrivals:
            self._lose("stream", way, size, self.now, way.why)
            return None
        if self._grain:
            arrivals = tuple(map(self._on_grain, arrivals))
        for when in arrivals:
            self.at(when, self._deliver_segment, way, size, self.now, act, arguments)
        return min(arrivals)

    def _deliver_segment(
        self, way: Way, size: int, sent_at: float, act: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        self.packets += 1
        if self._trace is not None:
            self._trace.add(self.now, way.name, size)
        for hook in self.on_packet:
            hook("stream", way.source, way.target, size, sent_at, self.now)
        act(*arguments)

    # --- what came of it -----------------------------------------------------------------------

    def trace_sha256(self) -> str:
        """The hash over every delivery so far.

        Raises:
            ValueError: the network was made without a trace.
        """
        if self._trace is None:
            raise ValueError("this network keeps no trace")
        return self._trace.sha256()

    def debug_state(self) -> dict[str, object]:
        """What is open and what was lost, for people."""
        return {
            "now": self.now,
            "under_way": len(self.timeline),
            "sent": self.sent,
            "packets": self.packets,
            "dropped": dict(self.dropped),
            "udp_ports": list(self._ports),
            "listeners": list(self._listeners),
            "streams": {host: len(streams) for host, streams in self._streams.items() if streams},
        }
