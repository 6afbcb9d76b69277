from __future__ import annotations

from typing import Any

import httpx
import pytest

from relaymesh.controller.api import make_api
from relaymesh.controller.policy import TopologyPolicy
from relaymesh.topology import parse_topology
from tests.controller.fake_mesh import FakeMesh


def square() -> FakeMesh:
    """a-b-d is the quickest, a-c-d the runner-up, a-d directly the dearest."""
    mesh = FakeMesh()
    for name in "abcd":
        mesh.add(name)
    for one, other, rtt_ms in (
        ("a", "b", 20.0),
        ("b", "d", 20.0),
        ("a", "c", 30.0),
        ("c", "d", 30.0),
        ("a", "d", 90.0),
    ):
        mesh.wire(one, other, rtt_ms)
    mesh.run(3.0)
    return mesh


def explain(mesh: FakeMesh, start: str = "a", end: str = "d") -> Any:
    work_out = mesh.core.explanation(start, end)
    assert work_out is not None
    return work_out()


def test_each_hop_says_its_terms_and_they_sum_up() -> None:
    path = explain(square())["path"]
    assert path["nodes"] == ["a", "b", "d"] and path["cost_ms"] == 20.5
    for hop in path["hops"]:
        assert hop["terms"]["latency_ms"] == 10.0 and hop["terms"]["hop_ms"] == 0.25
        assert sum(hop["terms"].values()) == pytest.approx(hop["cost_ms"])
    assert sum(path["terms"].values()) == pytest.approx(path["cost_ms"])


def test_the_runners_up_say_what_they_cost_more_and_where_they_part() -> None:
    found = explain(square())
    rival = found["runner_up"]
    assert rival["nodes"] == ["a", "c", "d"] and rival["more_ms"] == 10.0
    assert (rival["parts_at"], rival["meets_at"]) == ("a", "d")
    assert rival["difference"]["latency_ms"] == 10.0 and rival["difference"]["hop_ms"] == 0.0
    assert found["disjoint"]["nodes"] == ["a", "c", "d"]
    assert found["is_cheapest_now"] and found["objective"] == "latency"
    assert found["may_peer"] and found["are_neighbours"]


def test_a_link_on_probation_and_a_held_cost_are_terms_of_their_own() -> None:
    mesh = square()
    mesh.wire("a", "b", None)
    mesh.run(3.0)
    mesh.wire("a", "b", 20.0)
    mesh.run(2.0)
    found = explain(mesh)
    assert found["path"]["nodes"] == ["a", "c", "d"], "what came back is not used at once"
    assert found["runner_up"]["nodes"] == ["a", "d"]
    mesh.run(10.0)
    assert explain(mesh)["path"]["nodes"] == ["a", "b", "d"]
    mesh.wire("b", "d", 21.0)  # too little to be a step
    mesh.run(5.0)
    terms = explain(mesh)["path"]["hops"][1]["terms"]
    assert terms["latency_ms"] == 10.5 and terms["held_ms"] == pytest.approx(-0.5)


def test_a_way_without_a_rival_says_so() -> None:
    mesh = FakeMesh()
    for name in "ab":
        mesh.add(name)
    mesh.wire("a", "b", 20.0)
    mesh.run(3.0)
    found = explain(mesh, "a", "b")
    assert found["runner_up"] is None and found["disjoint"] is None
    assert mesh.core.explanation("a", "nobody") is None and mesh.core.explanation("a", "a") is None


def test_a_table_is_shown_with_paths_and_detours() -> None:
    rows = square().core.routes("a")
    assert rows is not None
    assert [row["to"] for row in rows] == ["b", "c", "d"]
    assert rows[2] == {
        "to": "d",
        "next_hop": "b",
        "path": ["a", "b", "d"],
        "cost_ms": 20.5,
        "detour": ["c"],
    }


async def test_the_api_answers() -> None:
    app = make_api(square().core, None, dict, lambda topology: None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        found = (await http.get("/v1/routes/explain", params={"from": "a", "to": "d"})).json()
        assert found["path"]["nodes"] == ["a", "b", "d"]
        assert (await http.get("/v1/routes", params={"from": "a"})).json()["routes"][0]["to"] == "b"
        assert (await http.get("/v1/routes")).status_code == 404
        assert (await http.get("/v1/routes/explain?from=a")).status_code == 400
        assert (await http.get("/v1/routes/explain?from=a&to=x")).status_code == 404


def test_pins_that_a_path_follows_are_named() -> None:
    text = """version: 1
name: mesh
regions: [{name: a}, {name: b}, {name: c}, {name: d}]
links:
  - {between: [a, b], delay_ms: 10}
  - {between: [b, d], delay_ms: 10}
  - {between: [a, c], delay_ms: 15}
  - {between: [c, d], delay_ms: 15}
pins:
  - {from: a, to: d, via: [c]}
"""
    mesh = FakeMesh(policy=TopologyPolicy(parse_topology(text)))
    for name in "abcd":
        mesh.add(name, name)
    for one, other, rtt_ms in (("a", "b", 20.0), ("b", "d", 20.0), ("a", "c", 30.0), ("c", "d", 30.0)):
        mesh.wire(one, other, rtt_ms)
    mesh.run(3.0)
    found = explain(mesh)
    assert found["path"]["nodes"] == ["a", "c", "d"]
    assert found["pins"] == ["a → c → d"] and not found["is_cheapest_now"]
    assert explain(mesh, "d", "a")["pins"] == [], "a pin holds in its direction only"
