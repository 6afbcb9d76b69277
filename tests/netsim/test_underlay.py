from __future__ import annotations

from math import hypot
from pathlib import Path

import pytest

from relaymesh.netsim.underlay import UnderlayError, collapse, lay_over, load_underlay
from relaymesh.topology import Link, Topology, TopologyError, load_topology, parse_topology

TOPOLOGIES = Path(__file__).parents[2] / "topologies"

ROUTERS = parse_topology("""version: 1
name: backbone
regions:
  - {name: par, title: Paris, latitude: 48.85, longitude: 2.35, country: FR}
  - {name: fra}
  - {name: ams}
  - {name: nyc}
  - {name: island}
links:
  - {between: [par, fra], delay_ms: {forward: 4, backward: 5}, loss: 0.01, jitter_ms: 3, capacity_mbps: 1000}
  - {between: [fra, nyc], delay_ms: 40, loss: 0.02, jitter_ms: 4, capacity_mbps: 400}
  - {between: [par, ams], delay_ms: 4.5}
  - {between: [ams, nyc], delay_ms: 40, price_per_gb: 9}
""")


def link(topology: Topology, a: str, b: str) -> Link:
    found = topology.link(a, b)
    assert found is not None
    return found


def test_a_path_becomes_one_link_each_way_for_itself() -> None:
    mesh = collapse(ROUTERS, {"west": "nyc", "east": "par"}, name="two")
    there, back = link(mesh, "east", "west"), link(mesh, "west", "east")
    assert there.delay_ms == 44  # by Frankfurt
    assert there.loss == pytest.approx(1 - 0.99 * 0.98)
    assert there.jitter_ms == hypot(3, 4) and there.capacity_mbps == 400
    assert (back.delay_ms, back.loss, back.capacity_mbps) == (44.5, 0, None)  # by Amsterdam
    assert mesh.name == "two" and not mesh.warnings
    assert mesh.region("east").title == "Paris" and mesh.region("east").latitude == 48.85
    assert mesh.region("west").title == "west"


def test_places_without_a_way_between_them_may_not_peer() -> None:
    mesh = collapse(ROUTERS, {"east": "par", "alone": "island", "beside": "island"})
    assert not mesh.may_peer("east", "alone")
    assert link(mesh, "alone", "beside").delay_ms == 0.25


def test_a_mesh_is_laid_over_an_underlay() -> None:
    mesh = parse_topology("""version: 1
name: mesh
peering: full
defaults: {delay_ms: 99, peering: public}
regions: [{name: par}, {name: ams}, {name: new-york}]
links:
  - {between: [new-york, par], delay_ms: 1, loss: 0.5, capacity_mbps: 50, extra_cost_ms: 7, price_per_gb: 2}
  - {between: [ams, new-york], peering: never}
""")
    laid = lay_over(mesh, ROUTERS, {"new-york": "nyc"})
    one = link(laid, "par", "new-york")
    assert (one.delay_ms, one.capacity_mbps, one.extra_cost_ms, one.price_per_gb) == (44, 50, 7, 2)
    assert one.loss == pytest.approx(0.0298)
    other = link(laid, "par", "ams")
    assert (other.delay_ms, other.peering) == (4.5, "public")
    assert not laid.may_peer("ams", "new-york")
    assert laid.regions == mesh.regions and laid.nodes == mesh.nodes


def test_nodes_of_one_region_may_stand_at_different_routers() -> None:
    mesh = parse_topology("""version: 1
name: mesh
regions: [{name: europe}, {name: america}]
nodes: [{name: eu-1, region: europe}, {name: eu-2, region: europe}, {name: us-1, region: america}]
links: [{between: [europe, america], delay_ms: 1}]
""")
    laid = lay_over(mesh, ROUTERS, {"europe": "par", "eu-2": "ams", "america": "nyc"})
    assert link(laid, "eu-1", "us-1").delay_ms == 44
    assert link(laid, "eu-2", "us-1").delay_ms == 40
    assert link(laid, "eu-1", "eu-2").delay_ms == 4.5


def test_what_does_not_fit_is_told_at_once() -> None:
    mesh = load_topology(TOPOLOGIES / "square.yaml")
    with pytest.raises(UnderlayError) as caught:
        lay_over(mesh, ROUTERS, {"a": "par", "t1": "lon", "t2": "fra"})
    assert caught.value.problems == (
        "'t1' stands at 'lon', which is no node of backbone",
        "'c' stands at 'c', which is no node of backbone",
    )
    with pytest.raises(UnderlayError, match="'x' is no region or node of square"):
        lay_over(mesh, ROUTERS, {"x": "par"})
    with pytest.raises(UnderlayError) as caught:
        lay_over(mesh, ROUTERS, {"a": "par", "t1": "fra", "t2": "island", "c": "nyc"})
    assert caught.value.problems == (
        "the underlay has no way from 'par' to 'island'",
        "the underlay has no way from 'island' to 'nyc'",
    )


def test_an_underlay_may_be_any_graph(tmp_path: Path) -> None:
    file = tmp_path / "zoo.graphml"
    file.write_text(
        '<graphml><graph edgedefault="undirected"><node id="a"/><node id="b"/>'
        '<edge source="a" target="b"><data key="delay_ms">7</data></edge></graph></graphml>'
    )
    mesh = collapse(load_underlay(file).topology, {"x": "a", "y": "b"})
    assert link(mesh, "x", "y").delay_ms == 7
    assert load_underlay(TOPOLOGIES / "square.yaml").topology == load_topology(TOPOLOGIES / "square.yaml")
    with pytest.raises(TopologyError, match="cannot be read"):
        load_underlay(tmp_path / "nothing.graphml")


def test_a_collapsed_mesh_routes_no_better_than_below() -> None:
    """Over shortest paths no detour is faster: the triangle inequality holds."""
    cloud = load_topology(TOPOLOGIES / "ibm-cloud.yaml")
    names = [region.name for region in cloud.regions]
    mesh = collapse(cloud, {name: name for name in names})
    for a in names:
        for b in names:
            for c in names:
                if len({a, b, c}) == 3:
                    detour = link(mesh, a, c).delay_ms + link(mesh, c, b).delay_ms
                    assert link(mesh, a, b).delay_ms <= detour + 1e-9
