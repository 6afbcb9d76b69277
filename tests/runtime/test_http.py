"""Serving HTTP on real sockets: what one client does ends neither the server nor another's request."""

from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
import trio
import trio.testing
import trustme
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from relaymesh.runtime import http
from relaymesh.runtime.http import bind_http, bind_http_path, serve_http

H2C = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: !!!\r\n\r\n"
)
BIG = "x" * (16 << 20)  # more than the socket buffers of loopback hold


def make_app() -> Starlette:
    async def hello(request):
        return PlainTextResponse("hello")

    async def big(request):
        return PlainTextResponse(BIG)

    async def bug(request):
        raise RuntimeError("a bug")

    return Starlette(routes=[Route("/", hello), Route("/big", big), Route("/bug", bug)])


@asynccontextmanager
async def server(**tls):
    sock = bind_http("127.0.0.1", 0)
    address = sock.getsockname()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status):
            await serve_http(make_app(), sock, stop.wait, task_status=task_status, **tls)

        await nursery.start(run)
        yield address, stop
        stop.set()


async def get(address, path: str = "/") -> bytes:
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join([data async for data in stream])


async def test_requests_are_answered_and_a_bug_costs_one_of_them() -> None:
    with trio.fail_after(20):
        async with server() as (address, _):
            assert (await get(address)).endswith(b"hello")
            assert b" 500 " in (await get(address, "/bug")).splitlines()[0]
            assert (await get(address)).endswith(b"hello")


async def test_a_client_that_does_not_read_does_not_hold_up_the_stop() -> None:
    with trio.fail_after(20):
        async with server() as (address, stop), await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some(10)  # the response is under way
            assert (await get(address)).endswith(b"hello")
            stop.set()
            asked_at = trio.current_time()
        assert trio.current_time() - asked_at < http.GRACE + 1


async def test_cancelling_does_not_wait_for_it_either() -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            sock = bind_http("127.0.0.1", 0)
            await nursery.start(
                lambda task_status: serve_http(make_app(), sock, trio.sleep_forever, task_status=task_status)
            )
            stream = await trio.open_tcp_stream(*sock.getsockname())
            await stream.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some(10)
            cancelled_at = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - cancelled_at < 1
        with trio.CancelScope(shield=True):
            await stream.aclose()


async def test_a_client_that_never_reads_is_given_up(mock_clock) -> None:
    mock_clock.rate = 1  # real sockets; but nobody waits for the patience to end
    with trio.fail_after(20 + http.SEND_TIMEOUT):
        async with server() as (address, _), await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some(10)
            await trio.testing.wait_all_tasks_blocked(0.001)  # the response is stuck
            mock_clock.jump(http.SEND_TIMEOUT)
            await trio.testing.wait_all_tasks_blocked(0.001)  # it is given up before anything is read
            received = 0
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012
                while data := await stream.receive_some(1 << 16):
                    received += len(data)
                raise trio.BrokenResourceError("closed early")
            assert received < len(BIG)


async def test_there_are_only_so_many_connections(monkeypatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    with trio.fail_after(20):
        async with server() as (address, _):
            async with await trio.open_tcp_stream(*address), await trio.open_tcp_stream(*address) as second:
                await second.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await second.receive_some(1000)).startswith(b"HTTP/1.1 200")
                async with await trio.open_tcp_stream(*address) as third:
                    assert await third.receive_some(1) == b""
            while True:  # until the server has seen them go
                with suppress(trio.BrokenResourceError):
                    if (await get(address)).endswith(b"hello"):
                        break


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xff nonsense",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n" * 20,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(200),
        H2C,
    ],
    ids=["tls", "websocket", "h2", "h2c"],
)
async def test_nonsense_ends_its_own_connection_only(data: bytes) -> None:
    with trio.fail_after(20):
        async with server() as (address, _):
            for abort in (False, True):
                sock = trio.socket.socket()
                await sock.connect(address)
                await trio.SocketStream(sock).send_all(data)
                with trio.move_on_after(0.1):
                    await sock.recv(1000)
                if abort:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.close()
            assert (await get(address)).endswith(b"hello")


async def test_tls_and_files_that_are_missing(tmp_path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    with trio.fail_after(20):
        async with server(tls_cert=cert, tls_key=key) as (address, _):
            assert await get(address) == b""
            context = ssl.create_default_context()
            authority.configure_trust(context)
            stream = trio.SSLStream(
                await trio.open_tcp_stream(*address),
                context,
                server_hostname="localhost",
                https_compatible=True,
            )
            async with stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join([data async for data in stream])
            assert answer.endswith(b"hello")
    with pytest.raises(OSError, match="directory"):
        await serve_http(
            make_app(), bind_http("127.0.0.1", 0), trio.sleep_forever, tls_cert=key / "no", tls_key=key
        )


async def test_a_path_of_the_file_system_is_an_address_too_also_where_a_dead_process_left_one(tmp_path):
    path = tmp_path / "1"
    bind_http_path(path).close()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, make_app(), bind_http_path(path), trio.sleep_forever)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            assert (await client.get("http://x/")).text == "hello"
        nursery.cancel_scope.cancel()


def test_a_path_that_is_no_address_is_an_os_error(tmp_path):
    for path in (tmp_path / "missing" / "1", tmp_path / ("x" * 200)):
        with pytest.raises(OSError):
            bind_http_path(path)
