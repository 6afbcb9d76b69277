from __future__ import annotations

from itertools import permutations
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import Topology, TopologyError, load_topology
from relaymesh.topology.formats import Assumptions, Imported, import_topology
from relaymesh.topology.formats.graphml import write_graphml

TOPOLOGIES = Path(__file__).parents[3] / "topologies"

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d42"/>
  <key attr.name="key" attr.type="int" for="edge" id="d38"/>
  <key attr.name="label" attr.type="string" for="node" id="d33"/>
  <key attr.name="Longitude" attr.type="double" for="node" id="d32"/>
  <key attr.name="Country" attr.type="string" for="node" id="d30"/>
  <key attr.name="Latitude" attr.type="double" for="node" id="d29"/>
  <key attr.name="Network" attr.type="string" for="graph" id="d3"/>
"""
ZOO = (
    HEAD
    + """  <graph edgedefault="undirected">
    <data key="d3">Tiny Net</data>
    <node id="0"><data key="d33">Paris</data><data key="d29">48.85</data><data key="d32">2.35</data></node>
    <node id="1"><data key="d33">S\xe3o Paulo</data><data key="d29">-23.55</data><data key="d32">-46.63</data>
      <data key="d30">Brazil</data></node>
    <node id="2"><data key="d33">Paris</data><data key="d29">48.85</data><data key="d32">2.35</data></node>
    <node id="3"><data key="d33">?</data></node>
    <edge source="0" target="1"><data key="d42">2500000000.0</data><data key="d38">0</data></edge>
    <edge source="0" target="1"><data key="d42">1e10</data><data key="d38">1</data></edge>
    <edge source="0" target="2"/>
    <edge source="2" target="3"/>
    <edge source="3" target="3"/>
  </graph>
</graphml>
"""
)


def read(text: str | bytes, **assumptions: float) -> Imported:
    data = text.encode() if isinstance(text, str) else text
    return import_topology(data, "zoo.graphml", assumptions=Assumptions(**assumptions))


def graph(body: str, edges: str = "undirected") -> str:
    return HEAD + f'<graph edgedefault="{edges}">\n{body}\n</graph></graphml>'


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        read(text)
    return [f"{found.line}: {found.message}" for found in caught.value.problems]


def assert_same_links(one: Topology, other: Topology) -> None:
    assert {node.name: (node.region, node.roles) for node in one.nodes} == {
        node.name: (node.region, node.roles) for node in other.nodes
    }
    for a, b in permutations([node.name for node in one.nodes], 2):
        there, back = one.link(a, b), other.link(a, b)
        assert (there is None) == (back is None), (a, b)
        if there is not None and back is not None:
            for name in (
                "peering",
                "delay_ms",
                "jitter_ms",
                "loss",
                "capacity_mbps",
                "cost_ms",
                "price_per_gb",
            ):
                assert getattr(there, name) == pytest.approx(getattr(back, name)), (a, b, name)


def test_a_file_of_the_topology_zoo_is_read() -> None:
    imported = read(ZOO)
    topology = imported.topology
    assert topology.name == "tiny-net"
    assert [region.name for region in topology.regions] == ["paris", "sao-paulo", "paris-2", "node-3"]
    assert topology.region("sao-paulo").title == "São Paulo"
    link = topology.link("paris", "sao-paulo")
    assert link is not None
    # 9,400 km at 5 µs each, half as much again
    assert link.delay_ms == pytest.approx(9_400 * 0.005 * 1.5, rel=0.01)
    assert link.capacity_mbps == 12_500  # both edges
    local = topology.link("paris", "paris-2")
    assert local is not None and local.delay_ms == 0.25 and local.capacity_mbps is None
    parallel = "2 edges between paris and sao-paulo: taken as one, the fastest, with all their capacity"
    assert [str(warning).removeprefix("zoo.graphml:") for warning in imported.warnings] == [
        "1:1: warning: 1 edge has neither a delay nor two places: 5 ms assumed",
        "16:5: warning: node-3 has no coordinates",
        f"18:5: warning: {parallel}",
        "21:5: warning: an edge from '3' to itself is left out",
    ]


# The shape of a file as yEd 3 saves it: names, groups and arrows stand in elements of its own.
YED = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="http://www.yworks.com/xml/graphml"
         xmlns:yed="http://www.yworks.com/xml/yed/3">
  <key attr.name="Description" attr.type="string" for="graph" id="d0"/>
  <key for="node" id="d6" yfiles.type="nodegraphics"/>
  <key attr.name="description" attr.type="string" for="node" id="d5"/>
  <key for="edge" id="d10" yfiles.type="edgegraphics"/>
  <graph edgedefault="directed" id="G">
    <node id="n0"><data key="d5"/><data key="d6"><y:ShapeNode>
      <y:NodeLabel hasText="false" height="4.0"/>
      <y:NodeLabel alignment="center">Zürich
 West<y:LabelModel><y:SmartNodeLabelModel distance="4.0"/>junk</y:LabelModel></y:NodeLabel>
      <y:NodeLabel>10.0.0.1</y:NodeLabel><y:Shape type="rectangle"/></y:ShapeNode></data></node>
    <node id="n1" yfiles.foldertype="group"><data key="d6"><y:ProxyAutoBoundsNode><y:Realizers active="0">
      <y:GroupNode><y:NodeLabel>Europe</y:NodeLabel></y:GroupNode>
      <y:GroupNode><y:NodeLabel>Folder 1</y:NodeLabel></y:GroupNode></y:Realizers>
      </y:ProxyAutoBoundsNode></data>
      <graph edgedefault="directed" id="n1:">
        <node id="n1::n0"><data key="d6"><y:ShapeNode>
          <y:NodeLabel>Oslo</y:NodeLabel></y:ShapeNode></data></node>
        <node id="n1::n1"><data key="d6"><y:ShapeNode/></data></node>
      </graph></node>
    <edge id="e0" source="n0" target="n1::n0"><data key="d10"><y:PolyLineEdge>
      <y:Arrows source="none" target="none"/><y:EdgeLabel>Lisbon</y:EdgeLabel></y:PolyLineEdge></data></edge>
    <edge id="e1" source="n1::n0" target="n1::n1"><data key="d10"><y:PolyLineEdge>
      <y:Arrows source="none" target="standard"/></y:PolyLineEdge></data></edge>
  </graph>
</graphml>
"""


def test_a_drawing_of_yed_has_its_names_in_nested_labels() -> None:
    imported = read(YED)
    topology = imported.topology
    assert [(region.name, region.title) for region in topology.regions] == [
        ("zurich-west", "Zürich West"),
        ("oslo", "Oslo"),
        ("node-n1-n1", "node-n1-n1"),
    ]
    told = [warning.message for warning in imported.warnings if "coordinates" not in warning.message]
    assert "the group 'Europe' is left out, its nodes are not" in told
    directed = [message for message in told if "in one direction" in message]
    assert len(directed) == 1 and directed[0].startswith("oslo \u2013 ")


def test_a_group_of_yed_that_an_edge_ends_at_is_a_node() -> None:
    topology = read(YED.replace('target="n1::n1"', 'target="n1"')).topology
    assert [region.name for region in topology.regions][:2] == ["zurich-west", "europe"]
    assert topology.may_peer("oslo", "europe")


def test_an_attribute_goes_before_a_drawn_label() -> None:
    named = YED.replace('attr.name="description"', 'attr.name="label"').replace(
        '<data key="d5"/>', '<data key="d5">Bern</data>'
    )
    assert read(named).topology.regions[0].name == "bern"


def test_labels_of_yfiles_for_html_are_read() -> None:
    text = """<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:x="http://www.yworks.com/xml/yfiles-common/markup/3.0"
      xmlns:y="http://www.yworks.com/xml/yfiles-common/3.0"><key id="d3" for="node" attr.name="NodeLabels"/>
      <graph edgedefault="directed">
      <node id="n0"><data key="d3"><x:List><y:Label Style="{y:GraphMLReference 1}">
        <y:Label.Text><![CDATA[Paris]]></y:Label.Text></y:Label></x:List></data></node>
      <node id="n1"><data key="d3"><x:List><y:Label Text="Rome"/></x:List></data></node>
      <edge source="n0" target="n1"/></graph></graphml>"""
    assert [region.name for region in read(text).topology.regions] == ["paris", "rome"]


def test_labels_of_a_foreign_namespace_are_not_names() -> None:
    foreign = YED.replace("http://www.yworks.com/xml/graphml", "http://example.org/graphml")
    assert read(foreign).topology.regions[0].name == "n0"


def test_what_is_not_known_is_assumed_as_one_likes() -> None:
    topology = read(ZOO, stretch=2, delay_ms=40).topology
    near, far = topology.link("paris-2", "node-3"), topology.link("paris", "sao-paulo")
    assert near is not None and near.delay_ms == 40
    assert far is not None and far.delay_ms == pytest.approx(9_400 * 0.005 * 2, rel=0.01)


@pytest.mark.parametrize("values", [{"stretch": 0.5}, {"stretch": float("nan")}, {"delay_ms": -1}])
def test_impossible_assumptions_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Assumptions(**values)


def test_what_is_imported_is_a_topology_file() -> None:
    imported = read(ZOO)
    again = import_topology(imported.text.encode(), "tiny.yaml")
    assert again.topology == imported.topology and again.text == imported.text


@pytest.mark.parametrize("file", sorted(TOPOLOGIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_export_reads_back_as_the_same_topology(file: Path) -> None:
    topology = load_topology(file)
    again = read(write_graphml(topology))
    assert_same_links(topology, again.topology)
    assert again.topology.regions == topology.regions
    assert again.topology.name == topology.name and not again.warnings


def test_nodes_that_share_a_region_come_back_in_it() -> None:
    text = """version: 1
name: pops
regions:
  - {name: dal, title: "<Dallas> & co", latitude: 1, longitude: 2}
  - {name: lon, latitude: 3, longitude: 4}
nodes:
  - {name: dal-1, region: dal}
  - {name: dal-2, region: dal, roles: [edge]}
  - {name: dal-3, region: dal, roles: [relay]}
  - {name: lon, region: lon}
links:
  - {between: [dal, lon], delay_ms: {forward: 56, backward: 57}, loss: 0.00001, capacity_mbps: 1000}
  - {between: [dal-2, dal-3], peering: never}
"""
    topology = import_topology(text.encode(), "pops.yaml").topology
    again = read(write_graphml(topology)).topology
    assert_same_links(topology, again)
    assert again.regions == topology.regions


def test_networkx_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    file = tmp_path / "out.graphml"
    file.write_text(write_graphml(load_topology(TOPOLOGIES / "three-regions.yaml")), encoding="utf-8")
    loaded = nx.read_graphml(file)
    assert loaded.edges["dallas", "washington-dc"]["delay_ms"] == 15.5
    many = nx.MultiGraph()
    many.add_node("n0", label="Bern", Latitude=46.95, Longitude=7.45)
    many.add_node("n1", label="Rome", Latitude=41.9, Longitude=12.5)
    many.add_edge("n0", "n1", LinkSpeedRaw=1e9)
    many.add_edge("n0", "n1", LinkSpeedRaw=1e9)
    nx.write_graphml(many, file)
    link = import_topology(file.read_bytes(), "many.graphml").topology.link("bern", "rome")
    assert link is not None and link.capacity_mbps == 2000


def test_edges_with_a_direction_may_differ() -> None:
    body = """<node id="a"/><node id="b"/>
    <edge source="a" target="b"><data key="delay_ms">3</data></edge>
    <edge source="b" target="a"><data key="delay_ms">4</data></edge>"""
    topology = read(graph(body, "directed")).topology
    there, back = topology.link("a", "b"), topology.link("b", "a")
    assert there is not None and back is not None
    assert (there.delay_ms, back.delay_ms) == (3, 4)
    one_way = read(graph(body[: body.rindex("<edge")], "directed"))
    back = one_way.topology.link("b", "a")
    assert back is not None and back.delay_ms == 3
    assert any("given in one direction" in warning.message for warning in one_way.warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: not XML: no element found"),
        ("<graphml>", "1: not XML: no element found"),
        ("<svg/>", "1: not GraphML: the root is 'svg'"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><graphml>&b;</graphml>", "1: a document type is not read"),
        ("<graphml/>", "1: the graph has no nodes"),
        ("<graphml>" + "<graph>" * 40, "1: nested more than 32 deep"),
        ('<?xml version="1.0" encoding="idna"?><graphml/>', "1: the encoding 'idna' is not read; UTF-8 is"),
        (graph("<node/>"), "11: a node has no id"),
        (graph('<node id="a"/>\n<node id="a"/>'), "12: the node 'a' is given twice"),
        (graph('<node id="a"/><edge source="a" target="b"/>'), "11: no node 'b'"),
        (
            graph('<node id="a"><data key="d29">north</data></node>'),
            "11: latitude must be a number, not 'north'",
        ),
        (
            graph('<node id="a"><data key="d29">91</data></node>'),
            "11: latitude must be from -90 to 90, not 91",
        ),
        (
            graph('<node id="a"/><node id="b"/><edge source="a" target="b"><data key="loss">2</data></edge>'),
            "11: loss must be from 0 to 1, not 2",
        ),
    ],
)
def test_what_is_no_graph_is_refused(text: str, said: str) -> None:
    assert said in problems(text)


def test_all_that_is_wrong_is_told_at_once() -> None:
    body = "".join(f'<node id="a"/><edge source="a" target="x{number}"/>\n' for number in range(300))
    found = problems(graph(body))
    assert len(found) == 201 and found[-1].endswith("more")


def test_too_large_a_file_is_refused() -> None:
    assert problems(b"<graphml>" + b" " * (4 << 20)) == ["1: larger than 4 MiB"]


def test_hyperedges_are_left_out_and_a_speed_of_nothing_is_no_limit() -> None:
    imported = read(
        graph(
            '<node id="a"/><node id="b"/><hyperedge/>\n'
            '<edge source="a" target="b"><data key="d42">0</data></edge>'
        )
    )
    link = imported.topology.link("a", "b")
    assert link is not None and link.capacity_mbps is None
    assert {"a hyperedge is left out", "linkspeedraw must be above 0, not 0: not limited"} <= {
        warning.message for warning in imported.warnings
    }


pieces = st.sampled_from(
    [
        b"<graphml>",
        b"</graphml>",
        b"<graph>",
        b"</graph>",
        b'<node id="a">',
        b"</node>",
        b'<edge source="a" target="b">',
        b"</edge>",
        b'<data key="Latitude">',
        b"</data>",
        b'<key id="x" attr.name="Longitude">',
        b"<default>",
        b"1e999",
        b"<!DOCTYPE x>",
        b"&amp;",
        b"\xff",
        b"<port/>",
    ]
)


@given(st.binary(max_size=80) | st.lists(pieces, max_size=20).map(b"".join))
def test_whatever_the_bytes_only_one_error(data: bytes) -> None:
    for text in (data, b"<graphml><graph>" + data + b"</graph></graphml>"):
        try:
            import_topology(text, "any.graphml", "graphml")
        except TopologyError:
            pass


def test_a_node_called_as_its_region_stays_one() -> None:
    """Where a link is meant for one node and not for its region of the same name, the region is renamed."""
    text = """version: 1
name: pops
regions: [{name: dal}, {name: lon}, {name: ams}]
nodes:
  - {name: dal, region: dal}
  - {name: dal-2, region: dal}
  - {name: lon-1, region: lon}
  - {name: ams, region: ams}
links:
  - {between: [dal-2, lon-1], delay_ms: 3}
  - {between: [dal, ams], delay_ms: {forward: 4, backward: 5}}
"""
    topology = import_topology(text.encode(), "pops.yaml").topology
    assert_same_links(topology, read(write_graphml(topology)).topology)
    body = """<node id="0"><data key="name">dal</data><data key="region">dal</data></node>
    <node id="1"><data key="name">dal-2</data><data key="region">dal</data></node>
    <node id="2"><data key="name">lon</data></node>
    <edge source="1" target="2"/>"""
    again = read(graph(body)).topology
    assert [region.name for region in again.regions] == ["dal-region", "lon-region"]
    assert (
        again.may_peer("dal-2", "lon")
        and not again.may_peer("dal", "lon")
        and not again.may_peer("dal", "dal-2")
    )
