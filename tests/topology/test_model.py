from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import Link, parse_topology
from relaymesh.topology.model import LOCAL_DELAY_MS

MESH = """
version: 1
name: mesh
regions: [{name: a}, {name: b}, {name: c}, {name: d}]
nodes:
  - {name: a, region: a}
  - {name: a2, region: a, roles: [edge]}
  - {name: b1, region: b, roles: [relay]}
  - {name: c1, region: c}
links:
  - {between: [a, b], delay_ms: {forward: 10, backward: 11}, jitter_ms: 2, loss: 0.5, extra_cost_ms: 3}
  - {between: [b, c], delay_ms: 20}
  - {between: [a, c], peering: never}
  - {between: [a2, c1], delay_ms: 5, peering: public, capacity_mbps: 100, price_per_gb: 0.1}
"""


def link(a: str, b: str, text: str = MESH) -> Link:
    found = parse_topology(text).link(a, b)
    assert found is not None
    return found


def test_both_directions_of_a_pair() -> None:
    there, back = link("a", "b"), link("b", "a")
    assert (there.source, there.target, there.delay_ms, there.rtt_ms) == ("a", "b", 10.0, 21.0)
    assert (back.source, back.target, back.delay_ms, back.rtt_ms) == ("b", "a", 11.0, 21.0)


def test_cost_is_delay_jitter_repair_and_bias() -> None:
    assert link("a", "b").cost_ms == 10 + 2 + 21 * 0.5 / 0.5 + 3
    assert math.isfinite(link("a", "b", MESH.replace("0.5", "1")).cost_ms)


def test_what_is_said_of_nodes_goes_before_what_is_said_of_regions() -> None:
    topology = parse_topology(MESH)
    assert not topology.may_peer("a", "c") and topology.link("c", "a") is None
    assert topology.may_peer("a2", "c1")
    pair = link("c1", "a2")
    assert (pair.peering, pair.delay_ms, pair.capacity_mbps, pair.price_per_gb) == ("public", 5.0, 100.0, 0.1)
    assert link("a2", "b1").delay_ms == 10.0  # by their regions


def test_nodes_of_one_region_peer() -> None:
    topology = parse_topology(MESH)
    assert topology.may_peer("a", "a2") and topology.may_peer("b", "b")
    assert link("a", "a2").delay_ms == LOCAL_DELAY_MS and not link("a", "a2").listed
    apart = parse_topology(
        "version: 1\nname: m\nregions: [{name: r}]\nnodes: [{name: x, region: r}, {name: y, region: r}]\n"
        "links: [{between: [x, y], peering: never}]"
    )
    assert not apart.may_peer("x", "y") and not apart.may_peer("y", "x")


def test_pairs_that_are_not_listed() -> None:
    assert not parse_topology(MESH).may_peer("a", "d")
    full = parse_topology(MESH + "peering: full\ndefaults: {delay_ms: 40, peering: public}\n")
    assert full.may_peer("a", "d") and not full.may_peer("a", "c")
    found = full.link("d", "a")
    assert found is not None
    assert (found.delay_ms, found.peering, found.listed) == (40.0, "public", False)


def test_unknown_names_are_key_errors() -> None:
    topology = parse_topology(MESH)
    for ask in (topology.region, topology.node, lambda name: topology.may_peer("a", name)):
        with pytest.raises(KeyError):
            ask("nowhere")


def test_one_node_for_each_region_where_none_is_listed() -> None:
    topology = parse_topology("version: 1\nname: m\nregions: [{name: x}, {name: y}]")
    assert [(node.name, node.region) for node in topology.node_list()] == [("x", "x"), ("y", "y")]
    assert topology.node("x").roles == {"edge", "relay"}


def test_the_graph_has_nodes_and_directed_links() -> None:
    graph = parse_topology(MESH).graph()
    assert list(graph) == ["a", "a2", "b1", "c1"]
    assert graph.nodes["a2"]["region"] == "a"
    assert set(graph.edges) == {
        *[("a", "a2"), ("a2", "a"), ("a", "b1"), ("b1", "a"), ("a2", "b1"), ("b1", "a2")],
        *[("b1", "c1"), ("c1", "b1"), ("a2", "c1"), ("c1", "a2")],
    }
    assert graph.edges["b1", "a"]["cost_ms"] == graph.edges["b1", "a"]["link"].cost_ms


def test_topologies_compare_by_what_they_say_and_never_change() -> None:
    topology = parse_topology(MESH, "one")
    assert topology == parse_topology("# the same\n" + MESH, "two")
    assert topology != parse_topology(MESH.replace("20", "21"))
    with pytest.raises(FrozenInstanceError):
        topology.name = "other"  # type: ignore[misc]


@given(
    st.sampled_from(["listed", "full"]),
    st.lists(st.tuples(*[st.integers(0, 5)] * 2, st.booleans()), max_size=9),
)
def test_components_are_those_of_the_graph(peering: str, chosen: list[tuple[int, int, bool]]) -> None:
    pairs = {frozenset((a, b)): never for a, b, never in chosen if a != b}
    lines = [
        f"  - {{between: [r{min(pair)}, r{max(pair)}], peering: {'never' if never else 'private'}}}"
        for pair, never in pairs.items()
    ]
    regions = "".join(f"  - {{name: r{index}}}\n" for index in range(6))
    topology = parse_topology(
        f"version: 1\nname: m\npeering: {peering}\ndefaults: {{delay_ms: 1}}\nregions:\n{regions}"
        + ("links:\n" + "\n".join(lines) if lines else "")
    )
    expected = {frozenset(group) for group in nx.strongly_connected_components(topology.graph())}
    assert {frozenset(group) for group in topology.components()} == expected
    assert bool(topology.warnings) == (len(expected) > 1)
