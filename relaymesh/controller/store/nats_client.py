"""A NATS client for trio, as small as the store needs it: publish, subscribe, request, reconnect.

In: subjects and payloads. Out: messages and answers, or
:class:`~relaymesh.controller.store.interface.StoreDown`. One task tree holds
one connection; when it breaks, every open request fails at once, the next
server is tried with a growing, jittered pause, and subscriptions are made
again. Nothing is kept for later: who asks while there is no connection is told.
It knows nothing of JetStream.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import trio

from relaymesh.controller.store import nats_wire as wire
from relaymesh.controller.store.interface import StoreDown
from relaymesh.runtime.log import get_logger

CONNECT_TIMEOUT_S = 2.0
PING_INTERVAL_S = 2.0  # a server that is silent for two of these is gone
REQUEST_TIMEOUT_S = 2.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
QUEUE_FRAMES = 1024  # to be written
RECEIVE_BYTES = 65536

CONNECTION_ERRORS = (OSError, trio.TooSlowError, trio.BrokenResourceError, wire.WireError, StoreDown)

OnMessage = Callable[[wire.Message], None]
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How the servers are reached."""

    servers: Sequence[tuple[str, int]]
    tls: ssl.SSLContext | None = None  # a server that asks for TLS gets it by this one
    user: str = ""
    password: str = field(default="", repr=False)
    name: str = "relaymesh"


class NatsClient:
    """Made by :func:`open_nats`."""

    def __init__(self, options: NatsOptions, rng: Random) -> None:
        self._options = options
        self._rng = rng
        self._sids = count(2)
        self._inbox = f"_INBOX.{rng.randbytes(11).hex()}"
        self._answers: dict[str, trio.MemorySendChannel[wire.Message]] = {}
        self._subscriptions: dict[int, tuple[str, OnMessage]] = {1: (f"{self._inbox}.*", self._on_answer)}
        self._queue: trio.MemorySendChannel[bytes] | None = None
        self._pongs_due = 0
        self._broken: trio.CancelScope | None = None
        self.connections = 0  # made so far
        self.connected = trio.Event()  # a new one after each break

    # --- calls ---------------------------------------------------------------------------------

    def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] = wire.NO_HEADERS,
    ) -> None:
        """Hand a message to the connection.

        Raises:
            StoreDown: there is none, or it does not drain.
        """
        self._send(wire.publish(subject, payload, reply, headers))

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] = wire.NO_HEADERS,
        timeout: float = REQUEST_TIMEOUT_S,
    ) -> wire.Message:
        """Publish, and wait for the answer.

        Raises:
            StoreDown: there is no connection, it broke, nobody answers there, or not in time.
        """
        reply = f"{self._inbox}.{next(self._sids)}"
        send, receive = trio.open_memory_channel[wire.Message](1)
        self._answers[reply] = send
        try:
            self.publish(subject, payload, reply=reply, headers=headers)
            with trio.fail_after(timeout):
                answer = await receive.receive()
        except trio.TooSlowError:
            raise StoreDown(f"no answer to {subject} in {timeout} s") from None
        except trio.EndOfChannel:
            raise StoreDown("the connection broke") from None
        finally:
            del self._answers[reply]
            send.close()
            receive.close()
        if answer.status == 503:
            raise StoreDown(f"nobody answers at {subject}")
        return answer

    def subscribe(self, subject: str, on_message: OnMessage) -> int:
        """Call *on_message* with what is sent to *subject*, over all connections to come; its number."""
        sid = next(self._sids)
        self._subscriptions[sid] = (subject, on_message)
        if self._queue is not None:
            self._send(wire.subscribe(subject, sid))
        return sid

    def unsubscribe(self, sid: int) -> None:
        """The subscription is over."""
        del self._subscriptions[sid]
        try:
            self._send(wire.unsubscribe(sid))
        except StoreDown:
            pass  # it ended with the connection

    def new_inbox(self) -> str:
        """A subject that nobody else listens to."""
        return f"{self._inbox}-{next(self._sids)}"

    def _send(self, data: bytes) -> None:
        if self._queue is None:
            raise StoreDown("no connection to a NATS server")
        try:
            self._queue.send_nowait(data)
        except trio.WouldBlock:
            if self._broken is not None:
                self._broken.cancel()
            raise StoreDown("the NATS server does not drain the connection") from None

    # --- the connection ------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected; never returns."""
        pause = FIRST_PAUSE_S
        for number in count():
            host, port = self._options.servers[number % len(self._options.servers)]
            made, why = self.connections, "it closed the connection"
            try:
                await self._one_connection(host, port)
            except* CONNECTION_ERRORS as group:
                why = _why(group)
            log.warning("no NATS server", server=f"{host}:{port}", why=why)
            if self.connections > made:
                pause = FIRST_PAUSE_S
            await trio.sleep(pause * (0.5 + self._rng.random()))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _one_connection(self, host: str, port: int) -> None:
        parser = wire.Parser()
        with trio.fail_after(CONNECT_TIMEOUT_S) as connecting:
            stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
            async with stream:
                stream = await self._greet(stream, host, parser)
                connecting.deadline = float("inf")
                await self._converse(stream, parser)

    async def _greet(self, stream: trio.abc.Stream, host: str, parser: wire.Parser) -> trio.abc.Stream:
        """Up to our CONNECT; a server that wants TLS has it from its INFO on."""
        frames: list[wire.Frame] = []
        while not frames:
            frames = parser.feed(await _receive(stream))
        info = frames[0]
        if not isinstance(info, wire.Info):
            raise wire.WireError("a server that does not begin with INFO")
        if self._options.tls is not None:
            stream = trio.SSLStream(stream, self._options.tls, server_hostname=host)
            await stream.do_handshake()
        elif info.fields.get("tls_required"):
            raise wire.WireError("this server wants TLS: say tls:// and not nats://")
        options: dict[str, object] = {
            "verbose": False, "pedantic": False, "lang": "python", "version": "1", "protocol": 1,
            "headers": True, "no_responders": True, "name": self._options.name,
        }  # fmt: skip
        if self._options.user:
            options |= {"user": self._options.user, "pass": self._options.password}
        await stream.send_all(wire.connect(options) + wire.PING)
        while True:
            for frame in parser.feed(await _receive(stream)):
                if isinstance(frame, wire.ServerError):
                    raise wire.WireError(frame.text)
                if isinstance(frame, wire.Pong):
                    return stream

    async def _converse(self, stream: trio.abc.Stream, parser: wire.Parser) -> None:
        send, receive = trio.open_memory_channel[bytes](QUEUE_FRAMES)
        try:
            async with send, receive, trio.open_nursery() as nursery:
                self._broken = nursery.cancel_scope
                self._queue, self._pongs_due = send, 0
                nursery.start_soon(self._write, stream, receive)
                nursery.start_soon(self._keep_alive)
                for sid, (subject, _) in self._subscriptions.items():
                    self._send(wire.subscribe(subject, sid))
                self.connections += 1
                self.connected.set()
                log.info("connected to NATS")
                while True:
                    for frame in parser.feed(await _receive(stream)):
                        self._handle(frame)
        finally:
            self._queue = self._broken = None
            if self.connected.is_set():  # otherwise somebody may be waiting for this one
                self.connected = trio.Event()
            for answer in self._answers.values():
                answer.close()

    def _handle(self, frame: wire.Frame) -> None:
        match frame:
            case wire.Message():
                subscription = self._subscriptions.get(frame.sid)
                if subscription is not None:
                    subscription[1](frame)
            case wire.Ping():
                self._send(wire.PONG)
            case wire.Pong():
                self._pongs_due = 0
            case wire.ServerError():
                log.warning("the NATS server complains", text=frame.text)
            case wire.Info():
                pass  # of other servers; we know those we were given

    def _on_answer(self, message: wire.Message) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None:
            try:
                answer.send_nowait(message)
            except (trio.WouldBlock, trio.BrokenResourceError):
                pass  # one answer is enough

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(PING_INTERVAL_S)
            if self._pongs_due >= 2:
                raise trio.BrokenResourceError("the server is silent")
            self._pongs_due += 1
            self._send(wire.PING)

    async def _write(self, stream: trio.abc.Stream, queue: trio.MemoryReceiveChannel[bytes]) -> None:
        async for data in queue:
            await stream.send_all(data)


async def _receive(stream: trio.abc.Stream) -> bytes:
    data = bytes(await stream.receive_some(RECEIVE_BYTES))
    if not data:
        raise trio.BrokenResourceError("the server closed the connection")
    return data


def _why(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    return str(error) or type(error).__name__


@asynccontextmanager
async def open_nats(options: NatsOptions, rng: Random) -> AsyncIterator[NatsClient]:
    """A client that stays connected as long as this is open; it may not be, at first."""
    client = NatsClient(options, rng)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        yield client
        nursery.cancel_scope.cancel()
