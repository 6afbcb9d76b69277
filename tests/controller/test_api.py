from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from relaymesh.controller.api import make_api
from tests.controller.fake_mesh import FakeMesh

TOKEN = "an admin token of some length"


def pair() -> FakeMesh:
    mesh = FakeMesh()
    for name in "ab":
        mesh.add(name)
    mesh.wire("a", "b", 20.0)
    mesh.run(3.0)
    return mesh


@asynccontextmanager
async def client(mesh: FakeMesh, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = make_api(mesh.core, token, lambda: {"channels": {}}, lambda topology: None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        yield http


async def test_the_state_and_paths_are_json() -> None:
    mesh = pair()
    async with client(mesh) as http:
        assert (await http.get("/healthz")).json() == {"ok": True}
        assert (await http.get("/v1/state")).json() == mesh.core.state()
        found = await http.get("/v1/path", params={"from": "a", "to": "b"})
        assert found.json() == {"path": ["a", "b"], "cost_ms": 10.25}
        debug = (await http.get("/v1/debug")).json()
        assert debug["registry"]["connected"] == 2 and debug["channels"] == {}


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/path?from=a&to=nowhere", 404, "no path"),
        ("/v1/path?from=a", 400, "two node names"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
async def test_errors_say_what_is_wrong(path: str, status: int, error: str) -> None:
    async with client(pair()) as http:
        answer = await http.get(path)
        assert answer.status_code == status and error in answer.json()["error"]
        assert (await http.post("/v1/state")).status_code == 405


async def test_with_an_admin_token_nothing_but_health_is_open() -> None:
    async with client(pair(), TOKEN) as http:
        assert (await http.get("/healthz")).status_code == 200
        for path in ("/v1/state", "/v1/path?from=a&to=b", "/v1/debug"):
            for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {TOKEN}"}):
                refused = await http.get(path, headers=wrong)
                assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert (await http.get(path, headers=right)).status_code == 200


async def test_the_insides_are_json_also_after_an_outage() -> None:
    mesh = pair()
    for node in ("a", "b"):
        mesh.disconnect(node)
    mesh.run(1.0)
    for node in ("a", "b"):
        mesh.connect(node)
    mesh.run(3.0)
    async with client(mesh) as http:
        debug = (await http.get("/v1/debug")).json()
    assert set(debug["settling"]["heard"]) == {"0", "1"}
