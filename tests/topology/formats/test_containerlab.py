from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import TopologyError
from relaymesh.topology.formats import Imported, import_topology

LAB = """name: triangle
topology:
  kinds: {linux: {image: "alpine:3"}}
  nodes:
    r1:
      kind: linux
      labels: {graph-geoCoordinateLat: "48.85", graph-geoCoordinateLng: "2.35"}
    r2:
      kind: linux
      labels: {graph-geoCoordinateLat: 51.5, graph-geoCoordinateLng: -0.13}
    r3: {}
  links:
    - endpoints: ["r1:eth1", "r2:eth1"]
    - type: veth
      endpoints: [{node: r2, interface: eth2}, {node: r3, interface: eth1}]
      mtu: 1500
      labels: {delay_ms: 12, capacity_mbps: 100}
    - endpoints: ["r3:eth2", "r1:eth2"]
    - endpoints: ["r3:mgmt", "host:veth9"]
    - {type: mgmt-net, endpoint: {node: r1, interface: eth9}}
"""


def read(text: str) -> Imported:
    return import_topology(text.encode(), "triangle.clab.yml")


def problems(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        read(text)
    return [f"{found.line}: {found.path}: {found.message}" for found in caught.value.problems]


def test_a_lab_is_read() -> None:
    imported = read(LAB)
    topology = imported.topology
    assert topology.name == "triangle"
    assert [region.name for region in topology.regions] == ["r1", "r2", "r3"]
    near, labelled = topology.link("r1", "r2"), topology.link("r3", "r2")
    assert near is not None and near.delay_ms == pytest.approx(344 * 0.005 * 1.5, rel=0.02)
    assert labelled is not None and (labelled.delay_ms, labelled.capacity_mbps) == (12, 100)
    assert [(warning.line, warning.message) for warning in imported.warnings] == [
        (1, "1 edge has neither a delay nor two places: 5 ms assumed"),
        (11, "r3 has no coordinates"),
        (19, "a link to 'host' is left out"),
        (20, "a link with one end in the lab is left out"),
    ]


def test_nodes_may_be_put_into_regions() -> None:
    lab = """topology:
  nodes:
    a1: {labels: {region: Paris}}
    a2: {labels: {region: Paris}}
    b1: {labels: {region: Oslo}}
  links:
    - endpoints: ["a1:1", "b1:1"]
"""
    topology = read(lab).topology
    assert [region.name for region in topology.regions] == ["Paris", "Oslo"]
    assert topology.node("a2").region == "Paris"
    assert not topology.may_peer("a1", "a2") and topology.may_peer("a1", "b1")
    assert topology.name == "triangle"  # the file's


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: : the file is empty"),
        ("name: x", "1: : not containerlab: no 'topology'"),
        ("topology: {nodes: [a]}", "1: topology.nodes: must be a mapping of nodes"),
        ("topology: {nodes: {}}", "1: : the graph has no nodes"),
        ("topology:\n  nodes: {a: {}}\n  links: 3", "3: topology.links: must be a list"),
        (LAB.replace('"r2:eth1"', '"r9:eth1"'), "13: topology.links[0]: no node 'r9'"),
        (
            LAB.replace(', "r2:eth1"', ""),
            '13: topology.links[0]: must have endpoints, two of "node:interface" or {node, interface}',
        ),
        ("topology: &a\n  nodes: *a", "2: : aliases (*a) are not allowed; use 'defaults'"),
        ("topology:\n  nodes: {a: {}, a: {}}", "2: : the key is given twice, first in line 2"),
    ],
)
def test_what_is_no_lab_is_refused(text: str, said: str) -> None:
    assert said in problems(text)


@given(st.binary(max_size=60) | st.text("topolgyndesk:-{}[],a1 \n\"'", max_size=80).map(str.encode))
def test_whatever_the_bytes_only_one_error(data: bytes) -> None:
    for text in (
        data,
        b"topology:\n  nodes: {a: {}, b: {}}\n  links:\n" + data,
        b"topology: {nodes: " + data + b"}",
    ):
        try:
            import_topology(text, "any.yml", "containerlab")
        except TopologyError:
            pass
