"""Any topology, written in any format and read again, means the same to a mesh."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import Topology, parse_topology
from relaymesh.topology.formats import WRITERS, import_topology, topology_text
from tests.topology.formats.test_graphml import assert_same_links

REGIONS = ("ams", "dal", "lon")
# Some are called as their region, some alone in it, some not.
NODES = ("ams", "ams-2", "dal-1", "dal-2", "lon")


def measure(values: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return values | st.fixed_dictionaries({"forward": values, "backward": values})


def link(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "between": st.permutations(names).map(lambda ends: ends[:2]),
            "delay_ms": measure(st.floats(0, 1000)),
        },
        optional={
            "peering": st.sampled_from(["public", "never"]),
            "loss": measure(st.floats(0, 1)),
            "capacity_mbps": measure(st.floats(0.1, 1e6)),
            "price_per_gb": measure(st.floats(0, 10)),
        },
    )


def once(links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({frozenset(entry["between"]): entry for entry in links}.values())


node_only = tuple(name for name in NODES if name not in REGIONS)
topologies: st.SearchStrategy[Topology] = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "name": st.just("any"),
        "regions": st.just([{"name": name} for name in REGIONS]),
        "links": st.lists(link(REGIONS) | link(node_only), max_size=6).map(once),
    },
    optional={
        "peering": st.just("full"),
        "description": st.text("ab \n\u2028", max_size=5),
    },
).map(
    lambda data: parse_topology(
        json.dumps(
            {
                **data,
                "nodes": [{"name": name, "region": name[:3]} for name in NODES],
                **({"defaults": {"delay_ms": 9, "jitter_ms": 1}} if "peering" in data else {}),
            }
        ),
        "any.json",
    )
)


@given(topologies)
def test_as_a_file_of_our_own(topology: Topology) -> None:
    again = parse_topology(topology_text(topology))
    assert_same_links(topology, again)
    assert (again.regions, again.nodes, again.description) == (
        topology.regions,
        topology.nodes,
        topology.description,
    )


@pytest.mark.parametrize("kind", WRITERS)
@given(topology=topologies)
def test_as_a_graph(kind: str, topology: Topology) -> None:
    again = import_topology(WRITERS[kind](topology).encode(), "any", kind).topology
    names = {node.name: again.node(node.name).region for node in topology.nodes}
    # A region may have been renamed; who shares one still does.
    assert {name: names[name].removesuffix("-region") for name in names} == {
        node.name: node.region for node in topology.nodes
    }
    for a in NODES:
        for b in NODES:
            if a != b:
                there, back = topology.link(a, b), again.link(a, b)
                assert (there is None) == (back is None)
                if there is not None and back is not None:
                    for name in ("peering", "delay_ms", "jitter_ms", "loss", "capacity_mbps", "price_per_gb"):
                        assert getattr(there, name) == getattr(back, name)
