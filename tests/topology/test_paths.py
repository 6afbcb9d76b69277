from __future__ import annotations

import pytest

from relaymesh.topology import BestPath, best_paths, best_paths_from, parse_topology

TRIANGLE = """
version: 1
name: triangle
regions: [{name: a}, {name: b}, {name: c}, {name: alone}]
links:
  - {between: [a, b], delay_ms: 10}
  - {between: [b, c], delay_ms: {forward: 10, backward: 30}}
  - {between: [a, c], delay_ms: 25}
"""


def test_directions_have_paths_of_their_own() -> None:
    topology = parse_topology(TRIANGLE)
    assert best_paths_from(topology, "a") == {
        "b": BestPath(("a", "b"), 10.0),
        "c": BestPath(("a", "b", "c"), 20.0),
    }
    assert best_paths_from(topology, "c")["a"] == BestPath(("c", "a"), 25.0)
    assert best_paths_from(topology, "alone") == {}


def test_an_extra_cost_moves_the_path() -> None:
    topology = parse_topology(TRIANGLE.replace("delay_ms: 10}", "delay_ms: 10, extra_cost_ms: 6}"))
    assert best_paths_from(topology, "a")["c"] == BestPath(("a", "c"), 25.0)


def test_only_relays_pass_on() -> None:
    nodes = "nodes: [{name: a, region: a}, {name: b, region: b, roles: [edge]}, {name: c, region: c}]\n"
    topology = parse_topology(TRIANGLE + nodes)
    assert best_paths_from(topology, "a")["c"].hops == 1
    assert best_paths_from(topology, "b")["c"].hops == 1  # it may still send what is its own


def test_every_ordered_pair_in_the_files_order() -> None:
    found = list(best_paths(parse_topology(TRIANGLE)))
    assert [(source, target) for source, target, _ in found[:4]] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "alone"),
        ("b", "a"),
    ]
    assert len(found) == 12
    assert found[2][2] is None


def test_an_unknown_node_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        best_paths_from(parse_topology(TRIANGLE), "d")
