"""A TCP port for clients that UDP does not reach (ICE-TCP, RFC 6544): packets in both directions.

In: connections of anybody. Out: their packets, to a handler, each with the connection's address; packets for
these addresses, from any thread. A connection whose address nobody vouches for in time is closed, as is one
that nobody vouches for any more; what a slow reader does not take is dropped like datagrams in a full queue.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter, deque
from collections.abc import Iterable
from typing import Protocol

import trio

from relaymesh.webrtc.addresses import Address, stream_address
from relaymesh.webrtc.errors import FramingError
from relaymesh.webrtc.framing import Deframer, frame

PROOF_S = 10.0  # from its beginning until a connection's address must be known to somebody, and between looks
STUCK_S = 10.0  # that a reader takes nothing of what waits for it
MAX_STRANGERS = 64  # connections not vouched for; further ones are closed at once
MAX_WAITING_BYTES = 256 << 10  # for one reader: about a second of what such clients play
READ_BYTES = 16 << 10
UNSENT_BYTES = 32 << 10  # in the kernel, so that what is newer is not behind seconds of what is old


class Handler(Protocol):
    """Whoever the packets are for. Called in trio's thread."""

    def take_packets(self, packets: list[bytes], address: Address) -> None:
        """They came from *address*."""

    def vouches_for(self, address: Address) -> bool:
        """Whether a session is there."""


class _Connection:
    def __init__(self, stream: trio.SocketStream, address: Address) -> None:
        self.stream = stream
        self.address = address
        self.vouched = False
        self._lock = threading.Lock()  # senders are in any thread
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.woken = trio.Event()

    def put(self, packet: bytes) -> bool:
        """Let *packet* wait; False: too much waits already."""
        with self._lock:
            if self._waiting_bytes + len(packet) > MAX_WAITING_BYTES:
                return False
            self._waiting.append(packet)
            self._waiting_bytes += len(packet)
        return True

    def take(self) -> bytes:
        """All that waits, as it goes on the stream."""
        with self._lock:
            packets, self._waiting = self._waiting, deque()
            self._waiting_bytes = 0
        return b"".join(frame(packet) for packet in packets)


class StreamPort:
    """A listening TCP socket with the sending face of a UDP port."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self.refused: Counter[str] = Counter()  # connections, by why
        self.send_failures = 0
        self._connections: dict[Address, _Connection] = {}
        self._woken: deque[_Connection] = deque()
        self._token: trio.lowlevel.TrioToken | None = None

    @classmethod
    def open(cls, host: str, port: int) -> StreamPort:
        """Listen at *host*:*port* (a literal address).

        Raises:
            OSError: it cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return cls(socket.create_server((host, port), family=family, backlog=MAX_STRANGERS))

    def __len__(self) -> int:
        return len(self._connections)

    def send_batch(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        """Send all soon, from any thread; what does not fit, or has no connection, is dropped and counted."""
        woken = False
        for data, address in datagrams:
            connection = self._connections.get(address)
            if connection is None or not connection.put(data):
                self.send_failures += 1
                continue
            self._woken.append(connection)
            woken = True
        if woken and self._token is not None:
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        while self._woken:
            self._woken.popleft().woken.set()

    async def run(self, handler: Handler) -> None:
        """Serve connections; never returns, cancel it."""
        self._token = trio.lowlevel.current_trio_token()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))

        async def serve(stream: trio.SocketStream) -> None:
            await self._serve(stream, handler)

        await trio.serve_listeners(serve, [listener])

    async def _serve(self, stream: trio.SocketStream, handler: Handler) -> None:
        if self._count_strangers(handler) >= MAX_STRANGERS:
            self.refused["too many strangers"] += 1
            await stream.aclose()
            return
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:  # it is gone
            await stream.aclose()
            return
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        connection = _Connection(stream, stream_address(host, port))
        self._connections[connection.address] = connection
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection)
                nursery.start_soon(self._watch, connection, handler, nursery.cancel_scope)
                await self._read(connection, handler)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone
        except* FramingError:
            self.refused["malformed"] += 1
        except* trio.TooSlowError:
            self.refused["too slow"] += 1
        finally:
            del self._connections[connection.address]
            with trio.CancelScope(shield=True, deadline=trio.current_time()):
                await stream.aclose()

    def _count_strangers(self, handler: Handler) -> int:
        """Connections that nobody vouches for; asked again only where that decides."""
        strangers = [connection for connection in self._connections.values() if not connection.vouched]
        if len(strangers) < MAX_STRANGERS:
            return len(strangers)
        for connection in strangers:
            connection.vouched = handler.vouches_for(connection.address)
        return sum(not connection.vouched for connection in strangers)

    async def _read(self, connection: _Connection, handler: Handler) -> None:
        deframer = Deframer()
        while data := await connection.stream.receive_some(READ_BYTES):
            if packets := deframer.feed(data):
                handler.take_packets(packets, connection.address)

    async def _write(self, connection: _Connection) -> None:
        while True:
            await connection.woken.wait()
            connection.woken = trio.Event()
            if data := connection.take():
                with trio.fail_after(STUCK_S):
                    await connection.stream.send_all(data)

    async def _watch(self, connection: _Connection, handler: Handler, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(PROOF_S)
            connection.vouched = handler.vouches_for(connection.address)
            if not connection.vouched:
                self.refused["no session"] += 1
                scope.cancel()
                return

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
