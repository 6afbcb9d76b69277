"""The text protocol of NATS: what is read, however it is cut, and what is no such thing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.store import nats_wire as wire
from relaymesh.controller.store.nats_wire import Info, Message, Parser, Ping, Pong, ServerError, WireError

# From the protocol's reference, and as a nats-server 2.9.10 says them.
SAID = (
    b'INFO {"server_id":"NX","version":"2.9.10","headers":true,"max_payload":1048576}\r\n'
    b"+OK\r\n"
    b"PING\r\n"
    b"PONG\r\n"
    b"-ERR 'Unknown Protocol Operation'\r\n"
    b"MSG FOO.BAR 9 11\r\nHello World\r\n"
    b"MSG FOO.BAR 9 GREETING.34 4\r\n\r\n\r\n\r\n"
    b"MSG E 1 0\r\n\r\n"
    b"HMSG FOO.BAR 9 BAZ.69 34 45\r\nNATS/1.0\r\nFoodGroup: vegetable\r\n\r\nHello World\r\n"
    b"HMSG _INBOX.x.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"HMSG hb 2 31 31\r\nNATS/1.0 100 Idle Heartbeat\r\n\r\n\r\n"
)
FRAMES = [
    Info({"server_id": "NX", "version": "2.9.10", "headers": True, "max_payload": 1048576}),
    Ping(),
    Pong(),
    ServerError("Unknown Protocol Operation"),
    Message("FOO.BAR", 9, "", b"Hello World"),
    Message("FOO.BAR", 9, "GREETING.34", b"\r\n\r\n"),
    Message("E", 1, "", b""),
    Message("FOO.BAR", 9, "BAZ.69", b"Hello World", {"FoodGroup": "vegetable"}),
    Message("_INBOX.x.1", 1, "", b"", {}, 503),
    Message("hb", 2, "", b"", {}, 100),
]


def test_what_a_server_says_is_read() -> None:
    assert Parser().feed(SAID) == FRAMES


@given(st.lists(st.integers(0, len(SAID)), max_size=30))
def test_it_does_not_matter_how_it_was_cut(cuts: list[int]) -> None:
    parser, frames = Parser(), []
    places = [0, *sorted(cuts), len(SAID)]
    for start, end in itertools.pairwise(places):
        frames += parser.feed(SAID[start:end])
    assert frames == FRAMES


@pytest.mark.parametrize(
    "data",
    [
        b"HELLO\r\n",
        b"MSG a\r\n",
        b"MSG a b 3\r\n",
        b"MSG a 1 -3\r\n",
        b"MSG a 1 99999999999\r\n",
        b"MSG a 1 2\r\nabc\r\n",
        b"HMSG a 1 20 10\r\n",
        b"HMSG a 1 0 0\r\n",
        b"HMSG a 1 12 12\r\nHTTP/1.0\r\n\r\n\r\n",
        b"HMSG a 1 17 17\r\nNATS/1.0 oops\r\n\r\n\r\n",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b"INFO " + b"[" * 30000 + b"\r\n",
        b"\xff\xfe\r\n",
        b"x" * 70000,
    ],
)
def test_what_a_server_never_says_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(WireError):
        Parser().feed(data)


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(SAID.splitlines(keepends=True)))))
def test_whatever_the_bytes_nothing_else_is_raised(pieces: list[bytes]) -> None:
    parser = Parser()
    try:
        for piece in pieces:
            parser.feed(piece)
    except WireError:
        pass


names = st.from_regex(r"[A-Za-z-]{1,20}", fullmatch=True)
values = st.from_regex(r"[!-~]{0,20}", fullmatch=True)


@given(st.binary(max_size=2000), st.dictionaries(names, values))
def test_what_is_published_is_what_a_subscriber_would_read(payload: bytes, headers: dict[str, str]) -> None:
    sent = wire.publish("a.b", payload, "in.box", headers)
    verb, rest = sent.split(b" ", 1)
    kind = {b"PUB": b"MSG", b"HPUB": b"HMSG"}[verb]
    arrived = kind + b" " + rest.replace(b"a.b ", b"a.b 7 ", 1)
    assert Parser().feed(arrived) == [Message("a.b", 7, "in.box", payload, headers)]


def test_the_other_things_a_client_says() -> None:
    assert wire.subscribe("a.>", 3) == b"SUB a.> 3\r\n"
    assert wire.unsubscribe(3) == b"UNSUB 3\r\n"
    assert wire.connect({"verbose": False}) == b'CONNECT {"verbose": false}\r\n'
    assert (wire.PING, wire.PONG) == (b"PING\r\n", b"PONG\r\n")
