"""HTTP from inside a namespace: one request, one connection, one answer.

A socket belongs to the namespace it was made in, and stays there; so it is made
here, without awaiting, and everything else goes on outside. No HTTP library lets
one do that in between, so the few bytes of a request are written by hand.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from relaymesh.netsim.emulate.namespaces import NetworkNamespace

MAX_ANSWER_BYTES = 8 << 20
CHUNK_BYTES = 1 << 16


class RequestError(Exception):
    """No answer of HTTP came; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON. Raises ``ValueError``."""
        return json.loads(self.body)


async def request(
    namespace: NetworkNamespace,
    target: tuple[str, int],
    method: str,
    path: str,
    *,
    body: bytes = b"",
    content_type: str = "application/sdp",
    source: str | None = None,
    within: float = 5.0,
) -> Answer:
    """Ask *target* for *path* from inside *namespace*, from the address *source*, *within* seconds.

    Raises:
        RequestError: it cannot be reached, is too slow, or does not speak HTTP.
    """
    with namespace.inside():
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock = trio.socket.from_stdlib_socket(plain)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {target[0]}:{target[1]}\r\nConnection: close\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        with trio.fail_after(within):
            if source is not None:
                await sock.bind((source, 0))
            await sock.connect(target)
            await trio.SocketStream(sock).send_all(head.encode() + body)
            data = b""
            while chunk := await sock.recv(CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_ANSWER_BYTES:
                    raise RequestError(f"{target[0]} answers with more than {MAX_ANSWER_BYTES} bytes")
    except OSError as error:
        raise RequestError(f"{target[0]}: {error.strerror or error}") from None
    except trio.TooSlowError:
        raise RequestError(f"{target[0]} did not answer within {within:g} s") from None
    finally:
        sock.close()
    return _read(data, method, target[0])


class _Replay:
    """As much of a socket as :class:`http.client.HTTPResponse` needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _read(data: bytes, method: str, who: str) -> Answer:
    response = http.client.HTTPResponse(_Replay(data), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ValueError) as error:
        raise RequestError(f"{who} does not speak HTTP: {error!r}") from None
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)
