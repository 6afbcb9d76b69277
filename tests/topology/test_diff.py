from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.topology import load_topology, parse_topology
from relaymesh.topology.diff import describe_change, diff

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
BASE = """version: 1
name: mesh
regions: [{name: a}, {name: b, latitude: 1, longitude: 2}, {name: c}]
links:
  - {between: [a, b], delay_ms: 10}
  - {between: [b, c], delay_ms: 20, capacity_mbps: 100, price_per_gb: 0.02}
  - {between: [a, c], delay_ms: 30, extra_cost_ms: 5}
"""


def lines(new: str, old: str = BASE) -> list[str]:
    return [str(change) for change in diff(parse_topology(old), parse_topology(new))]


@pytest.mark.parametrize("file", sorted(TOPOLOGIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_nothing_differs_from_itself(file: Path) -> None:
    assert diff(load_topology(file), load_topology(file)) == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: mesh", "name: net", ["~ file: name mesh → net"]),
        ("name: mesh", "name: mesh\nobjective: cost", ["~ file: objective none → cost"]),
        ("{name: a}", "{name: a, title: Aachen}", ["~ region a: title none → Aachen"]),
        ("latitude: 1", "latitude: 1.5", ["~ region b: latitude 1 → 1.5"]),
        ("price_per_gb: 0.02", "price_per_gb: 0.09", ["~ pair b – c: price_per_gb 0.02 → 0.09"]),
        ("capacity_mbps: 100, ", "", ["~ pair b – c: capacity_mbps 100 → none"]),
        (
            "extra_cost_ms: 5",
            "extra_cost_ms: {forward: 5, backward: 0}",
            ["~ pair a – c: extra_cost_ms c → a 5 → 0"],
        ),
        (
            "delay_ms: 30, extra_cost_ms: 5",
            "peering: never",
            ["~ pair a – c: peering private → never"],
        ),
        (
            "  - {between: [a, c], delay_ms: 30, extra_cost_ms: 5}\n",
            "",
            ["- pair a – c: peering private, delay_ms 30, extra_cost_ms 5"],
        ),
        ("[a, b], delay_ms: 10", "[b, a], delay_ms: 10", []),
    ],
)  # fmt: skip
def test_each_kind_of_change(old: str, new: str, expected: list[str]) -> None:
    assert BASE.count(old) == 1
    assert lines(BASE.replace(old, new)) == expected


def test_a_region_more_and_a_pin() -> None:
    new = BASE.replace("{name: c}]", "{name: c}, {name: d}]") + "pins: [{from: a, to: c, via: [b]}]\n"
    assert lines(new) == ["+ region d", "+ pin a → c by b"]
    assert lines(BASE, new) == ["- region d", "- pin a → c by b"]


def test_what_the_defaults_say_counts_like_what_is_listed() -> None:
    full = BASE.replace("links:", "peering: full\ndefaults: {delay_ms: 30, extra_cost_ms: 5}\nlinks:")
    shorter = full.replace("  - {between: [a, c], delay_ms: 30, extra_cost_ms: 5}\n", "")
    assert shorter != full and lines(shorter, full) == []
    assert lines(full)[-1].startswith("~ file: peering listed → full, private")


def test_nodes_that_say_no_more_than_their_regions_are_no_difference() -> None:
    named = BASE.replace(
        "links:", "nodes: [{name: a, region: a}, {name: b2, region: b, roles: [relay]}]\nlinks:"
    )
    assert lines(named) == ["+ node b2: region b, roles relay"]


def test_a_change_as_data() -> None:
    (change,) = diff(parse_topology(BASE), parse_topology(BASE.replace("0.02", "0.03")))
    assert describe_change(change) == {
        "what": "pair",
        "name": "b – c",
        "kind": "changed",
        "fields": {"price_per_gb": {"old": 0.02, "new": 0.03}},
    }
