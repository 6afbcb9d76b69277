"""A second path: as far apart as the graph allows from the one that the tables take.

In: the graph with its costs, and the path of the tables. Out: a path that shares no node with it, else no
link, else as little as can be; or a *pair* of such paths that replaces both, where the tables' path is a
trap: two disjoint paths exist, but none that is disjoint from the cheapest (Suurballe 1974, Bhandari 1999).
A cable cut takes both directions of a link, so a link is shared whichever way it is crossed.
Ties go to the lower index: the same costs give the same paths in any process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import Literal, TypeAlias

from relaymesh.controller.lsdb import Direction
from relaymesh.protocol.messages import MAX_DETOUR_HOPS

Path: TypeAlias = tuple[int, ...]  # the nodes after the first
Graph: TypeAlias = dict[int, list[tuple[int, float]]]  # node → (neighbour, cost), by neighbour
Fully: TypeAlias = Literal["nodes", "links"]
Apart: TypeAlias = Fully | Literal["partly"]
_FULLY: tuple[Fully, ...] = ("nodes", "links")  # what is tried, in this order


@dataclass(frozen=True, slots=True)
class Second:
    """Path of the second copy; and of the first, where that may not follow the tables."""

    path: Path
    apart: Apart  # what the two paths have not in common
    first: Path | None = None  # None: the path of the tables


def make_graph(nodes: Sequence[int], costs_ms: Mapping[Direction, float]) -> Graph:
    """The links of *costs_ms* between *nodes*."""
    graph: Graph = {node: [] for node in nodes}
    for (sender, receiver), cost in sorted(costs_ms.items()):
        if sender in graph and receiver in graph:
            graph[sender].append((receiver, cost))
    return graph


def second_path(graph: Graph, primary: Sequence[int]) -> Second | None:
    """The best partner of *primary*, the nodes of the tables' path with both ends.

    None where every way begins with the link that *primary* begins with: a second
    copy would cross it for nothing; or where the list of hops would be too long.
    """
    start, end = primary[0], primary[-1]
    found = _apart_from(graph, primary)
    if found is not None and not _fits(found[1]):
        found = None
    links, nodes = found[0] if found is not None else (len(primary), len(primary))
    if found is not None and links == nodes == 0:
        return Second(found[1], "nodes")
    for apart in _FULLY:
        if apart == "links" and found is not None and links == 0:
            return Second(found[1], "links")
        pair = disjoint_pair(graph, start, end, apart=apart)
        if pair is not None and _fits(pair[0]) and _fits(pair[1]):
            return Second(pair[1], apart, pair[0])
    return None if found is None else Second(found[1], "partly")


def _fits(path: Path) -> bool:
    return len(path) <= MAX_DETOUR_HOPS


def _apart_from(graph: Graph, primary: Sequence[int]) -> tuple[tuple[int, int], Path] | None:
    """((links shared, nodes shared), path): the least of these, then the cheapest; never the first link."""
    start, end = primary[0], primary[-1]
    inside = set(primary[1:-1])
    links = {way for a, b in pairwise(primary) for way in ((a, b), (b, a))}
    first = start, primary[1]
    before: dict[int, int] = {}
    heap: list[tuple[int, int, float, int, int]] = [(0, 0, 0.0, start, start)]
    while heap:
        shared_links, shared_nodes, cost, node, parent = heappop(heap)
        if node in before:
            continue
        before[node] = parent
        if node == end:
            return (shared_links, shared_nodes), _walk(before, start, end)
        for receiver, more in graph[node]:
            if receiver not in before and (node, receiver) != first:
                crossed = shared_links + ((node, receiver) in links)
                heappush(heap, (crossed, shared_nodes + (receiver in inside), cost + more, receiver, node))
    return None


def disjoint_pair(graph: Graph, start: int, end: int, *, apart: Fully) -> tuple[Path, Path] | None:
    """The two paths without a common node (or link) whose costs add up to the least; the cheaper first.

    A flow of two units: the second search may take back arcs of the first. For
    disjoint nodes each node is two states with one arc between, ``~node`` where
    it is entered and ``node`` where it is left.
    """
    states = _States(graph, end, split=apart == "nodes")
    first = states.search(start, {}, {})
    if first is None:
        return None
    potential, path = first
    forward = dict(pairwise(path))
    second = states.search(start, potential, forward)
    if second is None:
        return None
    arcs = set(pairwise(path))
    for arc in pairwise(second[1]):
        if arc[::-1] in arcs:
            arcs.remove(arc[::-1])
        else:
            arcs.add(arc)
    after: dict[int, list[int]] = {}
    for here, there in sorted(arcs, reverse=True):
        after.setdefault(here, []).append(there)
    paths = [_follow(after, start, end) for _ in range(2)]
    paths.sort(key=lambda nodes: (_cost(graph, start, nodes), nodes))
    return paths[0], paths[1]


class _States:
    """The residual graph of :func:`disjoint_pair`."""

    def __init__(self, graph: Graph, end: int, *, split: bool) -> None:
        self._graph = graph
        self._end = end
        self._split = split

    def search(
        self, start: int, potential: Mapping[int, float], taken: Mapping[int, int]
    ) -> tuple[dict[int, float], list[int]] | None:
        """(cost to each state, states of the path) beside what is *taken*; costs less *potential* are ≥ 0."""
        back = {there: here for here, there in taken.items()}
        limit = potential.get(self._end, 0.0)  # of what the first search did not reach before the end
        costs: dict[int, float] = {}
        before: dict[int, int] = {}
        heap: list[tuple[float, int, int]] = [(0.0, start, start)]
        while heap:
            cost, state, parent = heappop(heap)
            if state in costs:
                continue
            costs[state], before[state] = cost, parent
            if state == self._end:
                return costs, [start, *_walk(before, start, state)]
            own = potential.get(state, limit)
            for there, more in self._arcs(state, taken.get(state), back.get(state)):
                if there not in costs:
                    reduced = max(0.0, more + own - potential.get(there, limit))
                    heappush(heap, (cost + reduced, there, state))
        return None

    def _arcs(self, state: int, taken: int | None, back: int | None) -> Iterator[tuple[int, float]]:
        """(state, cost): what can still be crossed, and what the first path crossed, the other way."""
        if back is not None:
            # Its cost is taken back; between the two states of one node there was none.
            yield back, 0.0 if ~back == state else -self._cost(back, state)
        if state < 0:
            if taken is None:
                yield ~state, 0.0
            return
        for receiver, cost in self._graph[state]:
            there = ~receiver if self._split and receiver != self._end else receiver
            if there != taken:
                yield there, cost

    def _cost(self, here: int, there: int) -> float:
        receiver = there if there >= 0 else ~there
        return next(cost for neighbour, cost in self._graph[here] if neighbour == receiver)


def _walk(before: Mapping[int, int], start: int, end: int) -> Path:
    path = [end]
    while before[path[-1]] != start:
        path.append(before[path[-1]])
    return tuple(reversed(path))


def _follow(after: dict[int, list[int]], start: int, end: int) -> Path:
    """One path out of the arcs, which it uses up."""
    path = [start]
    while path[-1] != end:
        path.append(after[path[-1]].pop())
    return tuple(state for state in path[1:] if state >= 0)


def _cost(graph: Graph, start: int, path: Path) -> float:
    total, here = 0.0, start
    for node in path:
        total += min((cost for neighbour, cost in graph[here] if neighbour == node), default=inf)
        here = node
    return total
