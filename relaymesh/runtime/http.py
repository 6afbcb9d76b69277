"""Serve an ASGI app with hypercorn's trio connections, from bind to clean stop.

hypercorn's own server would let one client end the process: what a connection
raises ends all of them, and a response that its client does not read is sent
in a shield, for ever. So the connections are looked after here: their number
and their patience are bounded, their errors stay with them, and those that do
not end in time are cut.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from relaymesh.runtime.hypercorn_parts import (
    ASGIWrapper,
    Config,
    ConnectionState,
    TCPServer,
    WorkerContext,
    check_hypercorn,
)
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.process import innermost

MAX_INCOMPLETE_BYTES = 64 << 10  # of one request's head
MAX_CONNECTIONS = 512  # half of the files a process may usually have open
READ_TIMEOUT = 30.0  # s without a byte of the client, while a request or its response is under way
SEND_TIMEOUT = 10.0  # s without room for more of a response
HANDSHAKE_TIMEOUT = 10.0  # s; of TLS
BACKLOG = 128  # connections that wait to be accepted
GRACE = 1.0  # s for open requests after a stop

log = get_logger(__name__)


def bind_http(host: str, port: int) -> socket.socket:
    """A listening TCP socket, bound before anybody is told its address (port 0 picks a free one).

    Raises:
        OSError: the address cannot be bound.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_http_path(path: Path) -> socket.socket:
    """A listening socket at *path* of the file system, for processes of this host that may reach it.

    Raises:
        OSError: the address cannot be bound.
    """
    path.unlink(missing_ok=True)  # of a process that was killed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def serve_http(
    app: Any,
    sock: socket.socket,
    stop: Callable[[], Awaitable[None]],
    *,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* on *sock*, and close it, until *stop* returns; then let open requests finish for a second.

    Raises:
        OSError: a TLS file cannot be read (``ssl.SSLError``: or used).
        HypercornMoved: the installed hypercorn is not one that is known here.
    """
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    async with listener:
        check_hypercorn()
        config = _config(tls_cert, tls_key)
        connections = _Connections(app, config)
        async with trio.open_nursery() as handlers:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connections.accept, listener, handlers)
                    task_status.started()
                    await stop()
                    nursery.cancel_scope.cancel()
                await connections.finish()
            finally:
                connections.cut()  # also when cancelled: a response may be stuck in a shield
            handlers.cancel_scope.cancel()


def _config(tls_cert: Path | None, tls_key: Path | None) -> Config:
    config = Config()
    config.accesslog = None
    # Its own logger would add a handler, and say everything twice.
    config.errorlog = logging.getLogger("hypercorn.trio")
    config.h11_max_incomplete_size = MAX_INCOMPLETE_BYTES
    config.read_timeout = READ_TIMEOUT
    config.ssl_handshake_timeout = HANDSHAKE_TIMEOUT
    config.include_server_header = False
    if tls_cert is not None and tls_key is not None:
        config.certfile, config.keyfile = str(tls_cert), str(tls_key)
    return config


class _Connections:
    """All connections of one listener."""

    def __init__(self, app: Any, config: Config) -> None:
        self._app = ASGIWrapper(app)
        self._config = config
        self._tls: ssl.SSLContext | None = config.create_ssl_context()
        self._context = WorkerContext(None)
        self._open: set[_Transport] = set()
        self._all_closed = trio.Event()

    async def accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Serve each new connection in *nursery*; never returns."""
        await trio.serve_listeners(self._serve, [listener], handler_nursery=nursery)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection, from its first byte to its end. Raises nothing but cancellation."""
        if len(self._open) >= MAX_CONNECTIONS:
            return  # who called closes it
        transport = _Transport(stream)
        self._open.add(transport)
        wrapped: Any = transport
        if self._tls is not None:
            wrapped = trio.SSLStream(transport, self._tls, server_side=True, https_compatible=True)
        try:
            await TCPServer(self._app, self._config, self._context, ConnectionState({}), wrapped)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass  # that is how connections end
        except* Exception as group:
            # Which input it was is not known here; the line says what to look for.
            log.warning("an HTTP connection failed", why=repr(innermost(group)))
        finally:
            self._open.discard(transport)
            if not self._open:
                self._all_closed.set()

    async def finish(self) -> None:
        """Let requests under way finish, for a while."""
        await self._context.terminated.set()
        self._all_closed = trio.Event()
        if self._open:
            with trio.move_on_after(GRACE):
                await self._all_closed.wait()

    def cut(self) -> None:
        """End all that are left, whatever they wait for."""
        for transport in self._open:
            transport.socket.close()


class _Transport(trio.abc.HalfCloseableStream):
    """A socket's stream that waits only so long for a client that does not read."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket  # hypercorn asks it for the addresses

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(SEND_TIMEOUT) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
