"""The control channel against a small controller: on loopback, or emulated where time matters."""

import random
import ssl

import msgpack
import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, serve_websocket

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.net import Network
from relaymesh.node.agent import (
    CLOSE_TIMEOUT,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PING_INTERVAL,
    PING_TIMEOUT,
    Agent,
    JoinRefused,
    client_tls,
)
from relaymesh.node.fence import Fence
from relaymesh.protocol.messages import (
    Address,
    Join,
    Refused,
    Report,
    TablesHeld,
    Welcome,
    decode_node_message,
    encode_message,
)
from tests.netsim.links import FixedLink

JOIN = Join(1, "n", "r", "token", "boot-id-1", Address("127.0.0.1", 1), "http://127.0.0.1:1")
WELCOME = Welcome(3, 100.0, 600.0, 1000.0)


class FakeController:
    """Welcomes (or refuses) whoever joins; remembers what it was told."""

    def __init__(self, *, refuse: Refused | None = None, garbage: bool = False) -> None:
        self.refuse, self.garbage = refuse, garbage
        self.welcome = WELCOME
        self.heard: list[object] = []
        self.sockets = []
        self.url = ""

    async def run(self, tls=None, host="127.0.0.1", port=0, *, task_status=trio.TASK_STATUS_IGNORED):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, self._handle, host, port, tls)
            self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}"
            task_status.started()

    async def _handle(self, request):
        socket = await request.accept()
        self.sockets.append(socket)
        self.heard.append(decode_node_message(await socket.get_message()))
        if self.garbage:
            await socket.send_message(b"\xc1 not msgpack")
            await socket.send_message(msgpack.packb({"t": "from-the-future"}))
            await socket.send_message("text")
        await socket.send_message(encode_message(self.refuse or self.welcome))
        try:
            while True:
                self.heard.append(decode_node_message(await socket.get_message()))
        except ConnectionClosed:
            pass


def make_agent(*urls: str, tls=None, seed: int = 1, admits=lambda message: True):
    said: list[object] = []
    broken: list[bool] = []
    agent = Agent(
        urls,
        tls,
        make_join=lambda: JOIN,
        on_message=said.append,
        on_disconnected=lambda: broken.append(True),
        rng=random.Random(seed),
        admits=admits,
    )
    return agent, said, broken


async def until(condition) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()


async def test_it_joins_and_passes_messages_both_ways(nursery):
    controller = FakeController(garbage=True)
    await nursery.start(controller.run)
    agent, said, _ = make_agent(controller.url)
    agent.offer([TablesHeld(1)])  # nobody is there: dropped, not kept
    nursery.start_soon(agent.run)
    await until(lambda: agent.connected)
    assert said == [WELCOME]
    agent.offer([TablesHeld(2), Report(())])
    await until(lambda: len(controller.heard) == 3)
    assert controller.heard == [JOIN, TablesHeld(2), Report(())]
    nursery.cancel_scope.cancel()


async def test_it_joins_again_when_the_channel_breaks(nursery):
    controller = FakeController()
    await nursery.start(controller.run)
    agent, _, broken = make_agent(controller.url)
    nursery.start_soon(agent.run)
    await until(lambda: agent.connected)
    await controller.sockets[0].aclose()
    await until(lambda: agent.joins == 2)
    assert broken == [True]
    assert controller.heard == [JOIN, JOIN]
    nursery.cancel_scope.cancel()


CONTROLLER, NODE, PORT = "10.0.0.1", "10.0.0.2", 7400
URL = f"ws://controller.test:{PORT}"


def in_virtual_time(main) -> None:
    """Run *main* (nursery, network) on an emulated network, whose time nobody waits for."""
    network = Network(1, lambda source, target: FixedLink(0.01), {"controller.test": CONTROLLER})

    async def top(network):
        async with trio.open_nursery() as nursery:
            await main(nursery, network)
            nursery.cancel_scope.cancel()

    run_virtual(top, seed=1, network=network)


async def seen(condition, within: float) -> float:
    """Let virtual time pass until *condition* holds; returns when that was."""
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.005)
    return trio.current_time()


def test_a_controller_that_falls_silent_is_left():
    joins = []

    async def hangs(request):
        """Welcomes, and then reads nothing: not even pings, once its queue of messages is full."""
        socket = await request.accept()
        joins.append(await socket.get_message())
        await socket.send_message(encode_message(WELCOME))
        await trio.sleep_forever()

    async def main(nursery, network):
        with network.on_host(CONTROLLER):
            await nursery.start(serve_websocket, hangs, None, PORT, None)
        agent, _, broken = make_agent(URL)
        with network.on_host(NODE):
            nursery.start_soon(agent.run)
        joined_at = await seen(lambda: agent.connected, 1)
        agent.offer([TablesHeld(k) for k in range(5)])
        left_at = await seen(lambda: broken, 60)
        assert PING_TIMEOUT < left_at - joined_at < PING_INTERVAL + PING_TIMEOUT + 0.1
        again_at = await seen(lambda: agent.joins == 2, 60)
        assert again_at - left_at < 2 * FIRST_PAUSE + CLOSE_TIMEOUT
        assert broken == [True]
        assert len(joins) == 2

    in_virtual_time(main)


def test_a_controller_that_answers_pings_is_kept(monkeypatch):
    pings = []
    ping = WebSocketConnection.ping

    async def counted(self, payload=None):
        await ping(self, payload)
        pings.append(trio.current_time())

    monkeypatch.setattr(WebSocketConnection, "ping", counted)

    async def main(nursery, network):
        with network.on_host(CONTROLLER):
            await nursery.start(FakeController().run, None, None, PORT)
        agent, _, broken = make_agent(URL)
        with network.on_host(NODE):
            nursery.start_soon(agent.run)
        await trio.sleep(3600)
        assert len(pings) == pytest.approx(3600 / PING_INTERVAL, rel=0.01)
        assert agent.joins == 1 and agent.connected
        assert broken == []

    in_virtual_time(main)


@pytest.mark.parametrize("late", [0.1, 3.0, 600.0])
def test_a_controller_that_comes_late_is_found(late):
    async def main(nursery, network):
        agent, _, _ = make_agent(URL)
        with network.on_host(NODE):
            nursery.start_soon(agent.run)
        await trio.sleep(late)
        assert not agent.connected
        with network.on_host(CONTROLLER):
            await nursery.start(FakeController().run, None, None, PORT)
        await seen(lambda: agent.connected, 1.5 * LONGEST_PAUSE + 0.1)

    in_virtual_time(main)


async def test_the_first_refusal_ends_it_with_the_reason(nursery):
    controller = FakeController(refuse=Refused("token", "this token is expired"))
    await nursery.start(controller.run)
    agent, _, _ = make_agent(controller.url)
    with trio.fail_after(10), pytest.raises(JoinRefused, match="expired") as caught:
        await agent.run()
    assert caught.value.code == "token"
    nursery.cancel_scope.cancel()


async def test_a_later_refusal_is_tried_again(nursery):
    controller = FakeController()
    await nursery.start(controller.run)
    agent, _, _ = make_agent(controller.url)
    nursery.start_soon(agent.run)
    await until(lambda: agent.connected)
    controller.refuse = Refused("name-taken", "wait")
    await controller.sockets[0].aclose()
    await until(lambda: len(controller.sockets) == 2)
    controller.refuse = None
    await until(lambda: agent.joins == 2)
    nursery.cancel_scope.cancel()


async def test_over_tls_the_right_authority_is_believed(nursery, tmp_path):
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    controller = FakeController()
    await nursery.start(controller.run, server_tls)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    agent, said, _ = make_agent(controller.url, tls=client_tls([controller.url], ca))
    nursery.start_soon(agent.run)
    await until(lambda: agent.connected)
    assert said == [WELCOME]
    nursery.cancel_scope.cancel()


async def test_over_tls_a_stranger_is_not_believed(nursery):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    tries: list[bool] = []

    async def serve(stream):
        tries.append(True)
        with pytest.raises(trio.BrokenResourceError):
            await trio.SSLStream(stream, tls, server_side=True).do_handshake()

    listener = (await nursery.start(trio.serve_tcp, serve, 0))[0]
    url = f"wss://127.0.0.1:{listener.socket.getsockname()[1]}"
    agent, said, _ = make_agent(url, tls=client_tls([url], None))
    nursery.start_soon(agent.run)
    await until(lambda: len(tries) == 2)
    assert said == []
    assert not agent.connected
    nursery.cancel_scope.cancel()


def test_a_plain_url_needs_no_tls():
    assert client_tls(["ws://127.0.0.1:1"], None) is None


async def test_a_standby_sends_it_to_the_leader_it_was_given_too(nursery):
    leader, dead = FakeController(), "ws://127.0.0.1:1"
    await nursery.start(leader.run)
    standby = FakeController(refuse=Refused("standby", "not me", leader.url))
    await nursery.start(standby.run)
    agent, _, _ = make_agent(standby.url, dead, leader.url)
    nursery.start_soon(agent.run)
    await until(lambda: agent.connected)
    assert (len(standby.heard), leader.heard) == (1, [JOIN])
    await leader.sockets[0].aclose()
    await until(lambda: agent.joins == 2)
    assert len(standby.heard) >= 2, "the one that broke is tried last"
    nursery.cancel_scope.cancel()


async def test_it_connects_nowhere_a_standby_names_that_it_was_not_given(nursery):
    stranger = FakeController()
    await nursery.start(stranger.run)
    standby = FakeController(refuse=Refused("standby", "not me", stranger.url))
    await nursery.start(standby.run)
    agent, _, _ = make_agent(standby.url)
    nursery.start_soon(agent.run)
    await until(lambda: len(standby.heard) == 3)
    assert stranger.heard == [] and not agent.connected
    nursery.cancel_scope.cancel()


async def test_a_welcome_of_an_older_leader_is_left_for_the_next_controller(nursery):
    old, new = FakeController(), FakeController()
    await nursery.start(old.run)
    await nursery.start(new.run)
    fence = Fence()
    fence.highest = 7
    old.welcome = Welcome(3, 100.0, 600.0, 1000.0, 6)
    new.welcome = Welcome(3, 100.0, 600.0, 1000.0, 8)
    agent, said, _ = make_agent(old.url, new.url, admits=fence.admits)
    nursery.start_soon(agent.run)
    await until(lambda: agent.connected)
    assert said == [new.welcome] and agent.joins == 1 and fence.highest == 8
    nursery.cancel_scope.cancel()
