"""A node as a process: what it opens, what it tells clients of itself."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio
from pydantic import SecretStr, ValidationError

from relaymesh.node.app import Node
from relaymesh.node.process import run_node
from relaymesh.node.settings import NodeSettings

OFFERS = Path(__file__).parent.parent / "vectors" / "sdp"
SDP = {"content-type": "application/sdp"}


def settings(**more: str) -> NodeSettings:
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
    found = list(dict.fromkeys((line[4], int(line[5])) for line in lines))
    port = found[0][1]
    assert port != 0
    assert found == [
        ("127.0.0.1", port),
        ("192.0.2.7", port),
        ("2001:db8::7", 7601),
        ("2001:db8::8", port),
    ]


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
