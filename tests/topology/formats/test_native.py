from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import TopologyError, load_topology, parse_topology
from relaymesh.topology.formats import guess_format, import_topology, topology_text
from relaymesh.topology.formats.build import distance_km
from relaymesh.topology.formats.graph import line, slug
from relaymesh.topology.formats.native import document_text
from relaymesh.topology.source import read_source
from tests.topology.formats.test_graphml import TOPOLOGIES


@pytest.mark.parametrize("file", sorted(TOPOLOGIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_topology_is_written_as_it_is_read(file: Path) -> None:
    topology = load_topology(file)
    assert parse_topology(topology_text(topology)) == topology


def test_defaults_nodes_and_refusals_are_written() -> None:
    text = """version: 1
name: "no"
description: "two\\nlines, a \\"quote\\" and \\u2028"
peering: full
objective: balanced
defaults: {delay_ms: 9, loss: 0.1, peering: public, capacity_mbps: 50}
regions: [{name: a, country: "NO"}, {name: b}, {name: "1e3"}]
nodes: [{name: a1, region: a}, {name: a2, region: a, roles: [edge]}, {name: b1, region: b}]
links:
  - {between: [a, b], loss: 0, peering: private, delay_ms: {forward: 1, backward: 2.5}}
  - {between: [b, "1e3"], peering: never}
  - {between: [a1, a2], delay_ms: 0.00001}
"""
    topology = parse_topology(text)
    written = topology_text(topology)
    again = parse_topology(written)
    assert topology_text(again) == written
    assert again.objective == topology.objective == "balanced"
    assert again.regions == topology.regions and again.nodes == topology.nodes
    assert again.description == topology.description and again.default_direction == topology.default_direction
    assert again.link("a1", "b1") == topology.link("a1", "b1")
    assert again.link("a2", "a1") == topology.link("a2", "a1")
    assert again.link("a", "1e3") == topology.link("a", "1e3") and not again.may_peer("b", "1e3")


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.text() | st.floats(allow_nan=False, allow_infinity=False), min_size=1
    )
)
def test_any_text_and_any_number_read_back(document: dict[str, object]) -> None:
    printable = {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in document.items()
    }
    root, problems = read_source(document_text(printable))
    assert root.plain() == printable and not problems


@pytest.mark.parametrize(
    ("data", "source", "kind"),
    [
        (b"", "a.graphml", "graphml"),
        (b" <graphml", "unknown", "graphml"),
        (b"", "lab.clab.yml", "containerlab"),
        (b"name: x\ntopology:\n  nodes:", "lab.yml", "containerlab"),
        (b'{"type": "NetworkGraph"}', "x.json", "netjson"),
        (b"version: 1\nname: x", "x.yaml", "relaymesh"),
        (b'{"version": 1}', "x.json", "relaymesh"),
    ],
)
def test_formats_are_guessed(data: bytes, source: str, kind: str) -> None:
    assert guess_format(data, source) == kind


def test_our_own_format_is_read_too_and_others_are_not() -> None:
    data = (TOPOLOGIES / "square.yaml").read_bytes()
    assert import_topology(data, "square.yaml").topology == load_topology(TOPOLOGIES / "square.yaml")
    with pytest.raises(TopologyError, match="no format named 'gml'"):
        import_topology(data, "square.yaml", "gml")


def test_distances_are_those_of_the_globe() -> None:
    dallas, london = (32.78, -96.80), (51.51, -0.13)
    assert distance_km(dallas, london) == pytest.approx(7_640, rel=0.01)
    assert distance_km(dallas, dallas) == 0
    assert distance_km((0, 0), (0, 180)) == pytest.approx(20_015, rel=0.001)


def test_names_and_lines_are_made_of_anything() -> None:
    assert slug("Zürich (CH) #2") == "zurich-ch-2" and slug("東京") == ""
    assert line("a\n\x1b[2J\ud800 b", 10) == "a [2J b" and line(3, 10) == ""
