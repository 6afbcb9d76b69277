"""A node as a process: what it opens, what it tells clients of itself."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import trio
from pydantic import SecretStr, ValidationError

from relaymesh.node.app import Node
from relaymesh.node.process import run_node
from relaymesh.node.settings import NodeSettings
from relaymesh.webrtc.addresses import stream_address
from relaymesh.webrtc.framing import Deframer, frame
from relaymesh.webrtc.stun import parse_binding_response
from tests.node.browser import Browser

OFFERS = Path(__file__).parent.parent / "vectors" / "sdp"
SDP = {"content-type": "application/sdp"}


def settings(**more: str | bool) -> NodeSettings:
    return NodeSettings(
        name="n1",
        region="r",
        controller="ws://127.0.0.1:1",
        token=SecretStr("t"),
        relay="127.0.0.1:0",
        media="127.0.0.1:0",
        http="127.0.0.1:0",
        **more,
    )


async def test_case_33_every_advertised_address_is_a_candidate():
    async with trio.open_nursery() as nursery:
        told = settings(advertise="192.0.2.7, [2001:db8::7]:7601,2001:db8::8")
        node: Node = await nursery.start(run_node, told)
        async with httpx.AsyncClient(base_url=node.http_url) as http:
            offer = (OFFERS / "chromium-whip.sdp").read_bytes()
            answer = await http.post("/whip/demo/alice", content=offer, headers=SDP)
        nursery.cancel_scope.cancel()
    assert answer.status_code == 201
    lines = [line.split() for line in answer.text.splitlines() if line.startswith("a=candidate:")]
    port = int(lines[0][5])
    assert port != 0
    addresses = [("127.0.0.1", port), ("192.0.2.7", port), ("2001:db8::7", 7601), ("2001:db8::8", port)]
    for kind in ("udp", "tcp"):
        found = [(line[4], int(line[5])) for line in lines if line[2] == kind]
        assert list(dict.fromkeys(found)) == addresses


async def test_case_34_a_client_without_udp_is_answered_by_tcp_on_the_same_port():
    async with trio.open_nursery() as nursery:
        node: Node = await nursery.start(run_node, settings())
        async with httpx.AsyncClient(base_url=node.http_url) as http:
            offer = (OFFERS / "chromium-whip.sdp").read_bytes()
            answer = (await http.post("/whip/demo/alice", content=offer, headers=SDP)).text
        browser = Browser()
        browser.accept(answer)
        passive = re.search(r"a=candidate:\S+ 1 tcp \d+ (\S+) (\d+) typ host tcptype passive", answer)
        assert passive is not None
        host, port = passive.groups()
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(frame(browser.check()))
            with trio.fail_after(5):
                [reply] = Deframer().feed(await stream.receive_some(2048))
            own = stream.socket.getsockname()[:2]
            assert parse_binding_response(reply, browser.password).address == own
            [session] = node.status()["sessions"]  # type: ignore[misc]
            assert session["transport"]["address"] == stream_address(*own)
        nursery.cancel_scope.cancel()


async def test_case_34_can_be_left_out():
    async with trio.open_nursery() as nursery:
        node: Node = await nursery.start(run_node, settings(media_tcp=False))
        async with httpx.AsyncClient(base_url=node.http_url) as http:
            offer = (OFFERS / "chromium-whip.sdp").read_bytes()
            answer = (await http.post("/whip/demo/alice", content=offer, headers=SDP)).text
        nursery.cancel_scope.cancel()
    assert " udp " in answer and " tcp " not in answer


@pytest.mark.parametrize(
    ("advertise", "said"),
    [
        ("0.0.0.0:7600", "every address"),
        ("::", "every address"),
        ("192.0.2.1:seven", "HOST:PORT"),
        ("192.0.2.1:99999", "HOST:PORT"),
        (",".join(f"192.0.2.{n}" for n in range(9)), "at most 8"),
    ],
)
def test_addresses_that_cannot_be_advertised_are_refused(advertise, said):
    with pytest.raises(ValidationError, match=said):
        settings(advertise=advertise)
