"""TCP-like streams of the emulated network, as trio sockets.

In: what an unmodified trio program does with a stream socket (``trio.serve_tcp``,
``trio.open_tcp_stream``, trio-websocket, TLS). Out: its bytes, in order, at the
other end. Segments of at most 1448 bytes travel over the same links as
datagrams; a lost one is sent again after a retransmission timeout (RTO) of
twice the round trip, at least 200 ms, doubled each time (RFC 6298 §5.5), and
what came after it waits at the receiver.

Connecting takes a round trip; it is refused when nobody listens. A stream is
reset when its host is killed, and when bytes come that nobody will read.

This is a delay line, not TCP: there is no congestion control, no fast
retransmission, and acknowledgements are not packets: the sender knows what
arrived. Nothing about throughput can be learnt from it.
"""

from __future__ import annotations

import errno
import socket as names
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import trio

from relaymesh.netsim.hosts import ip_header_bytes, os_error, own_address
from relaymesh.netsim.segments import HANDSHAKE_TRIES, SEGMENT_TRIES, Incoming, Outgoing, Packet
from relaymesh.runtime.udp import Address

TCP_HEADER_BYTES = 32  # with timestamps
MAX_BACKLOG = 128


class Wire(Protocol):
    """A stream's view of the network it is on."""

    @property
    def now(self) -> float:
        """Seconds."""

    def at(self, when: float, act: Callable[..., object], *arguments: Any) -> None:
        """Call *act* at *when*."""

    def transmit(
        self, source: Address, target: Address, size: int, act: Callable[..., object], *arguments: Any
    ) -> float | None:
        """Send one packet and call *act* when it arrives; returns when that is, None: never."""

    def has_way(self, source: str, target: str) -> bool:
        """Whether there is a link from one host to another."""

    def free_port(self, host: str) -> int:
        """A port of *host* that nothing is bound to."""

    def listener(self, address: Address) -> StreamSocket | None:
        """Who takes connections to *address*."""

    def add_listener(self, address: Address, listener: StreamSocket) -> None:
        """*listener* takes connections to *address* from now on."""

    def add_stream(self, host: str, stream: StreamSocket) -> None:
        """*stream* was made on *host*."""

    def forget_stream(self, host: str, stream: StreamSocket) -> None:
        """*stream* was closed."""


class StreamSocket(trio.socket.SocketType):
    """One end of a stream, or a listener; the network's socket factory makes it."""

    def __init__(self, network: Wire, host: str) -> None:
        super().__init__()
        self._network = network
        self._host = host
        self._header = ip_header_bytes(host) + TCP_HEADER_BYTES
        self._local: Address | None = None
        self._peer: Address | None = None
        self._other: StreamSocket | None = None
        self._closed = False
        self._silent = False  # the machine is gone: it does not even say so
        self._error: int | None = None
        self._out = Outgoing()
        self._in = Incoming()
        self._writer: trio.lowlevel.Task | None = None
        self._half_open = False  # at the server: the client does not know yet
        self._reader: trio.lowlevel.Task | None = None
        # listening
        self._backlog = 0
        self._arrivals: deque[StreamSocket] = deque()
        network.add_stream(host, self)

    # --- what a socket is ------------------------------------------------------------------------

    @property
    def family(self) -> names.AddressFamily:
        return names.AF_INET6 if ":" in self._host else names.AF_INET

    @property
    def type(self) -> names.SocketKind:
        return names.SOCK_STREAM

    @property
    def proto(self) -> int:
        return names.IPPROTO_TCP

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return self._out.finished

    def fileno(self) -> int:
        """-1 after closing; no descriptor of the system stands behind it."""
        return -1 if self._closed else 1 << 30

    def __enter__(self) -> StreamSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setsockopt(self, *_: object) -> None:
        """All options are accepted, none does anything."""

    def getsockopt(self, level: int, option: int, buffer_bytes: int | None = None) -> Any:
        return int((level, option) == (names.SOL_SOCKET, names.SO_ACCEPTCONN) and self._backlog > 0)

    def getsockname(self) -> Any:
        return self._local or (("::", 0) if ":" in self._host else ("0.0.0.0", 0))

    def getpeername(self) -> Any:
        if self._other is None:
            raise os_error(errno.ENOTCONN)
        return self._peer

    # --- opening ---------------------------------------------------------------------------------

    async def bind(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._check_usable()
        self._bind(str(address[0]), int(address[1]))

    def _bind(self, host: str, port: int) -> Address:
        if own_address(self._host, host) != self._host:
            raise os_error(errno.EADDRNOTAVAIL)
        self._local = (self._host, port or self._network.free_port(self._host))
        return self._local

    def listen(self, backlog: int = MAX_BACKLOG) -> None:
        self._check_usable()
        self._network.add_listener(self._local or self._bind("", 0), self)
        self._backlog = max(1, min(backlog, MAX_BACKLOG))

    async def accept(self) -> tuple[StreamSocket, Any]:
        await trio.lowlevel.checkpoint()
        while not self._arrivals:
            self._check_usable()
            await self._wait_to_read()
        stream = self._arrivals.popleft()
        return stream, stream._peer

    async def connect(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._check_usable()
        if self._local is None:
            self._bind("", 0)
        self._peer = (own_address(self._host, str(address[0])), int(address[1]))
        if not self._network.has_way(self._host, self._peer[0]):
            raise os_error(errno.ENETUNREACH)
        self._send(Packet(0, self._knock, (self._peer,), HANDSHAKE_TRIES))
        while self._other is None:
            self._check_usable()
            await self._wait_to_write()
        self._check_usable()

    # --- reading and writing ---------------------------------------------------------------------

    async def send(self, data: Any, flags: int = 0) -> int:
        """Send as much of *data* as the window takes; wait while it takes nothing."""
        await trio.lowlevel.checkpoint()
        while True:
            self._check_connected()
            if self._out.finished:
                raise os_error(errno.EPIPE)
            room = self._out.room
            if room > 0:
                break
            await self._wait_to_write()
        with memoryview(data) as view:
            taken = bytes(view[:room])
        for segment in self._out.split(taken):
            self._send_segment(segment)
        return len(taken)

    async def recv(self, max_bytes: int, flags: int = 0) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._in.inbox:
            if self._in.at_end and not self._closed:
                return b""
            self._check_connected()
            await self._wait_to_read()
        data = self._in.read(max_bytes)
        self._tell_read()
        return data

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        data = await self.recv(nbytes or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._out.room <= 0 and self._error is None:
            self._check_usable()
            await self._wait_to_write()

    def is_readable(self) -> bool:
        return bool(self._in.inbox or self._arrivals or self._in.at_end or self._error or self._closed)

    def shutdown(self, how: int) -> None:
        """End what is sent (``SHUT_WR``, ``SHUT_RDWR``)."""
        self._check_connected()
        if how != names.SHUT_RD:
            self._finish()

    def close(self) -> None:
        """Close it; the peer gets the end of the stream, or a reset if something here was not read."""
        if self._closed:
            return
        unread = bool(self._in.inbox)
        self._forget()
        if self._other is not None and self._error is None:
            if unread:
                self._reset_peer()
            else:
                self._finish()

    def die(self, *, reset: bool) -> None:
        """Close it as a crash does: with a reset, or without a word when the whole machine is gone."""
        if self._closed:
            return
        self._silent = not reset
        self._forget()
        if self._error is None:
            self._error = errno.ECONNRESET  # nothing is sent again
            if self._other is not None and reset:
                self._reset_peer()

    def _forget(self) -> None:
        self._closed = True
        self._network.forget_stream(self._host, self)
        self._in.inbox.clear()
        while self._arrivals:
            self._arrivals.popleft().die(reset=not self._silent)
        self._wake()

    def _check_usable(self) -> None:
        if self._closed:
            raise os_error(errno.EBADF)
        if self._error is not None:
            raise os_error(self._error)

    def _check_connected(self) -> None:
        self._check_usable()
        if self._other is None:
            raise os_error(errno.ENOTCONN)

    # --- waiting ---------------------------------------------------------------------------------

    async def _wait_to_read(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        if self._reader is not None:
            raise trio.BusyResourceError("another task reads from this socket")
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _wait_to_write(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        if self._writer is not None:
            raise trio.BusyResourceError("another task writes to this socket")
        self._writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_reader(self) -> None:
        task, self._reader = self._reader, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _wake_writer(self) -> None:
        task, self._writer = self._writer, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _wake(self) -> None:
        self._wake_reader()
        self._wake_writer()

    # --- packets out -----------------------------------------------------------------------------

    def _send(self, packet: Packet) -> None:
        """Bring *packet* to the other end, as often as it takes."""
        assert self._local is not None, "bound before anything is sent"
        assert self._peer is not None, "only who has a peer sends"
        if self._error is not None or (self._closed and self._other is None):
            return  # it is over, or was given up before it began
        network = self._network
        packet.sent_at = network.now
        due = network.transmit(self._local, self._peer, packet.size + self._header, self._arrived, packet)
        if due is None:
            self._send_later(packet)
            return
        self._out.note_delay(due - network.now)

    def _arrived(self, packet: Packet) -> None:
        if not packet.act(*packet.arguments):
            self._send_later(packet)

    def _send_later(self, packet: Packet) -> None:
        other = self._other
        when = packet.retry_at(self._out.rto(None if other is None else other._out.delay))
        packet.tried += 1
        if packet.tried < packet.tries:
            self._network.at(when, self._send, packet)
        else:
            self._network.at(when, self._fail, errno.ETIMEDOUT)

    def _send_segment(self, data: bytes) -> None:
        """The next segment; an empty one is the end."""
        assert self._other is not None, "only a connection has segments"
        self._send(Packet(len(data), self._other._take_segment, (self._out.number(), data), SEGMENT_TRIES))

    def _finish(self) -> None:
        if not self._out.finished:
            self._out.finished = True
            self._send_segment(b"")

    def _reset_peer(self, code: int = errno.ECONNRESET) -> bool:
        """Send one reset; whether it will arrive. It is not repeated: the next segment brings the next."""
        assert self._other is not None, "only a connection is reset"
        assert self._local is not None, "a connection has both addresses"
        assert self._peer is not None, "a connection has both addresses"
        due = self._network.transmit(self._local, self._peer, self._header, self._other._fail, code)
        return due is not None

    def _tell_read(self) -> None:
        """The program read: let the sender send more, an acknowledgement's way later."""
        if self._other is not None and (told := self._in.to_tell()):
            self._network.at(self._network.now + (self._out.delay or 0.0), self._other._open_window, told)

    # --- packets in ------------------------------------------------------------------------------

    def _knock(self, target: Address) -> bool:
        """At the server: this socket wants a connection to *target*."""
        if self._other is not None or self._closed or self._error is not None:
            return True  # a copy, or nobody waits any more
        listener = self._network.listener(target)
        if listener is not None and len(listener._arrivals) >= listener._backlog:
            return False
        server = StreamSocket(self._network, target[0])
        server._local, server._peer, server._other = target, self._local, self
        if listener is None:
            known = server._reset_peer(errno.ECONNREFUSED)
            server._error = errno.ECONNREFUSED
            server._forget()
            return known
        server._half_open = True
        server._send(Packet(0, self._welcome, (server, listener), HANDSHAKE_TRIES))
        return True

    def _welcome(self, server: StreamSocket, listener: StreamSocket) -> bool:
        """At the client: the server answers."""
        if self._closed:
            return server._fail(errno.ECONNRESET)
        if self._other is None:
            self._other = server
            self._send(Packet(0, server._enter, (listener,), SEGMENT_TRIES))
            self._wake_writer()
        return True

    def _enter(self, listener: StreamSocket) -> bool:
        """At the server: the client knows; the program may have the connection."""
        if listener._closed:
            self.die(reset=True)
        elif self._half_open and not self._closed and self._error is None:
            self._half_open = False
            listener._arrivals.append(self)
            listener._wake_reader()
        return not self._silent

    def _take_segment(self, number: int, data: bytes) -> bool:
        if self._silent:
            return False
        if self._closed or self._error is not None:
            return not data or self._reset_peer()  # an end needs no reader
        if self._in.take(number, data):
            self._wake_reader()
        return True

    def _open_window(self, count: int) -> None:
        self._out.unread -= count
        self._wake_writer()

    def _fail(self, code: int) -> bool:
        """The connection is over: refused, reset or timed out. What arrived before may still be read."""
        if self._error is None and not self._silent:
            self._error = code
            self._wake()
            if self._half_open:
                self._forget()
        return True
