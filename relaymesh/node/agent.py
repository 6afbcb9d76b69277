"""The node's end of the control channel: connects, joins, reconnects, and passes messages.

The channel is a WebSocket (TLS but for loopback) that carries one message in
each binary frame. When it breaks the node goes on with what it knows and the
agent tries again: all the controllers it was given, one after the other, then a
growing, jittered pause.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import (
    MAX_MESSAGE_BYTES,
    ControllerMessage,
    Join,
    NodeMessage,
    Refused,
    Welcome,
    decode_controller_message,
    encode_message,
)
from relaymesh.runtime.log import get_logger

PATH = "/v1/node"
FIRST_PAUSE = 0.25  # s
LONGEST_PAUSE = 5.0  # s
STANDBY_PAUSE = 1.0  # s; at most, while a standby answers: it may lead soon
CONNECT_TIMEOUT = 10.0  # s
NEXT_AFTER = 3.0  # s; the same, where there is another controller to try
CLOSE_TIMEOUT = 0.2  # s; for the goodbye
# A controller whose host is gone says nothing, and TCP alone would wait for it for a quarter of an hour.
PING_INTERVAL = 5.0  # s
PING_TIMEOUT = 5.0  # s
QUEUE_MESSAGES = 4096  # a channel that cannot take more is taken for broken

CONNECTION_ERRORS = (OSError, HandshakeError, ConnectionClosed, trio.BrokenResourceError, trio.TooSlowError)

log = get_logger(__name__)


class JoinRefused(Exception):
    """The controller does not let this node in; trying again would not help."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.code = refused.code
        self.reason = refused.reason
        self.leader = refused.leader


class StaleController(Exception):
    """This controller was the leader once; the node knows a newer one."""


def client_tls(urls: Sequence[str], ca: Path | None) -> ssl.SSLContext | None:
    """The TLS context for *urls*; ``None`` where all are plain ones."""
    if not any(url.startswith("wss:") for url in urls):
        return None
    return ssl.create_default_context(cafile=str(ca) if ca is not None else None)


class Agent:
    """Keeps one control channel open as long as it runs."""

    def __init__(
        self,
        urls: Sequence[str],
        tls: ssl.SSLContext | None,
        *,
        make_join: Callable[[], Join],
        on_message: Callable[[ControllerMessage], None],
        on_disconnected: Callable[[], None],
        rng: Random,
        admits: Callable[[ControllerMessage], bool] = lambda message: True,
    ) -> None:
        """*urls*: of all controllers, at least one. *admits*: whether a welcome is the newest leader's."""
        self._urls = list(urls)  # in the order they are tried; the one in use is the last
        self._admits = admits
        self._tls = tls
        self._make_join = make_join
        self._on_message = on_message
        self._on_disconnected = on_disconnected
        self._rng = rng
        self._queue: trio.MemorySendChannel[NodeMessage] | None = None
        self._broken: trio.CancelScope | None = None
        self._welcomed = False
        self.joins = 0

    @property
    def connected(self) -> bool:
        return self._queue is not None

    def offer(self, messages: list[NodeMessage]) -> None:
        """Send these after all earlier ones; dropped while there is no channel (a join says it all again)."""
        for message in messages:
            if self._queue is None:
                return
            try:
                self._queue.send_nowait(message)
            except trio.WouldBlock:
                log.warning("control channel does not drain, reconnecting")
                if self._broken is not None:
                    self._broken.cancel()
                return

    async def run(self) -> None:
        """Stay joined; never returns.

        Raises:
            JoinRefused: the very first join was refused, for a reason that will not go away.
        """
        pause = FIRST_PAUSE
        while True:
            longest = LONGEST_PAUSE
            for untried in reversed(range(len(self._urls))):
                refused = await self._try_next()
                if self._welcomed:
                    pause = FIRST_PAUSE
                    break
                if refused is not None and refused.code == "standby":
                    longest = STANDBY_PAUSE
                    if refused.leader in self._urls[:untried]:
                        self._urls.remove(refused.leader)
                        self._urls.insert(0, refused.leader)
                elif refused is not None and not self.joins:
                    raise refused
            # Jitter, so that a thousand nodes do not come back in the same instant.
            await trio.sleep(min(pause, longest) * (0.5 + self._rng.random()))
            pause = min(pause * 2, longest)

    async def _try_next(self) -> JoinRefused | None:
        """Join one controller and stay as long as it lasts; what it said if it refused."""
        self._welcomed = False
        refused: JoinRefused | None = None
        url = self._urls.pop(0)
        self._urls.append(url)
        try:
            await self._one_connection(url)
        except* CONNECTION_ERRORS as group:
            log.warning("no controller", url=url, why=_why(_leaf(group)))
        except* StaleController:
            log.warning("this controller does not lead any more", url=url)
        except* JoinRefused as group:
            refused = _leaf(group)
        if refused is not None:
            # A node that was in may be refused while the controller still
            # waits for its old channel to break.
            log.warning("join refused", url=url, code=refused.code, reason=refused.reason)
        return refused

    async def _one_connection(self, controller: str) -> None:
        url = urlsplit(controller.rstrip("/") + PATH)
        assert url.hostname is not None, "the settings refuse a URL without a host"
        timeout = CONNECT_TIMEOUT if len(self._urls) == 1 else NEXT_AFTER
        with trio.fail_after(timeout) as connecting:
            # Opened here and not by the library, which leaves the socket open
            # when the TLS handshake fails.
            stream: trio.abc.Stream = await trio.open_tcp_stream(url.hostname, url.port or 7400)
            async with stream:
                if self._tls is not None and url.scheme == "wss":
                    stream = trio.SSLStream(
                        stream, self._tls, server_hostname=url.hostname, https_compatible=True
                    )
                    await stream.do_handshake()
                async with trio.open_nursery() as nursery:
                    socket = await wrap_client_stream(
                        nursery, stream, url.netloc, url.path, max_message_size=MAX_MESSAGE_BYTES
                    )
                    connecting.deadline = float("inf")
                    try:
                        await self._converse(socket)
                    finally:
                        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                            await socket.aclose()
                        nursery.cancel_scope.cancel()

    async def _converse(self, socket: WebSocketConnection) -> None:
        await socket.send_message(encode_message(self._make_join()))
        send, receive = trio.open_memory_channel[NodeMessage](QUEUE_MESSAGES)
        try:
            async with trio.open_nursery() as nursery:
                self._broken = nursery.cancel_scope
                nursery.start_soon(self._write, socket, receive)
                nursery.start_soon(self._watch, socket)
                await self._read(socket, send)
                nursery.cancel_scope.cancel()
        except* ConnectionClosed:
            log.warning("control channel closed", url=self._urls[-1])
        finally:
            if self._queue is not None:
                self._queue = None
                self._on_disconnected()
            self._broken = None

    async def _read(self, socket: WebSocketConnection, queue: trio.MemorySendChannel[NodeMessage]) -> None:
        while True:
            data = await socket.get_message()
            if isinstance(data, str):
                data = data.encode()
            try:
                message = decode_controller_message(data)
            except ProtocolError as error:
                # Newer controllers may say what we do not know; it changes nothing.
                log.warning("unreadable message from the controller", why=str(error))
                continue
            if isinstance(message, Refused):
                raise JoinRefused(message)
            if isinstance(message, Welcome):
                if not self._admits(message):
                    raise StaleController
                self._welcomed = True
                self.joins += 1
                self._queue = queue
            self._on_message(message)

    async def _watch(self, socket: WebSocketConnection) -> None:
        while True:
            await trio.sleep(PING_INTERVAL)
            with trio.fail_after(PING_TIMEOUT):
                await socket.ping()

    async def _write(
        self, socket: WebSocketConnection, queue: trio.MemoryReceiveChannel[NodeMessage]
    ) -> None:
        async for message in queue:
            await socket.send_message(encode_message(message))


def _leaf(group: BaseExceptionGroup[BaseException]) -> Any:
    """Some leaf of *group*: one failure of a connection is as good as another."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _why(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, ConnectionRejected):
        return f"HTTP {error.status_code}"
    if isinstance(error, HandshakeError) and error.__cause__ is not None:
        return str(error.__cause__) or type(error.__cause__).__name__
    return str(error) or type(error).__name__
