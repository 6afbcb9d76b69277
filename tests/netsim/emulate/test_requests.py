"""HTTP from inside a namespace, here from inside this one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import cast

import pytest
import trio

from relaymesh.netsim.emulate.namespaces import NetworkNamespace
from relaymesh.netsim.emulate.requests import Answer, RequestError, request


class Here:
    """A namespace that is this one."""

    @contextmanager
    def inside(self):  # type: ignore[no-untyped-def]
        yield


HERE = cast(NetworkNamespace, Here())


async def ask(reply: Callable[[bytes], bytes], within: float = 5.0, source: str | None = None) -> Answer:
    async def handle(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        await stream.send_all(reply(head))
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(handle, 0, host="127.0.0.1", task_status=task_status)
        )
        port = listeners[0].socket.getsockname()[1]
        try:
            return await request(
                HERE, ("127.0.0.1", port), "POST", "/whip/a/b", body=b"offer", within=within, source=source
            )
        finally:
            nursery.cancel_scope.cancel()


async def unwrapped(reply: Callable[[bytes], bytes]) -> Answer | RequestError:
    try:
        return await ask(reply)
    except BaseExceptionGroup as group:
        (error,) = group.exceptions
        assert isinstance(error, RequestError)
        return error


async def test_an_answer_comes_with_status_headers_and_body() -> None:
    seen: list[bytes] = []

    def reply(head: bytes) -> bytes:
        seen.append(head)
        return b"HTTP/1.1 201 Created\r\nLocation: /session/1\r\nContent-Length: 2\r\n\r\nhi"

    answer = await ask(reply, source="127.0.0.2")
    assert (answer.status, answer.headers["location"], answer.body) == (201, "/session/1", b"hi")
    assert seen[0].startswith(b"POST /whip/a/b HTTP/1.1\r\n")
    assert b"Content-Length: 5\r\n" in seen[0]


async def test_an_answer_in_chunks_is_read() -> None:
    chunks = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
    answer = await ask(lambda head: chunks)
    assert answer.json() == {"a": 1}


@pytest.mark.parametrize(
    "data", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"]
)
async def test_what_is_no_http_is_an_error(data: bytes) -> None:
    assert isinstance(await unwrapped(lambda head: data), RequestError)


async def test_nobody_there_is_an_error() -> None:
    with pytest.raises(RequestError, match="refused"):
        await request(HERE, ("127.0.0.1", 1), "GET", "/")


async def test_an_answer_that_takes_too_long_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0]:
        target = listeners[0].socket.getsockname()[:2]
        with pytest.raises(RequestError, match="did not answer within"):
            await request(HERE, target, "GET", "/", within=0.5)
