from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import TopologyError, load_topology
from relaymesh.topology.formats import Imported, Reading, import_topology
from relaymesh.topology.formats.netjson import write_netjson
from tests.topology.formats.test_graphml import TOPOLOGIES, assert_same_links

NETWORK: dict[str, Any] = {
    "type": "NetworkGraph",
    "protocol": "olsr",
    "version": "0.6.6",
    "metric": "ETX",
    "label": "Community Net",
    "nodes": [
        {"id": "10.0.0.1", "label": "tower", "properties": {"location": {"lat": 41.9, "lng": 12.5}}},
        {"id": "10.0.0.2", "properties": {"latitude": 46.95, "longitude": "7.45"}},
        {"id": 7, "label": "Upper Roof"},
    ],
    "links": [
        {"source": "10.0.0.1", "target": "10.0.0.2", "cost": 1.0, "properties": {"loss": 0.01}},
        {"source": "10.0.0.2", "target": "7", "cost": 2.0, "properties": {"delay_ms": 3}},
        {"source": "7", "target": "10.0.0.2", "cost": 2.5, "properties": {"delay_ms": 4}},
    ],
}


def read(document: object, graph: str | None = None) -> Imported:
    return import_topology(json.dumps(document).encode(), "net.json", "netjson", reading=Reading(graph))


def problems(document: object, graph: str | None = None) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        read(document, graph)
    return [f"{found.path}: {found.message}" for found in caught.value.problems]


def test_a_network_graph_is_read() -> None:
    imported = read(NETWORK)
    topology = imported.topology
    assert topology.name == "community-net"
    assert [(region.name, region.title) for region in topology.regions] == [
        ("tower", "tower"),
        ("10.0.0.2", "10.0.0.2"),
        ("upper-roof", "Upper Roof"),
    ]
    link = topology.link("10.0.0.2", "tower")
    assert link is not None and link.loss == 0.01
    assert link.delay_ms == pytest.approx(690 * 0.005 * 1.5, rel=0.02)
    there, back = topology.link("10.0.0.2", "upper-roof"), topology.link("upper-roof", "10.0.0.2")
    assert there is not None and back is not None and (there.delay_ms, back.delay_ms) == (3, 4)
    assert [warning.message for warning in imported.warnings] == ["upper-roof has no coordinates"]


def test_a_collection_of_one_is_read() -> None:
    collection = {"type": "NetworkCollection", "collection": [{"type": "NetworkRoutes"}, NETWORK]}
    assert read(collection).topology == read(NETWORK).topology
    collection["collection"] = [{"type": "NetworkRoutes"}]
    assert problems(collection) == ["collection: the collection holds no NetworkGraph"]


IPV6 = {
    **NETWORK,
    "label": "",
    "topology_id": "ipv6_0",
    "nodes": NETWORK["nodes"][:2],
    "links": NETWORK["links"][:1],
}
TWO = {"type": "NetworkCollection", "collection": [NETWORK, {"type": "NetworkRoutes"}, IPV6]}
CHOICES = "0 'Community Net' (olsr, 3 nodes), 1 'ipv6_0' (olsr, 2 nodes)"


def test_a_collection_of_several_asks_which() -> None:
    assert problems(TWO) == [f"collection: there are 2 graphs, choose one by its label or number: {CHOICES}"]


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [("Community Net", 3), ("ipv6_0", 2), ("0", 3), ("1", 2)],
    ids=lambda value: str(value),
)
def test_one_of_several_graphs_is_chosen_by_label_or_number(wanted: str, nodes: int) -> None:
    assert len(read(TWO, wanted).topology.nodes) == nodes
    nested = {"type": "NetworkCollection", "collection": [TWO]}
    assert read(nested, wanted).topology == read(TWO, wanted).topology


@pytest.mark.parametrize("wanted", ["ipv4", "2", "-1", "", "٢", "9" * 5000])
def test_a_graph_that_is_not_there_is_refused_with_the_choices(wanted: str) -> None:
    (said,) = problems(TWO, wanted)
    assert said.startswith("collection: no graph is called ") and said.endswith(f"; there are: {CHOICES}")
    assert len(said) < 300


def test_graphs_of_one_label_are_chosen_by_number() -> None:
    twins = {"type": "NetworkCollection", "collection": [NETWORK, {**IPV6, "label": "Community Net"}]}
    (said,) = problems(twins, "Community Net")
    assert said.startswith("collection: 2 graphs are called 'Community Net', choose by number: 0 ")
    assert len(read(twins, "1").topology.nodes) == 2


def test_a_label_of_digits_goes_before_a_number() -> None:
    numbered = {"type": "NetworkCollection", "collection": [{**IPV6, "label": "1"}, NETWORK]}
    assert len(read(numbered, "1").topology.nodes) == 2


def test_many_graphs_are_not_all_listed() -> None:
    (said,) = problems({"type": "NetworkCollection", "collection": [NETWORK] * 1000})
    assert said.endswith("15 'Community Net' (olsr, 3 nodes) and 984 more")


def test_a_graph_is_chosen_of_a_collection_only() -> None:
    with pytest.raises(TopologyError, match="only a NetJSON NetworkCollection has graphs to choose from"):
        import_topology(b"<graphml/>", "a.graphml", reading=Reading(graph="0"))
    assert read(NETWORK, "Community Net").topology == read(NETWORK, "0").topology == read(NETWORK).topology


@pytest.mark.parametrize("file", sorted(TOPOLOGIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_export_reads_back_as_the_same_topology(file: Path) -> None:
    topology = load_topology(file)
    text = write_netjson(topology)
    again = import_topology(text.encode(), "again.json")
    assert_same_links(topology, again.topology)
    assert again.topology.regions == topology.regions
    assert again.topology.name == topology.name and not again.warnings
    document = json.loads(text)
    assert {"type", "protocol", "version", "metric", "nodes", "links"} <= document.keys()
    assert all({"source", "target", "cost"} <= link.keys() for link in document["links"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "NetworkRoutes"}, "type: not a NetJSON NetworkGraph"),
        ({"nodes": 3}, "nodes: must be a list"),
        ({"nodes": [3]}, "nodes[0]: must be an object"),
        ({"nodes": [{"id": True}]}, "nodes[0]: a node must have an id"),
        ({"nodes": [{"id": "a"}, {"id": "a"}]}, "nodes[1]: the node 'a' is given twice"),
        ({"links": [{}]}, ": no node 'None'"),
        (
            {"nodes": [{"id": "a", "properties": {"lat": [1]}}], "links": []},
            "nodes[0]: lat must be a number, not [1]",
        ),
    ],
)
def test_what_is_no_network_graph_is_refused(change: dict[str, Any], said: str) -> None:
    assert said in problems({**NETWORK, **change})


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[" * 100_000, b"9" * 10_000, b'{"type": "NetworkGraph", "nodes": [}', b"{" * 9]
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(TopologyError):
        import_topology(data, "net.json", "netjson")


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "properties", "label", "lat", "delay_ms"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
node = st.fixed_dictionaries(
    {}, optional={"id": st.sampled_from(["a", "b", 1]) | values, "properties": values}
)
link = st.fixed_dictionaries(
    {"source": st.sampled_from(["a", "b", "1"]), "target": values}, optional={"properties": values}
)


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries(
        {
            "type": st.just("NetworkGraph"),
            "nodes": st.lists(node, max_size=3) | values,
            "links": st.lists(link, max_size=3) | values,
        },
        optional={"label": values},
    ).map(lambda document: json.dumps(document).encode())
)
def test_whatever_the_bytes_only_one_error(data: bytes) -> None:
    try:
        import_topology(data, "any.json", "netjson")
    except TopologyError:
        pass
