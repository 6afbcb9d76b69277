from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from relaymesh.controller.api import make_api
from relaymesh.controller.edges_api import BURST
from relaymesh.controller.placement import Spot
from relaymesh.controller.policy import TopologyPolicy
from relaymesh.protocol.messages import PublicationInfo, Publish, Report, TrackInfo
from relaymesh.topology import parse_topology
from tests.controller.fake_mesh import FakeMesh

TOKEN = "an admin token of some length"
FRA, NYC, TYO = Spot(50.1, 8.7), Spot(40.7, -74.0), Spot(35.7, 139.7)
TEXT = """version: 1
name: mesh
regions:
  - {name: fra, latitude: 50.1, longitude: 8.7}
  - {name: nyc, latitude: 40.7, longitude: -74.0}
  - {name: tyo, latitude: 35.7, longitude: 139.7}
nodes:
  - {name: fra-1, region: fra}
  - {name: nyc-1, region: nyc}
  - {name: tyo-1, region: tyo}
  - {name: core-1, region: fra, roles: [relay]}
peering: full
defaults: {delay_ms: 50}
"""


def mesh() -> FakeMesh:
    found = FakeMesh(policy=TopologyPolicy(parse_topology(TEXT)))
    for name in ("fra-1", "nyc-1", "tyo-1", "core-1"):
        found.add(name, name.partition("-")[0] if name != "core-1" else "fra")
    found.wire("fra-1", "nyc-1", 80.0)
    found.wire("nyc-1", "tyo-1", 160.0)
    found.wire("fra-1", "tyo-1", 230.0)
    found.run(3.0)
    return found


@asynccontextmanager
async def client(
    fake: FakeMesh, token: str | None = None, locate: Callable[[str], Spot | None] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    app = make_api(fake.core, token, dict, lambda topology: None, lambda: fake.now, locate)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        yield http


async def ask(http: httpx.AsyncClient, **query: Any) -> list[Any]:
    answer = await http.get("/v1/edges", params={"room": "demo"} | query)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["edges"]
    return found


async def test_edges_are_ranked_with_their_terms() -> None:
    async with client(mesh()) as http:
        edges = await ask(http, lat=48.9, lon=2.4)
        assert [edge["name"] for edge in edges] == ["fra-1", "nyc-1", "tyo-1"]
        assert edges[0]["url"] == "http://fra-1.example:8000"
        terms = edges[0]["terms"]
        assert terms["load"] == terms["mesh"] == 0.0 and 3 < terms["place"] < 6
        assert edges[0]["score_ms"] == terms["place"]
        assert [edge["name"] for edge in await ask(http, region="tyo", limit=1)] == ["tyo-1"]
        assert "core-1" not in str(edges), "a relay takes no clients"


async def test_the_room_draws_its_clients_together() -> None:
    fake = mesh()
    fake.tell("tyo-1", Publish(1, PublicationInfo("demo", "alice", (TrackInfo(0, "video", "VP8", 90_000),))))
    async with client(fake) as http:
        edges = {edge["name"]: edge["terms"]["mesh"] for edge in await ask(http, lat=50, lon=8)}
        assert edges["tyo-1"] == 0.0
        assert edges["fra-1"] == pytest.approx(115, abs=1) and edges["nyc-1"] == pytest.approx(80, abs=1)
        assert all(edge["terms"]["mesh"] == 0 for edge in await ask(http, room="another"))


async def test_who_is_full_or_away_is_no_candidate() -> None:
    fake = mesh()
    fake.tell("fra-1", Report((), sessions=100_000))
    fake.disconnect("nyc-1")
    async with client(fake) as http:
        assert [edge["name"] for edge in await ask(http, lat=50, lon=8)] == ["tyo-1"]


async def test_each_answer_keeps_a_place_at_its_first_edge() -> None:
    fake = mesh()
    async with client(fake, TOKEN) as http:
        http.headers["Authorization"] = f"Bearer {TOKEN}"
        first = [(await ask(http, lat=50.1, lon=8.7))[0]["name"] for _ in range(400)]
    assert first[0] == "fra-1" and first.count("nyc-1") > 40
    assert sum(fake.core.debug_state()["edges"]["pending"].values()) == 400  # type: ignore[index]
    fake.run(11.0)
    assert not fake.core.debug_state()["edges"]["pending"]  # type: ignore[index]


async def test_a_geoip_file_tells_where_an_address_is() -> None:
    asked: list[str] = []

    def locate(address: str) -> Spot | None:
        asked.append(address)
        return TYO if address == "203.0.113.9" else None

    async with client(mesh(), locate=locate) as http:
        assert (await ask(http, ip="203.0.113.9"))[0]["name"] == "tyo-1"
        await ask(http)
        await ask(http, region="fra")
    assert asked == ["203.0.113.9", "127.0.0.1"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "give a room"),
        ("room=a/b", "give a room"),
        ("room=x&lat=1", "lat and lon go together"),
        ("room=x&lat=91&lon=0", "from -90 to 90"),
        ("room=x&lat=nan&lon=0", "from -90 to 90"),
        ("room=x&lat=0&lon=1e999", "from -180 to 180"),
        ("room=x&lat=0&lon=east", "from -180 to 180"),
        ("room=x&ip=localhost", "no IP address"),
        ("room=x&region=a b", "region is no name"),
        ("room=x&limit=0", "from 1 to"),
        ("room=x&limit=1e3", "from 1 to"),
        ("room=x&limit=%C2%B2", "from 1 to"),
    ],
)
async def test_mistakes_are_told(query: str, error: str) -> None:
    async with client(mesh()) as http:
        answer = await http.get(f"/v1/edges?{query}")
        assert answer.status_code == 400 and error in answer.json()["error"]


async def test_pages_may_ask_and_nobody_too_often() -> None:
    fake = mesh()
    async with client(fake, TOKEN) as http:
        answer = await http.get("/v1/edges?room=x", headers={"Origin": "https://page.example"})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"
        preflight = await http.options("/v1/edges")
        assert preflight.status_code == 204 and preflight.headers["access-control-allow-methods"] == "GET"
        statuses = [(await http.get("/v1/edges?room=x")).status_code for _ in range(int(BURST) + 5)]
        assert statuses[-1] == 429 and statuses.count(200) == BURST - 1
        refused = await http.get("/v1/edges?room=x")
        assert refused.headers["access-control-allow-origin"] == "*" and refused.headers["retry-after"] == "1"
        admin = await http.get("/v1/edges?room=x", headers={"Authorization": f"Bearer {TOKEN}"})
        assert admin.status_code == 200, "an application asks for all of its clients"
        fake.run(2.0)
        assert (await http.get("/v1/edges?room=x")).status_code == 200
