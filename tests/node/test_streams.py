"""Clients at the other end of a TCP connection: what they are sent, and what their port bears."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import trio

from relaymesh.node import streams
from relaymesh.node.streams import StreamPort
from relaymesh.webrtc.addresses import bare, is_stream, stream_address
from relaymesh.webrtc.framing import Deframer, frame
from relaymesh.webrtc.stun import parse_binding_response
from tests.node.browser import Browser, exchange, offer_text
from tests.node.test_edge import ALICE, KEY, Stage

HOST, PORT = "198.51.100.2", 6000

# --- a session on a stream


def play(stage: Stage, address: tuple[str, int]) -> Browser:
    publication = stage.core.directory.find(ALICE)
    assert publication is not None
    player = Browser(address)
    _, answer = stage.core.play(publication, offer_text("chromium-whep"), stage.now)
    player.accept(answer)
    player.connect(stage.core, stage.now)
    stage.players.append(player)
    return player


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.publish()
    return stage


def test_a_stream_and_a_datagram_socket_of_the_same_numbers_are_two() -> None:
    assert stream_address(HOST, PORT) != (HOST, PORT)
    assert is_stream(stream_address(HOST, PORT)) and not is_stream((HOST, PORT))
    assert bare(stream_address(HOST, PORT)) == bare((HOST, PORT)) == (HOST, PORT)


def test_nothing_for_a_stream_is_left_with_the_datagrams_of_the_fan_out(stage: Stage) -> None:
    by_stream, by_datagrams = play(stage, stream_address(HOST, PORT)), play(stage, (HOST, PORT))
    stage.send(KEY)
    for _ in range(5):
        stage.send()
    assert all(not is_stream(address) for _, address in stage.core.edge.fan_out.pop())
    exchange(stage.core, stage.now, by_stream)
    assert len(by_stream.rtp) == 6 and by_datagrams.rtp == []
    assert stage.core.edge.knows(stream_address(HOST, PORT))


def test_checks_are_told_the_address_without_the_stream(stage: Stage) -> None:
    player = play(stage, stream_address(HOST, PORT))
    stage.core.handle_media_datagram(player.check(), player.address, stage.now)
    [(reply, address)] = stage.core.poll_media_datagrams()
    assert address == player.address
    assert parse_binding_response(reply, player.password).address == (HOST, PORT)


def test_a_client_that_moves_between_the_two_loses_nothing(stage: Stage) -> None:
    player = play(stage, (HOST, PORT))
    stage.send(KEY)
    stage.pass_time(0.01)
    for k in range(60):
        if k % 10 == 0:  # a check that nominates
            player.address = (HOST, PORT) if is_stream(player.address) else stream_address(HOST, PORT)
            stage.core.handle_media_datagram(player.check(), player.address, stage.now)
        stage.send()
        stage.pass_time(0.01)
    sequences = [packet.sequence for packet in player.rtp]
    assert sequences == list(range(sequences[0], sequences[0] + 61))


# --- the port


class Server:
    """Takes packets and vouches for whom the test names."""

    def __init__(self) -> None:
        self.port = StreamPort.open("127.0.0.1", 0)
        self.taken: list[tuple[bytes, tuple[str, int]]] = []
        self.known: set[tuple[str, int]] = set()

    def take_packets(self, packets: list[bytes], address: tuple[str, int]) -> None:
        self.taken += [(packet, address) for packet in packets]

    def vouches_for(self, address: tuple[str, int]) -> bool:
        return address in self.known


@pytest.fixture
async def server(nursery: trio.Nursery):
    server = Server()
    await nursery.start(started(server))
    yield server
    nursery.cancel_scope.cancel()
    server.port.close()


def started(server: Server):
    async def run(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await server.port.run(server)

    return run


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not true():
            await trio.sleep(0.001)


async def read(stream: trio.SocketStream, packets: int) -> list[bytes]:
    deframer, got = Deframer(), []
    with trio.fail_after(5):
        while len(got) < packets:
            got += deframer.feed(await stream.receive_some(4096))
    return got


def address_of(stream: trio.SocketStream) -> tuple[str, int]:
    return stream_address(*stream.socket.getsockname()[:2])


async def test_packets_go_both_ways_with_the_connections_address(server: Server) -> None:
    async with await trio.open_tcp_stream(*server.port.address) as client:
        await client.send_all(frame(b"one") + frame(b"two")[:3])
        await client.send_all(frame(b"two")[3:])
        await until(lambda: len(server.taken) == 2)
        address = address_of(client)
        assert server.taken == [(b"one", address), (b"two", address)]
        await trio.to_thread.run_sync(
            server.port.send_batch, [(b"1", address), (b"", address), (b"2", address)]
        )
        assert await read(client, 2) == [b"1", b"2"]
    await until(lambda: len(server.port) == 0)
    server.port.send_batch([(b"late", address)])
    assert server.port.send_failures == 1


async def test_a_connection_that_no_session_vouches_for_is_closed(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(streams, "PROOF_S", 0.05)
    known = await trio.open_tcp_stream(*server.port.address)
    server.known.add(address_of(known))
    stranger = await trio.open_tcp_stream(*server.port.address)
    with trio.fail_after(5):
        assert await stranger.receive_some(1) == b""
    await trio.sleep(0.2)
    assert len(server.port) == 1
    server.known.clear()  # its session is over
    with trio.fail_after(5):
        assert await known.receive_some(1) == b""
    assert server.port.refused == {"no session": 2}
    for stream in (known, stranger):
        await stream.aclose()


async def test_strangers_are_few_and_sessions_do_not_count_among_them(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(streams, "MAX_STRANGERS", 2)
    clients = [await trio.open_tcp_stream(*server.port.address) for _ in range(3)]
    await until(lambda: server.port.refused["too many strangers"] == 1)
    with trio.fail_after(5):
        assert await clients[2].receive_some(1) == b""
    server.known.add(address_of(clients[0]))  # since then it has a session
    clients.append(await trio.open_tcp_stream(*server.port.address))
    await until(lambda: len(server.port) == 3)
    for client in clients:
        await client.aclose()


async def test_what_is_no_packet_ends_the_connection_and_no_other(server: Server) -> None:
    bad, good = [await trio.open_tcp_stream(*server.port.address) for _ in range(2)]
    await bad.send_all(b"\xff\xffGET / HTTP/1.1")
    with trio.fail_after(5):
        assert await bad.receive_some(1) == b""
    assert server.port.refused == {"malformed": 1}
    await good.send_all(frame(b"x"))
    await until(lambda: len(server.taken) == 1)
    for stream in (bad, good):
        await stream.aclose()


async def test_a_slow_reader_loses_what_is_new_and_in_the_end_its_connection(
    server: Server, monkeypatch
) -> None:
    monkeypatch.setattr(streams, "STUCK_S", 0.1)
    client = await trio.open_tcp_stream(*server.port.address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await until(lambda: len(server.port) == 1)
    address = address_of(client)
    with trio.fail_after(5):
        while not server.port.refused["too slow"]:
            server.port.send_batch([(bytes(1200), address)] * 300)
            await trio.sleep(0.001)
    assert server.port.send_failures > 0
    assert len(server.port) == 0
    await client.aclose()
