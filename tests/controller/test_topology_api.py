from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest

from relaymesh.controller.api import make_api
from relaymesh.controller.policy import TopologyPolicy
from relaymesh.controller.preview import preview
from relaymesh.topology import Topology, parse_topology
from tests.controller.fake_mesh import FakeMesh

FOLLOWED = "links follow the topology"
TOKEN = "an admin token of some length"
TEXT = """version: 1
name: mesh
regions: [{name: a}, {name: b}, {name: c}]
links:
  - {between: [a, b], delay_ms: 10}
  - {between: [b, c], delay_ms: 10}
  - {between: [a, c], delay_ms: 50}
"""
FORBIDDEN = TEXT.replace("[a, b], delay_ms: 10", "[a, b], peering: never")
ISLAND = FORBIDDEN.replace("[a, c], delay_ms: 50", "[a, c], peering: never")


def mesh() -> FakeMesh:
    found = FakeMesh(policy=TopologyPolicy(parse_topology(TEXT)))
    for name in "abc":
        found.add(name, name)
    found.wire("a", "b", 20.0)
    found.wire("b", "c", 20.0)
    found.wire("a", "c", 100.0)
    found.run(3.0)
    return found


@asynccontextmanager
async def client(
    fake: FakeMesh, token: str | None = None, applied: list[Topology] | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[httpx.AsyncClient]:
    done = [] if applied is None else applied
    app = make_api(fake.core, token, dict, done.append, lambda: fake.now)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=headers) as http:
        yield http


async def put(http: httpx.AsyncClient, text: str, match: str = "*", **options: Any) -> httpx.Response:
    return await http.put("/v1/topology", content=text, headers={"If-Match": match}, **options)


async def test_a_plan_says_what_would_change_and_changes_nothing() -> None:
    fake, applied = mesh(), list[Topology]()
    before = fake.core.debug_state()
    async with client(fake, applied=applied) as http:
        plan = (await http.post("/v1/topology/plan", content=FORBIDDEN)).json()
    assert plan["links"] == {"gained": [], "lost": [["a", "b"]]} and plan["conflicts"] == []
    moved = {(path["from"], path["to"]): path for path in plan["paths"]}
    assert moved["a", "c"]["before"] == ["a", "b", "c"] and moved["a", "c"]["before_ms"] == 20.5
    assert moved["a", "c"]["after"] == ["a", "c"] and moved["a", "c"]["after_ms"] == 50.25
    assert moved["b", "a"]["after"] == ["b", "c", "a"]
    assert plan["counts"]["paths_moved"] == 4 and plan["counts"]["paths_cut_off"] == 0
    assert plan["changes"][0]["name"] == "a – b" and plan["version"] == fake.core.topology_version
    assert fake.core.debug_state() == before and not applied


async def test_what_is_applied_holds_and_is_told() -> None:
    fake, applied = mesh(), list[Topology]()
    async with client(fake, applied=applied) as http:
        first = await http.get("/v1/topology")
        assert parse_topology(first.json()["text"]) == parse_topology(TEXT)
        tag = first.headers["etag"]
        assert tag == f'"{first.json()["version"]}"'
        answer = await put(http, FORBIDDEN, tag)
        assert answer.status_code == 200 and answer.headers["etag"] != tag
        assert (await http.get("/v1/topology")).headers["etag"] == answer.headers["etag"]
        stale = await put(http, TEXT, tag)
        assert stale.status_code == 412 and "not" in stale.json()["error"]
    assert [topology.name for topology in applied] == ["mesh"]
    events = {event.name: event.fields for event in fake.core.poll_events()}
    assert events["topology applied"]["author"] == "127.0.0.1"
    assert events[FOLLOWED]["pairs_retiring"] == 1
    fake.run(4.0)
    assert fake.route("a", "c") == ["a", "c"] and len(fake.nodes["a"].links) == 1


async def test_a_write_must_say_what_it_replaces() -> None:
    async with client(mesh()) as http:
        answer = await http.put("/v1/topology", content=FORBIDDEN)
        assert answer.status_code == 428 and "If-Match" in answer.json()["error"]


async def test_cutting_nodes_off_must_be_meant() -> None:
    fake = mesh()
    async with client(fake) as http:
        version = fake.core.topology_version
        refused = await put(http, ISLAND)
        assert refused.status_code == 409 and "a → b" in refused.json()["error"]
        assert refused.json()["counts"]["paths_cut_off"] == 4
        assert fake.core.topology_version == version
        assert (await put(http, ISLAND, params={"force": "1"})).status_code == 200
    fake.run(4.0)
    assert fake.route("a", "c") is None and fake.nodes["a"].links == {}


async def test_a_file_without_a_region_that_has_nodes_is_refused() -> None:
    text = "version: 1\nname: m\nregions: [{name: a}, {name: b}]\nlinks: [{between: [a, b], delay_ms: 1}]\n"
    async with client(mesh()) as http:
        plan = (await http.post("/v1/topology/plan", content=text)).json()
        assert plan["conflicts"] == ["node 'c' is in region 'c', which is not in the file"]
        refused = await put(http, text)
        assert refused.status_code == 409 and refused.json()["reasons"] == plan["conflicts"]


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"", "text/yaml", "topology.yaml:1:1"),
        (b"\xff\xfe", "text/yaml", "not UTF-8"),
        (b"{", "application/json", "topology.json:2:"),
        (
            b"version: 1\nname: x\nregions: [{name: a}]\nlinks: [{between: [a, z], los: 2}]",
            "",
            "los",
        ),
        (b"[" * 100_000, "application/json", "topology.json"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_what_is_no_topology_is_refused_with_reasons(
    body: bytes, kind: str, error: str, method: str
) -> None:
    fake = mesh()
    version = fake.core.topology_version
    path = "/v1/topology" if method == "PUT" else "/v1/topology/plan"
    async with client(fake) as http:
        answer = await http.request(
            method, path, content=body, headers={"If-Match": "*", "Content-Type": kind}
        )
    assert answer.status_code == 400 and error in answer.json()["error"]
    assert answer.json()["problems"][0]["line"] >= 1 and fake.core.topology_version == version


async def test_all_mistakes_are_told_at_once_with_their_places() -> None:
    text = TEXT.replace("[b, c]", "[b, d]").replace("delay_ms: 50", "delay: 50")
    async with client(mesh()) as http:
        answer = (await http.post("/v1/topology/plan", content=text)).json()
    assert [(found["line"], found["path"]) for found in answer["problems"]] == [
        (6, "links[1].between[1]"),
        (7, "links[2]"),
        (7, "links[2]"),
    ]


async def test_the_token_guards_reading_trying_and_writing() -> None:
    fake = mesh()
    async with client(fake, TOKEN) as http:
        for header in ("", "Bearer nonsense"):
            for method, path in (("GET", ""), ("PUT", ""), ("POST", "/plan")):
                answer = await http.request(
                    method,
                    f"/v1/topology{path}",
                    content=FORBIDDEN,
                    headers={"Authorization": header, "If-Match": "*"},
                )
                assert answer.status_code == 401
        assert (await put(http, FORBIDDEN)).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("evil.example", 403), ("localhost", 200), ("[::1]", 200)])
async def test_without_a_token_a_name_that_only_resolves_to_loopback_may_not_write(
    host: str, status: int
) -> None:
    async with client(mesh(), host=host) as http:
        assert (await put(http, FORBIDDEN)).status_code == status
        assert (await http.post("/v1/topology/plan", content=FORBIDDEN)).status_code == status
    async with client(mesh(), TOKEN, host=host) as http:
        assert (await put(http, FORBIDDEN)).status_code == 200


async def test_the_objective_of_the_file_holds_and_the_way_that_costs_less_is_planned() -> None:
    fake = mesh()
    priced = TEXT.replace("[b, c], delay_ms: 10", "[b, c], delay_ms: 10, price_per_gb: 1")
    async with client(fake) as http:
        assert (await http.get("/v1/state")).json()["objective"] == "latency"
        assert (await http.post("/v1/topology/plan", content=priced)).json()["paths"] == []
        text = priced.replace("version: 1", "version: 1\nobjective: cost")
        plan = (await http.post("/v1/topology/plan", content=text)).json()
        moved = {(path["from"], path["to"]): path["after"] for path in plan["paths"]}
        assert moved["a", "c"] == ["a", "c"] and moved["c", "b"] == ["c", "a", "b"]
        assert (await put(http, text)).status_code == 200
        assert (await http.get("/v1/state")).json()["objective"] == "cost"
    fake.run(4.0)
    assert fake.route("a", "c") == ["a", "c"] and fake.route("c", "b") == ["c", "a", "b"]
    async with client(fake) as http:
        assert (await put(http, priced)).status_code == 200
    fake.run(4.0)
    assert fake.route("a", "c") == ["a", "b", "c"], "what the controller was started with holds again"


async def test_json_is_taken_too() -> None:
    data = {
        "version": 1, "name": "mesh", "regions": [{"name": name} for name in "abc"], "peering": "full",
        "defaults": {"delay_ms": 10},
    }  # fmt: skip
    async with client(mesh()) as http:
        answer = await http.put(
            "/v1/topology", json=data, headers={"If-Match": "*", "Content-Type": "application/json"}
        )
        assert answer.status_code == 200 and answer.json()["counts"]["links_gained"] == 0


@pytest.mark.parametrize(("before", "after"), [(TEXT, FORBIDDEN), (FORBIDDEN, TEXT), (ISLAND, TEXT)])
def test_a_plan_names_the_links_that_an_edit_makes_in_a_sparse_mesh_too(before: str, after: str) -> None:
    """Of a big mesh not all that may peer do: what is allowed is no link yet."""
    found = FakeMesh(policy=TopologyPolicy(parse_topology(before)))
    names = [f"{region}{number}" for region in "abc" for number in range(16)]
    for name in names:
        found.add(name, name[0])
    for one, other in pairwise(names):
        found.wire(one, other, 20.0)
    found.run(3.0)
    edited = parse_topology(after)
    planned = preview(found.core.situation(), edited)
    pairs = set(found.core.situation().neighbours)
    found.core.poll_events()
    found.core.apply_topology(edited, found.now)
    assert found.core.next_timeout() == found.now, "more than a slice"
    while not (events := {event.name: event.fields for event in found.core.poll_events()}).get(FOLLOWED):
        found.core.handle_timeout(found.now)
    made = events[FOLLOWED]
    assert (len(planned.gained), len(planned.lost)) == (made["pairs_gained"], made["pairs_retiring"])
    now = set(found.core.situation().neighbours)
    member = {node.index: node.name for node in found.core.situation().nodes}
    assert {(member[a], member[b]) for a, b in now - pairs} == set(planned.gained)
    assert len(planned.gained) < len(names) ** 2 / 8, "not everybody with everybody"
