"""The headless client's HTTP: what it brings where, and what it keeps to itself."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from click.testing import CliRunner

from relaymesh.cli.main import main
from relaymesh.client.run import Order, publish
from relaymesh.client.whip import Answer, SignallingError, bearer, leave, send_offer
from tests.client.fake_node import fake_node

URL = "https://node.example:7700/whip/demo/alice"


def conversation(location: str, token: str | None) -> tuple[Answer, list[str | None]]:
    """An offer and its session's end at a server that names *location*; what each request brought."""
    brought: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        brought.append(request.headers.get("authorization"))
        headers = {"location": location, "content-type": "application/sdp"}
        return httpx.Response(201 if request.method == "POST" else 200, headers=headers, text="v=0")

    async def run() -> Answer:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
            answer = await send_offer(http, URL, "v=0", token=token)
            assert answer.session_url is not None
            assert await leave(http, answer.session_url, answer.token)
            return answer

    return asyncio.run(run()), brought


@pytest.mark.parametrize("location", ["/session/abc", "https://node.example:7700/session/abc"])
def test_the_token_goes_with_every_request_of_its_session(location: str) -> None:
    answer, brought = conversation(location, "a.b.c")
    assert brought == ["Bearer a.b.c"] * 2
    assert "a.b.c" not in repr(answer)


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.example/session/abc",
        "//elsewhere.example/session/abc",
        "http://node.example:7700/session/abc",
        "https://node.example/session/abc",
    ],
)
def test_it_goes_to_nobody_else(location: str) -> None:
    assert conversation(location, "a.b.c")[1] == ["Bearer a.b.c", None]


def test_without_one_none_is_brought() -> None:
    assert conversation("/session/abc", None)[1] == [None, None]


def test_a_token_may_come_from_a_file() -> None:
    assert bearer(" a.b-c_~+/== \n") == "a.b-c_~+/=="
    assert bearer(None) is None


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "tökén", "a,b", "=", '"a"'])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ValueError, match="this is no token") as caught:
        bearer(token)
    assert not token or token not in str(caught.value).replace("=", "")


def test_a_run_brings_its_token() -> None:
    async def run() -> list[str]:
        async with fake_node() as node:
            order = Order(node.url("whip"), 0.3, token="a.b.c")
            assert "a.b.c" not in repr(order)
            told: list[object] = []
            told.append(await publish(order, asyncio.Event(), told.append, size=(320, 180)))
            assert "a.b.c" not in str(told)
            node.refuse = (401, "the token has expired")
            with pytest.raises(SignallingError, match="401: the token has expired"):
                await publish(order, asyncio.Event(), told.append)
            return node.brought

    assert asyncio.run(run()) == ["Bearer a.b.c"] * 3


@pytest.mark.parametrize("kind", ["publish", "play"])
def test_commands_take_it_from_the_environment(kind: str) -> None:
    verb = "whip" if kind == "publish" else "whep"
    environment = {"RELAYMESH_ROOM_TOKEN": "no token"}
    result = CliRunner().invoke(main, [kind, f"http://127.0.0.1:1/{verb}/r/p"], env=environment)
    assert result.exit_code == 1 and "this is no token" in result.output
