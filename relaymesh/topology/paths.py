"""Best paths by expected cost, over what a topology file says.

For people and tests: the running mesh routes by what it measures. Only nodes
with the role ``relay`` carry what is not for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx

from relaymesh.topology.model import Topology


@dataclass(frozen=True, slots=True)
class BestPath:
    """The cheapest way between two nodes."""

    nodes: tuple[str, ...]  # from source to target, both included
    cost_ms: float  # sum over the path's links

    @property
    def hops(self) -> int:
        return len(self.nodes) - 1


def best_paths_from(
    topology: Topology, source: str, graph: nx.DiGraph[str] | None = None
) -> dict[str, BestPath]:
    """The best path from node *source* to every node it can reach, itself left out.

    *graph* is ``topology.graph()``, for callers that ask for many sources. Raises
    ``KeyError`` when the file does not know the node.
    """
    topology.node(source)
    graph = topology.graph() if graph is None else graph

    def weight(here: str, _there: str, edge: dict[str, Any]) -> float | None:
        relays = here == source or "relay" in topology.node(here).roles
        return float(edge["cost_ms"]) if relays else None  # None hides the edge

    answer: Any = nx.single_source_dijkstra(graph, source, weight=weight)  # typed for one target only
    costs, paths = answer
    return {target: BestPath(tuple(paths[target]), costs[target]) for target in paths if target != source}


def best_paths(topology: Topology) -> Iterator[tuple[str, str, BestPath | None]]:
    """(source, target, path) for every ordered pair of nodes, in the file's order; ``None`` = no way."""
    graph = topology.graph()
    for source in topology.nodes:
        paths = best_paths_from(topology, source.name, graph)
        for target in topology.nodes:
            if target != source:
                yield source.name, target.name, paths.get(target.name)
