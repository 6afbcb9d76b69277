"""Vertices that only join others (a bridge, a switch), taken out of a graph.

In: a :class:`~relaymesh.topology.formats.graph.Graph` and the vertices of it that are joints.
Out: the same graph without them, every two nodes that they join having an edge of their own.
Edges at joints hold for both directions. This module knows no format.

Through several joints the way is the one of least delay. Measures combine as those of
links in a row: delays, prices and extra costs add up, jitters as the root of the sum of
their squares, losses to `1 − (1 − a)(1 − b)`, and the capacity is the least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from math import hypot

from relaymesh.topology.formats.graph import Edge, Graph, short
from relaymesh.topology.schema import MAX_LINKS

Legs = Mapping[str, list[Edge]]  # vertex → its edges that have a joint as an end


def join_through(graph: Graph, joints: Iterable[str]) -> None:
    """Replace *joints* and their edges by an edge between every two nodes that they join.

    What would be more edges than a topology may have links is noted as an error instead.
    """
    removed = {key: graph.vertices[key] for key in joints}
    legs: dict[str, list[Edge]] = {}
    kept = []
    for edge in graph.edges:
        ends = {edge.source, edge.target}
        if not ends & removed.keys():
            kept.append(edge)
        for end in ends if ends & removed.keys() else ():
            legs.setdefault(end, []).append(edge)
    for key in removed:
        del graph.vertices[key]
    graph.edges = kept
    seen: set[str] = set()
    for key, joint in removed.items():
        if key in seen:
            continue
        together, nodes = _joined(key, legs, removed)
        seen.update(together)
        named = f"the bridge{'s' * (len(together) > 1)} {', '.join(map(short, together[:4]))}"
        named += f" and {len(together) - 4} more" if len(together) > 4 else ""
        count = len(nodes) * (len(nodes) - 1) // 2
        if len(graph.edges) + count > MAX_LINKS:
            graph.error(joint.place, f"{named}: {len(nodes)} nodes are more than can all be linked")
            continue
        if len(nodes) < 2:
            graph.warn(joint.place, f"{named}: left out, as fewer than two nodes are there")
            continue
        graph.warn(joint.place, f"{named}: the {len(nodes)} nodes there are all linked to each other")
        for index, node in enumerate(nodes):
            found = _ways(node, legs, removed)
            graph.edges.extend(found[other] for other in nodes[index + 1 :])


def _joined(start: str, legs: Legs, joints: Iterable[str]) -> tuple[list[str], list[str]]:
    """The joints that hang together with *start*, and the nodes at them, both in the order of the file."""
    together, nodes, waiting = {start: None}, dict[str, None](), [start]
    while waiting:
        here = waiting.pop()
        for edge in legs.get(here, ()):
            other = edge.target if edge.source == here else edge.source
            if other not in joints:
                nodes[other] = None
            elif other not in together:
                together[other] = None
                waiting.append(other)
    return list(together), list(nodes)


def _ways(start: str, legs: Legs, joints: Iterable[str]) -> dict[str, Edge]:
    """The least delayed way from *start* through joints to every node they join it to, as one edge each."""
    found: dict[str, Edge] = {}
    done = {start}
    number = 0  # of what is as long, the first comes first
    waiting: list[tuple[float, int, int, str, Edge | None]] = [(0.0, 0, 0, start, None)]
    while waiting:
        delay, hops, _, here, way = heappop(waiting)
        if way is not None and here in done:
            continue
        done.add(here)
        if way is not None and here not in joints:
            found[here] = way
            continue
        for edge in legs.get(here, ()):
            other = edge.target if edge.source == here else edge.source
            if other not in done:
                number += 1
                longer = delay + edge.measures.get("delay_ms", 0.0)
                heappush(waiting, (longer, hops + 1, number, other, _in_a_row(start, way, edge, other)))
    return found


def _in_a_row(start: str, way: Edge | None, edge: Edge, end: str) -> Edge:
    if way is None:
        return Edge(start, end, edge.place, False, dict(edge.measures), edge.peering)
    one, other = way.measures, edge.measures
    measures: dict[str, float] = {}
    for name in {**one, **other}:
        a, b = one.get(name), other.get(name)
        if a is None or b is None:
            measures[name] = one.get(name, other.get(name, 0.0))
        elif name == "jitter_ms":
            measures[name] = hypot(a, b)
        elif name == "loss":
            measures[name] = 1 - (1 - a) * (1 - b)
        elif name == "capacity_mbps":
            measures[name] = min(a, b)
        else:
            measures[name] = a + b
    peerings = {way.peering, edge.peering}
    worst = next((one for one in ("never", "public", "private") if one in peerings), None)
    return Edge(start, end, way.place, False, measures, worst)
