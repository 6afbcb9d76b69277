from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import TopologyError
from relaymesh.topology.formats import Imported, Reading, import_topology

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


def read(text: str, environment: Mapping[str, str] | None = None) -> Imported:
    return import_topology(text.encode(), "triangle.clab.yml", reading=Reading(environment=environment or {}))


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
        ("topology: &a\n  nodes: *a", "2: : the alias *a stands inside what it names"),
        ("topology: {nodes: *a}", "1: : no anchor &a stands before its alias"),
        ("topology: {nodes: {<<: 3}}", "1: : << must name a mapping, or a list of mappings"),
        ("name: a\ntopology: {nodes: {'${R}': {}}, links: 3}\nx: ${Y:=z", "3: : ${Y has no end"),
        ("topology:\n  nodes: {a: {}, a: {}}", "2: : the key is given twice, first in line 2"),
    ],
)
def test_what_is_no_lab_is_refused(text: str, said: str) -> None:
    assert said in problems(text)


ANCHORS = """x-place: &paris
  labels: &at-paris {region: Paris, graph-geoCoordinateLat: 48.85, graph-geoCoordinateLng: 2.35}
topology:
  nodes:
    a: *paris
    b: {<<: *paris, kind: linux}
    c: {labels: {<<: [{region: Oslo, roles: relay}, *at-paris], graph-geoCoordinateLat: 59.91}}
  links:
    - &wan {endpoints: ["a:1", "c:1"], labels: {delay_ms: 12}}
    - {<<: *wan, endpoints: ["b:1", "c:2"]}
"""


def test_anchors_and_merge_keys_are_read() -> None:
    topology = read(ANCHORS).topology
    assert [(node.name, node.region) for node in topology.nodes] == [
        ("a", "Paris"),
        ("b", "Paris"),
        ("c", "Oslo"),
    ]
    assert topology.region("Oslo").latitude == 59.91 and topology.region("Oslo").longitude == 2.35
    assert topology.node("c").roles == {"relay"}
    for ends in (("a", "c"), ("b", "c")):
        link = topology.link(*ends)
        assert link is not None and link.delay_ms == 12


def test_aliases_of_aliases_are_bounded() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "5: : aliases stand for more than 100000 values" in problems("\n".join(lines) + "\ntopology: {}\n")
    deep = "\n".join(["x0: &x0 {}", *(f"x{n}: &x{n} {{a: *x{n - 1}}}" for n in range(1, 20))])
    assert problems(deep)[0].endswith("nested more than 16 deep")


INHERITED = """topology:
  defaults: {kind: linux, labels: {region: Rome, roles: edge}}
  kinds:
    linux: {labels: {region: Bonn}}
    srl: {group: core, labels: {region: Oslo}}
  groups:
    core: {labels: {region: Paris}}
    mute: {kind: srl}
  nodes:
    by-default: {}
    by-kind: {kind: srl, group: none-such}
    by-group: {group: core}
    by-group-of-kind: {kind: srl}
    by-kind-of-group: {group: mute}
    own: {group: core, labels: {region: Lima, roles: relay}}
    other: {kind: unknown}
"""


def test_labels_come_from_the_group_the_kind_and_the_defaults() -> None:
    topology = read(INHERITED).topology
    assert {node.name: node.region for node in topology.nodes} == {
        "by-default": "Bonn",
        "by-kind": "Oslo",
        "by-group": "Paris",
        "by-group-of-kind": "Paris",
        "by-kind-of-group": "Oslo",
        "own": "Lima",
        "other": "Rome",
    }
    assert topology.node("own").roles == {"relay"} and topology.node("other").roles == {"edge"}


VARIABLES = """name: ${LAB:=demo}
topology:
  nodes:
    ${A:-r1}: {image: "alpine:${TAG:=3}"}
    r2: {image: "${IMAGE}", exec: [echo $HOME $$1]}
  links:
    - {endpoints: ["r1:eth1", "r2:eth1"], labels: {delay_ms: ${DELAY:=7}}}
"""


def test_variables_have_defaults() -> None:
    imported = read(VARIABLES)
    assert imported.topology.name == "demo"
    link = imported.topology.link("r1", "r2")
    assert link is not None and link.delay_ms == 7
    assert (5, "'IMAGE' is not set and has no default: left as it is written") in [
        (warning.line, warning.message) for warning in imported.warnings
    ]


def test_variables_are_taken_from_the_given_environment() -> None:
    imported = read(VARIABLES, {"LAB": "other", "DELAY": "21.5", "IMAGE": "x", "TAG": "", "UNUSED": "1"})
    assert imported.topology.name == "other"
    link = imported.topology.link("r1", "r2")
    assert link is not None and link.delay_ms == 21.5
    told = [warning.message for warning in imported.warnings if "environment" in warning.message]
    assert told == [f"the value of '{name}' is the environment's" for name in ("LAB", "IMAGE", "DELAY")]


BRIDGED = """topology:
  defaults: {kind: linux}
  groups: {lan: {kind: ovs-bridge}}
  nodes:
    r1: {}
    r2: {}
    r3: {}
    r4: {}
    br1: {kind: bridge}
    br2: {group: lan}
    empty: {kind: bridge}
    outside: {kind: host}
  links:
    - {endpoints: ["r1:1", "br1:1"], labels: {delay_ms: 3, loss: 0.1, capacity_mbps: 100, jitter_ms: 3}}
    - {endpoints: ["r2:1", "br1:2"], labels: {delay_ms: 4, loss: 0.2, capacity_mbps: 50, jitter_ms: 4}}
    - {endpoints: ["br1:3", "br2:1"], labels: {delay_ms: 10, peering: public}}
    - {endpoints: ["br2:2", "r3:1"]}
    - {endpoints: ["r3:2", "r4:1"], labels: {delay_ms: 1}}
    - {endpoints: ["r1:9", "br1:9"], labels: {delay_ms: 30}}
    - {endpoints: ["r4:9", "outside:9"]}
"""


def test_bridges_are_joined_through() -> None:
    imported = read(BRIDGED)
    topology = imported.topology
    assert [node.name for node in topology.nodes] == ["r1", "r2", "r3", "r4"]
    assert {frozenset(pair.ends) for pair in topology.pairs} == {
        frozenset(ends) for ends in (("r1", "r2"), ("r1", "r3"), ("r2", "r3"), ("r3", "r4"))
    }
    near, far = topology.link("r1", "r2"), topology.link("r3", "r2")
    assert near is not None and far is not None
    assert (near.delay_ms, near.jitter_ms, near.capacity_mbps) == (7, 5, 50)
    assert near.loss == pytest.approx(1 - 0.9 * 0.8) and near.peering == "private"
    assert (far.delay_ms, far.peering) == (14, "public")
    told = [
        (warning.line, warning.message)
        for warning in imported.warnings
        if "coordinates" not in warning.message
    ]
    assert told == [
        (9, "the bridges 'br1', 'br2': the 3 nodes there are all linked to each other"),
        (11, "the bridge 'empty': left out, as fewer than two nodes are there"),
        (12, "'outside' stands for the host: left out"),
        (20, "a link to 'outside' is left out"),
    ]


def test_a_bridge_with_too_many_nodes_is_refused() -> None:
    nodes = "".join(f"    n{n}: {{}}\n" for n in range(400))
    links = "".join(f'    - endpoints: ["n{n}:1", "br:{n}"]\n' for n in range(400))
    lab = f"topology:\n  nodes:\n    br: {{kind: bridge}}\n{nodes}  links:\n{links}"
    assert problems(lab) == ["3: : the bridge 'br': 400 nodes are more than can all be linked"]


@given(st.binary(max_size=60) | st.text("topolgyndesk:-{}[],a1 \n\"'", max_size=80).map(str.encode))
def test_whatever_the_bytes_only_one_error(data: bytes) -> None:
    for text in (
        data,
        b"topology:\n  nodes: {a: {}, b: {}}\n  links:\n" + data,
        b"topology: {nodes: " + data + b"}",
        b"x: &a {kind: bridge}\ntopology:\n  nodes: {a: *a, b: &b {}, c: {<<: *b, x: " + data + b"}}",
        b"topology: {nodes: {a: {kind: bridge}, b: {}, c: {}}, links: [{endpoints: [a, b]}, " + data + b"]}",
    ):
        try:
            import_topology(text, "any.yml", "containerlab")
        except TopologyError:
            pass
