"""From a graph of another tool's file to the topology that it means.

In: a :class:`~relaymesh.topology.formats.graph.Graph`. Out: a topology, and
warnings about all that had to be assumed: where a vertex is, how long an edge
takes, what two edges between the same two vertices are.

A vertex is a region with one node; vertices that name their region are that
region's nodes. Delay is what the edge says, else the distance of its ends
along a great circle times a stretch factor at the speed of light in fibre,
else a number the caller assumes. This module knows no format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import asin, cos, isfinite, radians, sin, sqrt
from typing import Any

from relaymesh.topology.formats.graph import Edge, Graph, Vertex, line, short, slug, usable_name
from relaymesh.topology.formats.native import MEASURES, document_text
from relaymesh.topology.loader import parse_topology
from relaymesh.topology.model import LOCAL_DELAY_MS, Topology
from relaymesh.topology.problems import Problem, TopologyError
from relaymesh.topology.schema import MAX_LINKS, MAX_NODES

MS_PER_KM = 0.005  # light in fibre, refractive index about 1.47
EARTH_RADIUS_KM = 6371.0088  # mean radius (IUGG)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Values to assume where a file gives none. Impossible values raise ``ValueError``."""

    # Fibre is longer than the way on the globe. Over the 45 pairs of regions in
    # topologies/ibm-cloud.yaml, half the measured round trip is 1.28 to 3.47 times what light in
    # fibre takes for the great circle (quartiles 1.47, 1.56, 2.09), detours of the network included.
    stretch: float = 1.5
    delay_ms: float = 5.0  # of an edge that has no delay and not two places

    def __post_init__(self) -> None:
        if not (isfinite(self.stretch) and 1 <= self.stretch <= 100):
            raise ValueError(f"the stretch must be from 1 to 100, not {self.stretch}")
        if not (isfinite(self.delay_ms) and 0 <= self.delay_ms <= 60_000):
            raise ValueError(f"the delay must be from 0 to 60000 ms, not {self.delay_ms}")


@dataclass(frozen=True, slots=True)
class Imported:
    """A topology of another tool's file."""

    topology: Topology
    text: str  # as a file of our own format
    warnings: tuple[Problem, ...]  # what was assumed, and what is odd


def to_topology(graph: Graph, source: str, assumptions: Assumptions, name: str | None = None) -> Imported:
    """The topology that *graph* means; raises ``TopologyError`` where it can mean none."""
    if not graph.vertices and not graph.errors:
        graph.error((1, 1), "the graph has no nodes")
    for kind, count, most in (
        ("nodes", len(graph.vertices), MAX_NODES),
        ("edges", len(graph.edges), MAX_LINKS),
    ):
        if count > most:
            graph.error((1, 1), f"{count} {kind}; a topology has at most {most}")
    _check_ends(graph)
    graph.raise_if_wrong()
    names = _names(graph)
    document: dict[str, Any] = {
        "version": 1,
        "name": _topology_name(name or graph.name, source),
        "description": line(graph.description, 1024) or f"Imported from {line(_base(source), 128)}.",
        **_regions(graph, names),
    }
    document["links"] = _links(graph, names, assumptions)
    if "nodes" in document:
        _by_region(document)
    text = document_text(document)
    try:
        topology = parse_topology(text, source)
    except TopologyError as error:  # two vertices that name each other as region, and the like
        problems = (Problem(source, 1, 1, problem.path, problem.message) for problem in error.problems)
        raise TopologyError(tuple(problems)) from None
    for warning in topology.warnings:
        graph.warn((1, 1), warning.message)
    return Imported(topology, text, graph.ordered(graph.warnings))


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The way between two places (latitude, longitude in degrees) along a great circle (haversine)."""
    (lat_a, lon_a), (lat_b, lon_b) = a, b
    north, east = radians(lat_b - lat_a) / 2, radians(lon_b - lon_a) / 2
    chord = sin(north) ** 2 + cos(radians(lat_a)) * cos(radians(lat_b)) * sin(east) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))


def _base(source: str) -> str:
    return source.replace("\\", "/").rsplit("/", 1)[-1]


def _topology_name(wanted: str | None, source: str) -> str:
    for text in (wanted, _base(source).split(".")[0]):
        if text and (usable_name(text) or slug(text)):
            return text if usable_name(text) else slug(text)
    return "imported"


def _check_ends(graph: Graph) -> None:
    kept = []
    for edge in graph.edges:
        unknown = [end for end in dict.fromkeys((edge.source, edge.target)) if end not in graph.vertices]
        for end in unknown:
            graph.error(edge.place, f"no node {short(end)}")
        if edge.source == edge.target and not unknown:
            graph.warn(edge.place, f"an edge from {short(edge.source)} to itself is left out")
        elif not unknown:
            kept.append(edge)
    graph.edges = kept


def _names(graph: Graph) -> dict[str, str]:
    """Vertex key → the node's name: its own, else made of its label, each once."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    next_number: Counter[str] = Counter()
    # Those with a name of their own go first: nobody takes it from them.
    for vertex in sorted(graph.vertices.values(), key=lambda vertex: vertex.name is None):
        own = vertex.name if vertex.name and usable_name(vertex.name) else ""
        base = own or slug(vertex.label or "") or slug(vertex.name or "") or _name_of_key(vertex.key)
        name = base
        while name in taken:
            next_number[base] += 1
            name = f"{base[:56]}-{next_number[base] + 1}"
        if own and name != own:
            graph.warn(vertex.place, f"there are several nodes called {own}; this one is called {name}")
        taken.add(name)
        names[vertex.key] = name
    return names


def _name_of_key(key: str) -> str:
    if usable_name(key) and not key.isdigit():
        return key
    return f"node-{slug(key)}".strip("-")


def _regions(graph: Graph, names: Mapping[str, str]) -> dict[str, Any]:
    """The keys `regions`, and `nodes` where a region has others than the one of its name."""
    regions: dict[str, dict[str, Any]] = {}
    nodes: list[dict[str, Any]] = []
    plain = True
    for vertex in graph.vertices.values():
        name = names[vertex.key]
        region = vertex.region or name
        plain = plain and region == name and len(vertex.roles) != 1
        node: dict[str, Any] = {"name": name, "region": region}
        if len(vertex.roles) == 1:
            node["roles"] = list(vertex.roles)
        nodes.append(node)
        if region not in regions:
            regions[region] = _region(graph, vertex, region)
    return {"regions": list(regions.values())} | ({} if plain else {"nodes": nodes})


def _region(graph: Graph, vertex: Vertex, name: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name}
    title = line(vertex.label, 128)
    if title and title != name:
        entry["title"] = title
    if vertex.latitude is not None and vertex.longitude is not None:
        entry["latitude"], entry["longitude"] = vertex.latitude, vertex.longitude
    else:
        graph.warn(vertex.place, f"{name} has no coordinates")
    if vertex.country:
        entry["country"] = vertex.country
    return entry


def _links(graph: Graph, names: Mapping[str, str], assumptions: Assumptions) -> list[dict[str, Any]]:
    pairs: dict[tuple[str, str], tuple[list[Edge], list[Edge]]] = {}
    for edge in graph.edges:
        ends = names[edge.source], names[edge.target]
        turned = ends not in pairs and ends[::-1] in pairs
        there, back = pairs.setdefault(ends[::-1] if turned else ends, ([], []))
        if turned:
            there, back = back, there
        there.append(edge)
        if not edge.directed:
            back.append(edge)
    vertices = {names[key]: vertex for key, vertex in graph.vertices.items()}
    assumed = 0
    links = []
    for ends, (there, back) in pairs.items():
        if not there or not back:
            graph.warn(
                (there or back)[0].place, f"{ends[0]} – {ends[1]} is given in one direction; taken for both"
            )
        forward, guessed = _bundle(graph, ends, there or back, vertices, assumptions)
        backward, _ = _bundle(None, ends, back or there, vertices, assumptions)
        assumed += guessed
        links.append(_link(ends, (there or back)[0].peering, forward, backward))
    if assumed:
        shown = "1 edge has" if assumed == 1 else f"{assumed} edges have"
        graph.warn((1, 1), f"{shown} neither a delay nor two places: {assumptions.delay_ms:g} ms assumed")
    links.extend(_local_refusals(graph, names, pairs))
    return links


def _bundle(
    graph: Graph | None,
    ends: tuple[str, str],
    edges: list[Edge],
    vertices: Mapping[str, Vertex],
    assumptions: Assumptions,
) -> tuple[dict[str, float], bool]:
    """Combine parallel *edges*; returns their measures, and whether the delay had to be assumed."""
    a, b = (vertices[end] for end in ends)
    guess, guessed = assumptions.delay_ms, True
    if None not in (a.latitude, a.longitude, b.latitude, b.longitude):
        way = distance_km((a.latitude, a.longitude), (b.latitude, b.longitude))  # type: ignore[arg-type]
        guess = max(LOCAL_DELAY_MS, round(way * assumptions.stretch * MS_PER_KM, 3))
        guessed = False
    fastest = min(edges, key=lambda edge: edge.measures.get("delay_ms", guess))
    measures = {"delay_ms": guess, **fastest.measures}
    if len(edges) > 1:
        capacities = [edge.measures.get("capacity_mbps") for edge in edges]
        limits = [capacity for capacity in capacities if capacity is not None]
        measures.pop("capacity_mbps", None)
        if len(limits) == len(edges):
            measures["capacity_mbps"] = min(sum(limits), 1e9)
        if graph is not None:
            graph.warn(
                edges[1].place,
                f"{len(edges)} edges between {ends[0]} and {ends[1]}: taken as one, "
                "the fastest, with all their capacity",
            )
    return measures, guessed and "delay_ms" not in fastest.measures


def _link(
    ends: tuple[str, str], peering: str | None, forward: dict[str, float], backward: dict[str, float]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"between": list(ends)}
    if peering is not None and peering != "private":
        entry["peering"] = peering
    for name in MEASURES:
        there, back = forward.get(name), backward.get(name)
        if not there and not back and name != "delay_ms":
            continue
        if there == back:
            entry[name] = there
        else:
            missing = 1e9 if name == "capacity_mbps" else 0.0  # the format has no "in one direction only"
            entry[name] = {
                "forward": missing if there is None else there,
                "backward": missing if back is None else back,
            }
    return entry


def _local_refusals(
    graph: Graph, names: Mapping[str, str], pairs: Mapping[tuple[str, str], object]
) -> Iterable[dict[str, Any]]:
    """Nodes of one region may peer unless one says otherwise; a graph without their edge does."""
    members: dict[str, list[str]] = {}
    for vertex in graph.vertices.values():
        if vertex.region:
            members.setdefault(vertex.region, []).append(names[vertex.key])
    room = MAX_LINKS - len(pairs)
    for nodes in members.values():
        for a, b in combinations(nodes, 2):
            if (a, b) not in pairs and (b, a) not in pairs and room > 0:
                room -= 1
                yield {"between": [a, b], "peering": "never"}


def _by_region(document: dict[str, Any]) -> None:
    """Say of regions what holds for all their nodes, and of nodes only the rest.

    A link joins two regions or two nodes. Where a node is called as its region and
    must be meant as a node, the region gets another name.
    """
    region_of = {node["name"]: node["region"] for node in document["nodes"]}
    sizes = Counter(region_of.values())
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for link in document["links"]:
        a, b = (region_of[end] for end in link["between"])
        if (a, b) not in groups and (b, a) in groups:
            link = _turned(link)
            a, b = b, a
        groups.setdefault((a, b), []).append(link)
    of_regions: list[dict[str, Any]] = []
    of_nodes: list[dict[str, Any]] = []
    for (a, b), group in groups.items():
        said = {**group[0], "between": [a, b]}
        whole = a != b and len(group) == sizes[a] * sizes[b]
        if whole and all({**link, "between": [a, b]} == said for link in group):
            of_regions.append(said)
        else:
            local = {"delay_ms": LOCAL_DELAY_MS}  # goes without saying
            of_nodes.extend(link for link in group if a != b or {**local, "between": link["between"]} != link)
    taken = {region["name"] for region in document["regions"]} | region_of.keys()
    new = {}
    for name in dict.fromkeys(end for link in of_nodes for end in link["between"]):
        if any(region["name"] == name for region in document["regions"]):
            numbers = ("", *range(2, len(taken) + 3))
            new[name] = next(text for n in numbers if (text := f"{name[:52]}-region{n}") not in taken)
            taken.add(new[name])
    for region in document["regions"]:
        region["name"] = new.get(region["name"], region["name"])
    for node in document["nodes"]:
        node["region"] = new.get(node["region"], node["region"])
    for link in of_regions:
        link["between"] = [new.get(end, end) for end in link["between"]]
    document["links"] = of_regions + of_nodes


def _turned(link: dict[str, Any]) -> dict[str, Any]:
    """*link* said from its other end."""
    return {
        key: value[::-1]
        if key == "between"
        else {"forward": value["backward"], "backward": value["forward"]}
        if isinstance(value, dict)
        else value
        for key, value in link.items()
    }
