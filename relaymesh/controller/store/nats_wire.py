"""The text protocol of NATS as a client speaks it: bytes in, frames out, and the other way.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol. Lines
end with CR LF; ``MSG`` and ``HMSG`` are followed by as many bytes as they say,
and CR LF. PURE: it knows no socket and no time. Whatever the bytes, nothing but
:class:`WireError` is raised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

MAX_LINE_BYTES = 64 << 10  # an INFO names every server of a cluster
MAX_PAYLOAD_BYTES = 8 << 20  # a server's own default is 1 MiB
CRLF = b"\r\n"
_HEADER_LINE = b"NATS/1.0"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class WireError(Exception):
    """These bytes are not what a NATS server says."""


@dataclass(frozen=True, slots=True)
class Info:
    """What the server says of itself, first of all and whenever it changes."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message to one of our subscriptions."""

    subject: str
    sid: int  # of the subscription
    reply: str  # where an answer is wanted; empty: nowhere
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None  # 503: nobody listens to that subject; 100: a heartbeat


@dataclass(frozen=True, slots=True)
class Ping:
    """The server wants a pong."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The server answers our ping."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server complains; after most of these it closes the connection."""

    text: str


Frame: TypeAlias = Info | Message | Ping | Pong | ServerError


class Parser:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: tuple[str, int, str, int, int] | None = None  # of the message whose bytes follow

    def feed(self, data: bytes) -> list[Frame]:
        """*data*, as it arrived; the frames that are complete with it.

        Raises:
            WireError: the connection is of no use any more.
        """
        self._data += data
        frames: list[Frame] = []
        while True:
            if self._head is not None:
                frame = self._take_message()
                if frame is None:
                    return frames
                frames.append(frame)
                continue
            end = self._data.find(CRLF)
            if end < 0:
                if len(self._data) > MAX_LINE_BYTES:
                    raise WireError("a line without end")
                return frames
            line = bytes(self._data[:end])
            del self._data[: end + 2]
            line_frame = self._take_line(line)
            if line_frame is not None:
                frames.append(line_frame)

    def _take_line(self, line: bytes) -> Frame | None:
        if len(line) > MAX_LINE_BYTES:
            raise WireError("a line too long")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise WireError("a line that is no text") from None
        verb, _, rest = text.partition(" ")
        match verb.upper():
            case "MSG" | "HMSG" as kind:
                self._head = _read_head(kind, rest)
                return None
            case "PING":
                return Ping()
            case "PONG":
                return Pong()
            case "+OK":
                return None
            case "-ERR":
                return ServerError(rest.strip().strip("'"))
            case "INFO":
                return _read_info(rest)
        raise WireError(f"a line that begins with {verb[:20]!r}")

    def _take_message(self) -> Message | None:
        assert self._head is not None, "the caller saw it"
        subject, sid, reply, header_bytes, total = self._head
        if len(self._data) < total + 2:
            return None
        body = bytes(self._data[:total])
        if self._data[total : total + 2] != CRLF:
            raise WireError("a message longer than it said")
        del self._data[: total + 2]
        self._head = None
        if header_bytes == 0:
            return Message(subject, sid, reply, body)
        headers, status = _read_headers(body[:header_bytes])
        return Message(subject, sid, reply, body[header_bytes:], headers, status)


def _read_head(kind: str, rest: str) -> tuple[str, int, str, int, int]:
    parts = rest.split()
    counts = 2 if kind == "HMSG" else 1
    if len(parts) not in (2 + counts, 3 + counts):
        raise WireError(f"a {kind} of {len(parts)} fields")
    numbers = [parts[1], *parts[-counts:]]
    if not all(number.isascii() and number.isdigit() and len(number) < 12 for number in numbers):
        raise WireError(f"a {kind} with what is no number")
    sid, *sizes = map(int, numbers)
    header_bytes, total = (0, sizes[0]) if kind == "MSG" else (sizes[0], sizes[1])
    if header_bytes > total or total > MAX_PAYLOAD_BYTES or (kind == "HMSG" and header_bytes == 0):
        raise WireError(f"a {kind} of {header_bytes} + {total} bytes")
    reply = parts[2] if len(parts) == 3 + counts else ""
    return parts[0], sid, reply, header_bytes, total


def _read_headers(data: bytes) -> tuple[dict[str, str], int | None]:
    first, *lines = data.split(CRLF)
    if not first.startswith(_HEADER_LINE):
        raise WireError("headers of an unknown kind")
    code = first[len(_HEADER_LINE) :].split()[:1]
    if code and not (code[0].isdigit() and len(code[0]) == 3):
        raise WireError("a status that is no number")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("latin-1")] = value.strip().decode("latin-1")
        elif line:
            raise WireError("a header without a value")
    return headers, int(code[0]) if code else None


def _read_info(rest: str) -> Info:
    try:
        fields = json.loads(rest)
    except (ValueError, RecursionError):
        raise WireError("an INFO that is no JSON") from None
    if not isinstance(fields, dict):
        raise WireError("an INFO that is no object")
    return Info(fields)


def connect(options: Mapping[str, object]) -> bytes:
    """Who we are and what we understand."""
    return b"CONNECT " + json.dumps(options).encode() + CRLF


def publish(subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """A message to *subject*. Subjects and headers are the caller's, and must be proper ones."""
    words = f"{subject} {reply}" if reply else subject
    if not headers:
        return f"PUB {words} {len(payload)}\r\n".encode() + payload + CRLF
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = _HEADER_LINE + CRLF + lines.encode("latin-1") + CRLF
    return f"HPUB {words} {len(head)} {len(head) + len(payload)}\r\n".encode() + head + payload + CRLF


def subscribe(subject: str, sid: int) -> bytes:
    """What is sent to *subject* is wanted, as subscription *sid*."""
    return f"SUB {subject} {sid}\r\n".encode()


def unsubscribe(sid: int) -> bytes:
    """The subscription *sid* is over."""
    return f"UNSUB {sid}\r\n".encode()


PING = b"PING" + CRLF
PONG = b"PONG" + CRLF
