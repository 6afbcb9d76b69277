"""Shortest paths between all members, as next hops.

In: the cost of every directed link that is up. Out: for every node and
destination the next hop, and the cost of the whole path. Each destination has
one tree: a node's next hop is chosen so that cost-to-go falls with every hop,
which, as every link costs something, cannot loop. Equal choices go to the
lowest index, so that the same costs give the same tables in any process.
networkx holds the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import networkx as nx

from relaymesh.controller.lsdb import Direction

# Two sums of the same costs in another order may differ in the last bits; what
# differs by less than this is equal. Far below the least cost of a link.
TIE_MS = 1e-6

Hops = dict[int, dict[int, int]]  # node → destination → next hop


@dataclass(frozen=True, slots=True)
class Paths:
    """All-pairs shortest paths."""

    next_hops: Hops = field(default_factory=dict)
    costs_ms: dict[int, dict[int, float]] = field(default_factory=dict)  # node → destination → cost

    def path(self, start: int, end: int) -> list[int] | None:
        """The nodes from *start* to *end*, both included; None when there is no way."""
        return follow(self.next_hops, start, end)

    def cost_ms(self, start: int, end: int) -> float | None:
        """The cost of the path; None when there is no way."""
        if start == end:
            return 0.0
        return self.costs_ms.get(start, {}).get(end)


def follow(tables: Mapping[int, Mapping[int, int]], start: int, end: int) -> list[int] | None:
    """Walk from *start* to *end* by the *tables*, as a packet would; None when it would not arrive."""
    path = [start]
    while path[-1] != end:
        hop = tables.get(path[-1], {}).get(end)
        if hop is None or hop in path:
            return None
        path.append(hop)
    return path


def shortest_paths(nodes: Iterable[int], costs_ms: Mapping[Direction, float]) -> Paths:
    """Next hops and costs for every ordered pair of *nodes* that links in *costs_ms* connect.

    Every cost is positive; links of other nodes are not used.
    """
    known = sorted(nodes)
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(known)
    graph.add_weighted_edges_from(
        # Reversed, so that one search from a destination finds every node's cost to it.
        (receiver, sender, cost)
        for (sender, receiver), cost in costs_ms.items()
        if graph.has_node(sender) and graph.has_node(receiver)
    )
    paths = Paths({node: {} for node in known}, {node: {} for node in known})
    for destination in known:
        to_go: dict[int, float] = nx.single_source_dijkstra_path_length(graph, destination)
        for node, cost in to_go.items():
            if node == destination:
                continue
            paths.costs_ms[node][destination] = cost
            paths.next_hops[node][destination] = min(
                receiver
                for receiver in graph.predecessors(node)
                if receiver in to_go and graph[receiver][node]["weight"] + to_go[receiver] <= cost + TIE_MS
            )
    return paths
