"""The node channel: WebSockets on one side, :class:`ControllerCore` on the other.

In: TCP (or TLS) streams. Out: what the core says, as messages on the channels.
One task reads each channel, one writes it; between the core and the writer
stands a bounded outbox, so that a node that does not drain its channel loses
it and delays nobody else. A node that talks too much is read more slowly. No
error on one channel reaches another, or the process.
"""

from __future__ import annotations

import ssl
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from relaymesh.controller.buckets import TokenBucket
from relaymesh.controller.outbox import Disconnect, Outgoing
from relaymesh.controller.registry import MAX_NODES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import (
    MAX_MESSAGE_BYTES,
    NodeMessage,
    Refused,
    decode_node_message,
    encode_message,
)
from relaymesh.runtime.log import get_logger

PATH = "/v1/node"
JOIN_TIMEOUT_S = 5.0  # for TLS, the WebSocket handshake and the first message together
CLOSE_TIMEOUT_S = 1.0  # for the goodbye
MAX_STRANGERS = 256  # channels that have not said anything yet
MAX_CHANNELS = 2 * MAX_NODES + MAX_STRANGERS  # each node may have one it lost and one it opened
OUTBOX_MESSAGES = 4096
OUTBOX_BYTES = 8 << 20
MESSAGES_PER_S = 1000.0  # read from one channel; more wait in the node's own buffers
MESSAGE_BURST = 4000.0

log = get_logger(__name__)


class Outbox:
    """Messages waiting to be written to one channel. Bounded in messages and bytes."""

    def __init__(self, max_messages: int = OUTBOX_MESSAGES, max_bytes: int = OUTBOX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._finished = False
        self._changed = trio.Event()

    def put(self, data: bytes) -> bool:
        """Append *data*; whether there was room. After :meth:`finish` it is dropped."""
        if self._finished:
            return True
        if len(self._waiting) >= self._max_messages or self._bytes + len(data) > self._max_bytes:
            return False
        self._waiting.append(data)
        self._bytes += len(data)
        self._changed.set()
        return True

    def finish(self) -> None:
        """Nothing comes after what is in it."""
        self._finished = True
        self._changed.set()

    async def get(self) -> bytes | None:
        """The next message; None after the last."""
        while not self._waiting:
            if self._finished:
                return None
            self._changed = trio.Event()
            await self._changed.wait()
        data = self._waiting.popleft()
        self._bytes -= len(data)
        return data


class ChannelCore(Protocol):
    """Interface of a core to its channels; a leader's and a standby's have it."""

    def handle_message(self, conn_id: int, message: NodeMessage, now: float) -> None:
        """A message of a channel."""

    def handle_malformed(self, conn_id: int, error: ProtocolError, now: float) -> None:
        """Handle bytes that are no message."""

    def handle_disconnect(self, conn_id: int, now: float) -> None:
        """The channel closed."""

    def poll_outgoing(self) -> list[Outgoing]:
        """Messages to send and channels to close, in order."""


class NodeChannels:
    """All channels of the nodes. ``on_change`` is called after each change to the core."""

    def __init__(self, core: ChannelCore, on_change: Callable[[], None]) -> None:
        self._core = core
        self._on_change = on_change
        self._numbers = count(1)
        self._open: dict[int, tuple[Outbox, trio.CancelScope]] = {}
        self._streams = 0
        self._strangers = 0
        self.counters: Counter[str] = Counter()

    def flush(self) -> None:
        """Hand what the core has to say to the writers."""
        for conn_id, message in self._core.poll_outgoing():
            channel = self._open.get(conn_id)
            if channel is None:
                continue
            outbox, scope = channel
            if isinstance(message, Disconnect):
                log.info("closing a channel", channel=conn_id, reason=message.reason)
                outbox.finish()
                # The writer may be stuck in an earlier message.
                scope.deadline = min(scope.deadline, trio.current_time() + CLOSE_TIMEOUT_S)
            elif not outbox.put(encode_message(message)):
                log.warning("a node does not drain its channel", channel=conn_id)
                self.counters["channel-overflow"] += 1
                scope.cancel()

    def dismiss(self, refused: Refused) -> None:
        """Tell every node to go elsewhere, and close its channel."""
        for outbox, scope in self._open.values():
            outbox.put(encode_message(refused))
            outbox.finish()
            scope.deadline = min(scope.deadline, trio.current_time() + CLOSE_TIMEOUT_S)

    def debug_state(self) -> dict[str, object]:
        return {
            "channels": {
                "streams": self._streams,
                "strangers": self._strangers,
                "open": len(self._open),
                "counters": dict(self.counters),
            }
        }

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """One channel from its first byte to its end. Raises nothing but cancellation."""
        if self._streams >= MAX_CHANNELS or self._strangers >= MAX_STRANGERS:
            self.counters["channel-limit"] += 1
            return  # who called closes the stream
        self._streams += 1
        conn_id = next(self._numbers)
        try:
            await self._serve(stream, conn_id)
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # that is how channels end
        except* Exception:
            self.counters["channel-error"] += 1
            log.exception("a channel failed", channel=conn_id)
        finally:
            self._streams -= 1
            self._open.pop(conn_id, None)
            self._core.handle_disconnect(conn_id, trio.current_time())
            self._on_change()

    async def _serve(self, stream: trio.abc.Stream, conn_id: int) -> None:
        async with trio.open_nursery() as nursery:
            self._strangers += 1
            opened: tuple[WebSocketConnection, str | bytes] | None = None
            try:
                with trio.move_on_after(JOIN_TIMEOUT_S):
                    opened = await self._open_socket(nursery, stream)
            finally:
                self._strangers -= 1
            if opened is None:
                self.counters["channel-no-join"] += 1
            else:
                outbox, (socket, first) = Outbox(), opened
                self._open[conn_id] = outbox, nursery.cancel_scope
                nursery.start_soon(self._write, socket, outbox, nursery.cancel_scope)
                await self._read(socket, conn_id, first)
            nursery.cancel_scope.cancel()

    async def _open_socket(
        self, nursery: trio.Nursery, stream: trio.abc.Stream
    ) -> tuple[WebSocketConnection, str | bytes] | None:
        """The WebSocket and its first message; None if it is for something else."""
        if isinstance(stream, trio.SSLStream):
            # Here, where its failure is an error: inside the WebSocket it would be a wait without end.
            await stream.do_handshake()
        request = await wrap_server_stream(nursery, stream, max_message_size=MAX_MESSAGE_BYTES)
        if request.path.partition("?")[0] != PATH:
            await request.reject(404, body=f"nodes connect to {PATH}\n".encode())
            return None
        socket = await request.accept()
        return socket, await socket.get_message()

    async def _read(self, socket: WebSocketConnection, conn_id: int, first: str | bytes) -> None:
        bucket = TokenBucket(MESSAGES_PER_S, MESSAGE_BURST, trio.current_time())
        data = first
        while True:
            pause = bucket.take_in_debt(trio.current_time())
            if pause:
                self.counters["channel-slowed"] += 1
                await trio.sleep(pause)
            self._handle(conn_id, data)
            data = await socket.get_message()

    def _handle(self, conn_id: int, data: str | bytes) -> None:
        now = trio.current_time()
        try:
            if isinstance(data, str):
                raise ProtocolError("malformed", "a text message on a channel of binary ones")
            message = decode_node_message(data)
        except ProtocolError as error:
            self._core.handle_malformed(conn_id, error, now)
        else:
            self._core.handle_message(conn_id, message, now)
        self._on_change()

    async def _write(self, socket: WebSocketConnection, outbox: Outbox, scope: trio.CancelScope) -> None:
        while (data := await outbox.get()) is not None:
            await socket.send_message(data)
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await socket.aclose()
        scope.cancel()


async def open_listeners(
    host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[list[trio.abc.Listener[trio.abc.Stream]], int]:
    """Listeners on *host*:*port*, with TLS if a context is given, and the port they have.

    Raises:
        OSError: the address cannot be bound.
    """
    plain = await trio.open_tcp_listeners(port, host=host)
    bound: int = plain[0].socket.getsockname()[1]
    if tls is None:
        return list(plain), bound
    return [trio.SSLListener(listener, tls, https_compatible=True) for listener in plain], bound
