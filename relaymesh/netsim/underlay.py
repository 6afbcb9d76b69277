"""The network below the mesh: a graph of routers, collapsed to one link for each pair of the mesh.

In: an underlay, as a topology (a file of our own format, GraphML, containerlab
or NetJSON), and where each region or node of the mesh stands in it. Out: a
topology whose links are the underlay's paths: shortest by delay, each way for
itself, losses combined, the rate the least on the way. So a mesh can be tried on
a known network without emulating its routers. PURE but for :func:`load_underlay`,
which reads one file.

Jitters combine as the root of the sum of squares: the spreads of links that
know nothing of each other add up so, and the quantiles nearly do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations, pairwise
from math import hypot, prod
from pathlib import Path
from typing import Any

import networkx as nx

from relaymesh.topology import Link, Problem, Region, Topology, TopologyError
from relaymesh.topology.formats import Assumptions, Imported, Reading, import_topology
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.model import LOCAL_DELAY_MS, Direction, Node, Pair


class UnderlayError(ValueError):
    """The mesh does not fit on the underlay; ``problems`` says all reasons."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_underlay(
    path: Path | str,
    assumptions: Assumptions | None = None,
    kind: str | None = None,
    *,
    name: str | None = None,
    reading: Reading | None = None,
) -> Imported:
    """The graph in the file at *path*, in any format topologies can be imported from.

    Raises:
        TopologyError: the file cannot be read or is no graph.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TopologyError((Problem(str(path), 1, 1, "", f"cannot be read: {error}"),)) from None
    return import_topology(data, str(path), kind, assumptions, name=name, reading=reading)


def collapse(underlay: Topology, places: Mapping[str, str], *, name: str | None = None) -> Topology:
    """A mesh with a region for each entry of *places* (its name → a node of *underlay*), each linked to each.

    Regions take coordinates from where they stand. Pairs without a way between them may not peer.

    Raises:
        UnderlayError: a place is no node of the underlay.
    """
    paths = _Paths(underlay, places)
    regions = []
    for region, router in places.items():
        below = underlay.region(underlay.node(router).region)
        title = region if below.title == below.name else below.title
        regions.append(Region(region, title, below.latitude, below.longitude, below.country))
    pairs = []
    for ends in combinations(places, 2):
        there, back = paths.between(*ends), paths.between(*reversed(ends))
        if there is not None and back is not None:
            pairs.append(Pair(ends, "private", there, back))
    return Topology(
        name=name or underlay.name,
        description=f"{len(regions)} places of {underlay.name}, each linked to each by the shortest path.",
        regions=tuple(regions),
        nodes=tuple(Node(region, region) for region in places),
        pairs=tuple(pairs),
        default_peering="never",
        default_direction=Direction(0.0),
    )


def lay_over(topology: Topology, underlay: Topology, places: Mapping[str, str] | None = None) -> Topology:
    """*topology*, its links being what *underlay* makes of them.

    Who may peer, prices and the operator's bias stay; delay, jitter and loss are
    the underlay's, and a rate is the lower of both. *places* (region or node →
    node of the underlay) may leave out who is called as where it stands; a node
    that is not named in it stands with its region.

    Raises:
        UnderlayError: somebody stands nowhere, or two that may peer have no way between them.
    """
    given = dict(places or {})
    regions = [region.name for region in topology.regions]
    known = {*regions, *(node.name for node in topology.nodes)}
    unknown = [f"'{name}' is no region or node of {topology.name}" for name in given if name not in known]
    if unknown:
        raise UnderlayError(unknown)
    where = {region: given.get(region, region) for region in regions}
    paths = _Paths(underlay, {**where, **given})
    for node in topology.nodes:
        paths.places[node.name] = given.get(node.name, where[node.region])
    apart = [node for node in topology.nodes if paths.places[node.name] != where[node.region]]
    problems: list[str] = []
    pairs: dict[frozenset[str], Pair] = {}
    for pair in _candidates(topology, apart):
        if frozenset(pair.ends) not in pairs:
            laid = pair if pair.peering == "never" else paths.laid(pair, problems)
            pairs[frozenset(pair.ends)] = laid
    if problems:
        raise UnderlayError(problems)
    return replace(topology, pairs=tuple(pairs.values()), default_peering="never")


def _candidates(topology: Topology, apart: Sequence[Node]) -> Iterator[Pair]:
    """All that may peer, and all that the file says may not, each pair at least once."""
    yield from topology.pairs
    regions = combinations([region.name for region in topology.regions], 2)
    nodes = ((node.name, other.name) for node in apart for other in topology.nodes if other != node)
    for a, b in chain(regions, nodes):
        there, back = topology.link(a, b), topology.link(b, a)
        if there is not None and back is not None:
            yield Pair((a, b), there.peering, _direction(there), _direction(back))


def _direction(link: Link) -> Direction:
    return Direction(**{name: getattr(link, name) for name in Direction.__dataclass_fields__})


class _Paths:
    """Shortest paths by delay, computed once for each place asked for."""

    def __init__(self, underlay: Topology, places: Mapping[str, str]) -> None:
        routers = [node.name for node in underlay.nodes]
        unknown = [
            f"'{name}' stands at '{router}', which is no node of {underlay.name}"
            for name, router in places.items()
            if router not in set(routers)
        ]
        if unknown:
            raise UnderlayError(unknown)
        self.places = dict(places)
        self._graph = underlay.graph()
        self._from: dict[str, dict[str, list[str]]] = {}

    def between(self, source: str, target: str) -> Direction | None:
        """The way from *source* to *target* as one link; ``None``: there is none."""
        a, b = self.places[source], self.places[target]
        if a not in self._from:
            self._from[a] = nx.single_source_dijkstra_path(self._graph, a, weight=_delay)
        path = self._from[a].get(b)
        if path is None:
            return None
        return combine([self._graph.edges[hop]["link"] for hop in pairwise(path)])

    def laid(self, pair: Pair, problems: list[str]) -> Pair:
        """*pair* as the underlay carries it; a missing way is noted."""
        ways = []
        for ends, own in ((pair.ends, pair.forward), (pair.ends[::-1], pair.backward)):
            way = self.between(*ends)
            if way is None:
                a, b = (self.places[end] for end in ends)
                problems.append(f"the underlay has no way from '{a}' to '{b}'")
                return pair
            ways.append(
                replace(
                    way,
                    capacity_mbps=_lowest(way.capacity_mbps, own.capacity_mbps),
                    extra_cost_ms=own.extra_cost_ms,
                    price_per_gb=own.price_per_gb,
                )
            )
        return replace(pair, forward=ways[0], backward=ways[1])


def combine(links: Sequence[Link]) -> Direction:
    """*links* one behind the other, as one; none at all: what one data centre's network takes."""
    if not links:
        return Direction(LOCAL_DELAY_MS)
    return Direction(
        delay_ms=sum(link.delay_ms for link in links),
        jitter_ms=hypot(*(link.jitter_ms for link in links)),
        loss=1 - prod(1 - link.loss for link in links),
        capacity_mbps=_lowest(*(link.capacity_mbps for link in links)),
    )


def _lowest(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _delay(_here: str, _there: str, edge: dict[str, Any]) -> float:
    return float(edge["link"].delay_ms)
