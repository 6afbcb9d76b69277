"""The controller on loopback: real WebSockets, with and without TLS, and what hostile peers do to them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from relaymesh.controller.app import Addresses, run_controller
from relaymesh.controller.settings import ControllerSettings
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    MAX_MESSAGE_BYTES,
    Address,
    ControllerMessage,
    Delta,
    Join,
    Links,
    NodeMessage,
    Refused,
    Report,
    Snapshot,
    TablesHeld,
    Welcome,
    decode_controller_message,
    encode_message,
)
from tests.controller.reports import up

SECRET = "a join secret for tests, long enough"


@asynccontextmanager
async def controller(**values: Any) -> AsyncIterator[Addresses]:
    plain = {"listen": "127.0.0.1:0", "api_listen": "127.0.0.1:0", "join_secret": SECRET}
    settings = ControllerSettings(**(plain | values))
    stop = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(run_controller, settings, stop=stop))
            stop.set()


def join(name: str, **changes: Any) -> Join:
    values: dict[str, Any] = {
        "version": CONTROL_VERSION,
        "name": name,
        "region": "here",
        "token": make_join_token(SECRET, name=name),
        "boot_id": f"boot-of-{name}",
        "relay": Address("127.0.0.1", 7500),
        "http_url": "",
    }
    return Join(**(values | changes))


@asynccontextmanager
async def node_socket(
    addresses: Addresses, path: str = "/v1/node", tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebSocketConnection]:
    stream: trio.abc.Stream = await trio.open_tcp_stream(*addresses.nodes)
    async with stream:
        if tls is not None:
            stream = trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)
        async with trio.open_nursery() as nursery:
            with trio.fail_after(5):
                socket = await wrap_client_stream(nursery, stream, "localhost", path)
            yield socket
            with trio.move_on_after(0.5):
                await socket.aclose()
            nursery.cancel_scope.cancel()


async def say(socket: WebSocketConnection, *messages: NodeMessage) -> None:
    for message in messages:
        await socket.send_message(encode_message(message))


async def hear(socket: WebSocketConnection, kind: type[ControllerMessage]) -> Any:
    """The next message of this kind."""
    with trio.fail_after(5):
        while True:
            data = await socket.get_message()
            assert isinstance(data, bytes)
            message = decode_controller_message(data)
            if isinstance(message, kind):
                return message


async def hear_routes(socket: WebSocketConnection) -> None:
    """Hear, and hold, generations until one has routes: whole, or by its difference, as time will have it."""
    with trio.fail_after(20):
        while True:
            data = await socket.get_message()
            assert isinstance(data, bytes)
            message = decode_controller_message(data)
            if isinstance(message, Snapshot | Delta):
                await say(socket, TablesHeld(message.generation))
                if message.routes if isinstance(message, Snapshot) else message.moved:
                    return


async def hear_end(socket: WebSocketConnection) -> None:
    """Hear the rest, until the controller closes the channel."""
    with trio.fail_after(8):
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed:
            return


async def state(addresses: Addresses) -> Any:
    assert addresses.api is not None
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://{addresses.api[0]}:{addresses.api[1]}/v1/state")).json()


async def test_two_nodes_join_report_and_get_routes() -> None:
    async with (
        controller(report_interval_ms=50) as addresses,
        node_socket(addresses) as one,
        node_socket(addresses) as other,
    ):
        await say(one, join("a"))
        assert (await hear(one, Welcome)).report_interval_ms == 50
        await say(other, join("b"))
        assert (await hear(other, Welcome)).index == 1
        assert (await hear(other, Links)).set[0].name == "a"
        await say(one, Report((up(1, 20.0),)))
        await say(other, Report((up(0, 20.0),)))
        await hear_routes(one)
        assert (await state(addresses))["links"][0]["cost_ms"] == pytest.approx(10.25)


async def test_the_channel_and_its_trust_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    server.cert_chain_pems[0].write_to_path(cert)
    server.private_key_pem.write_to_path(key)
    async with controller(tls_cert=cert, tls_key=key) as addresses:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with node_socket(addresses, tls=trusting) as socket:
            await say(socket, join("a"))
            assert (await hear(socket, Welcome)).index == 0
        host, port = addresses.nodes
        raw = await trio.open_tcp_stream(host, port)
        distrusting = trio.SSLStream(raw, ssl.create_default_context(), server_hostname="localhost")
        with pytest.raises(trio.BrokenResourceError):
            await distrusting.do_handshake()
        await trio.aclose_forcefully(distrusting)
        async with await trio.open_tcp_stream(host, port) as plain:
            await plain.send_all(b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.move_on_after(8):
                while await plain.receive_some():
                    pass
        async with node_socket(addresses, tls=trusting) as socket:  # nobody else was disturbed
            await say(socket, join("b"))
            await hear(socket, Welcome)


async def test_a_public_api_is_served_over_tls_to_who_has_the_token(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    server.cert_chain_pems[0].write_to_path(cert)
    server.private_key_pem.write_to_path(key)
    token = "an admin token of some length"
    async with controller(tls_cert=cert, tls_key=key, api_listen="0.0.0.0:0", admin_token=token) as addresses:
        assert addresses.api is not None
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with httpx.AsyncClient(verify=trusting) as http:
            url = f"https://127.0.0.1:{addresses.api[1]}/v1/state"
            assert (await http.get(url)).status_code == 401
            answer = await http.get(url, headers={"Authorization": f"Bearer {token}"})
            assert answer.json()["nodes"] == []


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\xc1 no msgpack",
        encode_message(Welcome(0, 100.0, 600.0, 1000.0)),
        encode_message(TablesHeld(1)),
        "text",
        b"\x81\xa1t\xa4join",
    ],
)
async def test_a_malformed_beginning_is_answered_and_closed(first: bytes | str) -> None:
    async with controller() as addresses, node_socket(addresses) as socket:
        await socket.send_message(first)
        assert (await hear(socket, Refused)).code == "malformed"
        await hear_end(socket)
        assert (await state(addresses))["nodes"] == []


async def test_refusals_say_why_and_leave_the_others_alone() -> None:
    async with controller() as addresses, node_socket(addresses) as first:
        await say(first, join("a"))
        await hear(first, Welcome)
        for bad, code in (
            (join("b", token="nonsense"), "token"),
            (join("a", boot_id="another-boot"), "name-taken"),
            (join("b", version=9), "version"),
        ):
            async with node_socket(addresses) as socket:
                await say(socket, bad)
                assert (await hear(socket, Refused)).code == code
                await hear_end(socket)
        assert [node["name"] for node in (await state(addresses))["nodes"]] == ["a"]
        await say(first, Report(()))


async def test_hostile_bytes_end_their_own_channel_only() -> None:
    async with controller() as addresses, node_socket(addresses) as good:
        await say(good, join("good"))
        await hear(good, Welcome)
        host, port = addresses.nodes
        for noise in (b"\x16\x03\x01" + bytes(200), b"A" * 100_000, b"GET / HTTP/1.1\r\n\r\n", b""):
            async with await trio.open_tcp_stream(host, port) as stream:
                try:
                    await stream.send_all(noise)
                except trio.BrokenResourceError:
                    pass
        async with node_socket(addresses) as socket:
            await socket.send_message(bytes(MAX_MESSAGE_BYTES + 1))
            await hear_end(socket)
        async with node_socket(addresses) as socket:
            await say(socket, join("bad"))
            await hear(socket, Welcome)
            await socket.send_message(b"\x93\x01\x02\x03")
            assert (await hear(socket, Refused)).code == "malformed"
            await hear_end(socket)
        async with node_socket(addresses) as again:
            await say(again, join("bad", boot_id="another-boot"))
            await hear(again, Welcome)
        nodes = {node["name"]: node["connected"] for node in (await state(addresses))["nodes"]}
        assert nodes["good"] is True


async def test_other_paths_are_not_found() -> None:
    async with controller() as addresses:
        with pytest.raises(ExceptionGroup) as caught:
            async with node_socket(addresses, "/elsewhere"):
                pass
        assert caught.group_contains(ConnectionRejected, match="404")


async def test_the_same_boot_takes_over_and_its_old_channel_is_closed() -> None:
    async with controller() as addresses, node_socket(addresses) as old, node_socket(addresses) as new:
        await say(old, join("a"))
        await hear(old, Welcome)
        await say(new, join("a"))
        assert (await hear(new, Welcome)).index == 0
        await hear_end(old)


async def test_a_stop_closes_the_channels_and_is_quick() -> None:
    settings = ControllerSettings(listen="127.0.0.1:0", api_listen="127.0.0.1:0", join_secret=SECRET)
    stop = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(partial(run_controller, settings, stop=stop))
            async with node_socket(addresses) as socket:
                await say(socket, join("a"))
                await hear(socket, Welcome)
                began = trio.current_time()
                stop.set()
                await hear_end(socket)
    assert trio.current_time() - began < 2.0


async def test_a_controller_without_an_api() -> None:
    async with controller(api_listen="off") as addresses, node_socket(addresses) as socket:
        assert addresses.api is None
        await say(socket, join("a"))
        await hear(socket, Welcome)


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open() -> None:
    async with controller() as addresses:
        host, port = addresses.nodes
        with pytest.raises(ExceptionGroup) as caught:
            async with controller(listen=f"{host}:{port}"):
                pass
        assert caught.group_contains(OSError)
