"""The node channel over streams in memory and in virtual time: slow, silent and talkative peers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from relaymesh.controller.core import ControllerCore, CoreOptions
from relaymesh.controller.policy import OpenMesh
from relaymesh.controller.server import (
    JOIN_TIMEOUT_S,
    MAX_STRANGERS,
    MESSAGE_BURST,
    MESSAGES_PER_S,
    NodeChannels,
    Outbox,
)
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    Address,
    Join,
    NodeMessage,
    ParticipantName,
    Report,
    Subscribe,
    TablesHeld,
    encode_message,
)
from tests.controller.fake_mesh import SECRET


class Bench:
    """A core with its channels, and peers on streams in memory."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.core = ControllerCore(
            CoreOptions(SECRET), OpenMesh(), key_source=random.Random(1).randbytes, unix_time=lambda: 1e9
        )
        self.channels = NodeChannels(self.core, lambda: self.channels.flush())
        self.nursery = nursery

    def dial(self) -> trio.abc.Stream:
        """A stream to the controller on which it holds the other end, and no more than one write waits."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return ours

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[WebSocketConnection]:
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(nursery, self.dial(), "localhost", "/v1/node")
            join = Join(
                CONTROL_VERSION,
                name,
                "here",
                make_join_token(SECRET),
                f"boot-of-{name}",
                Address("127.0.0.1", 1),
                "",
            )
            await say(socket, join)
            yield socket
            nursery.cancel_scope.cancel()

    def connected(self) -> list[str]:
        nodes = self.core.state()["nodes"]
        assert isinstance(nodes, list)
        return [node["name"] for node in nodes if node["connected"]]

    async def _serve(self, stream: trio.abc.Stream) -> None:
        try:
            await self.channels.serve_stream(stream)
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    with trio.fail_after(600):  # of virtual seconds
        async with trio.open_nursery() as nursery:
            yield Bench(nursery)
            nursery.cancel_scope.cancel()


async def say(socket: WebSocketConnection, message: NodeMessage) -> None:
    await socket.send_message(encode_message(message))


async def say_until_closed(socket: WebSocketConnection, message: NodeMessage, most: int) -> int:
    """Say the same over and over; how often, until the channel was closed."""
    for said in range(most):
        try:
            await say(socket, message)
        except ConnectionClosed:
            return said
    return most


async def test_who_says_nothing_is_sent_away(autojump_clock: trio.testing.MockClock) -> None:
    async with bench() as here:
        stream, began = here.dial(), trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(JOIN_TIMEOUT_S)
        async with trio.open_nursery() as nursery:
            # A WebSocket, but no join on it.
            socket = await wrap_client_stream(nursery, here.dial(), "localhost", "/v1/node")
            with pytest.raises(ConnectionClosed):
                await socket.get_message()
        assert here.channels.counters["channel-no-join"] == 2


async def test_a_crowd_of_strangers_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    async with bench() as here:
        crowd = [here.dial() for _ in range(MAX_STRANGERS)]
        await trio.testing.wait_all_tasks_blocked()
        assert await here.dial().receive_some() == b""  # at once
        assert here.channels.counters["channel-limit"] == 1
        assert await crowd[0].receive_some() == b""
        async with here.node("late"):
            await trio.testing.wait_all_tasks_blocked()
            assert here.connected() == ["late"]


async def test_a_node_that_does_not_drain_loses_its_channel_and_delays_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with bench() as here, here.node("good") as good, here.node("slow") as slow:
        await good.get_message()
        await slow.get_message()
        # From here on slow asks and never listens: trio-websocket's client
        # reads one message ahead and then stops.
        said = await say_until_closed(slow, Subscribe(1, ParticipantName("demo", "nobody")), 20_000)
        assert said < 20_000
        await trio.testing.wait_all_tasks_blocked()
        assert here.channels.counters["channel-overflow"] == 1
        assert here.connected() == ["good"]
        began = trio.current_time()
        await say(good, Report(()))
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == began


async def test_a_node_that_talks_too_much_is_read_more_slowly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with bench() as here, here.node("chatty") as chatty:
        began, said = trio.current_time(), int(MESSAGE_BURST + 5 * MESSAGES_PER_S)
        for _ in range(said):
            await say(chatty, TablesHeld(1))
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.5)
        assert here.connected() == ["chatty"]


async def test_a_goodbye_that_is_not_heard_does_not_keep_the_channel(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with bench() as here, trio.open_nursery() as nursery:
        stream = here.dial()
        socket = await wrap_client_stream(nursery, stream, "localhost", "/v1/node")
        await say(socket, TablesHeld(1))  # no join: refused; and nobody reads the refusal
        await trio.sleep(3)
        assert await say_until_closed(socket, TablesHeld(1), 10) < 10
        nursery.cancel_scope.cancel()


async def test_an_outbox_is_bounded_and_keeps_order(autojump_clock: trio.testing.MockClock) -> None:
    outbox = Outbox(max_messages=2, max_bytes=10)
    assert outbox.put(b"one") and outbox.put(b"two")
    assert not outbox.put(b"x")
    assert await outbox.get() == b"one"
    assert not outbox.put(b"12345678")
    outbox.finish()
    assert outbox.put(b"too late")
    assert await outbox.get() == b"two" and await outbox.get() is None
    waiting = Outbox()
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            await trio.sleep(1)
            waiting.put(b"late")

        nursery.start_soon(write)
        assert await waiting.get() == b"late"
