"""Detours: where a node sends at once what it can no longer give to a neighbour.

In: next hops of all nodes and the costs they came from. Out: for every node, by
the neighbour that may fail, strict lists of hops, each with the destinations it
is for. A node next to a failure cannot tell a dead link from a dead neighbour,
so destinations beyond the neighbour go around the *neighbour*; only the
neighbour itself, and what lies behind nothing else, go around the *link*.

What makes a detour free of loops, while every other node still uses the old
tables: its hops are explicit and without a repeat; around a neighbour they end
at the first node whose own old path avoids that neighbour; around a link they
end at the neighbour itself, so that nothing is repaired twice if it is dead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from heapq import heappop, heappush
from typing import TypeAlias

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import Hops
from relaymesh.protocol.messages import MAX_DETOUR_HOPS

Path: TypeAlias = tuple[int, ...]  # the nodes after the one that repairs
Ways: TypeAlias = dict[Path, tuple[int, ...]]  # path → the destinations it is for, rising
Detours: TypeAlias = dict[int, dict[int, Ways]]  # node → neighbour that failed → ways
_Graph: TypeAlias = dict[int, list[tuple[int, float]]]  # node → (neighbour, cost)


def find_detours(next_hops: Hops, costs_ms: Mapping[Direction, float]) -> Detours:
    """For every node and each of its next hops, the ways around it; what has none is left out."""
    graph: _Graph = {node: [] for node in next_hops}
    for (sender, receiver), cost in sorted(costs_ms.items()):
        if sender in graph and receiver in graph:
            graph[sender].append((receiver, cost))
    avoided = _Avoidance(next_hops)
    detours: Detours = {}
    for node, table in next_hops.items():
        by_hop: dict[int, list[int]] = {}
        for destination, hop in table.items():
            by_hop.setdefault(hop, []).append(destination)
        for hop in sorted(by_hop):
            ways = _ways_around(graph, avoided, node, hop, sorted(by_hop[hop]))
            if ways:
                detours.setdefault(node, {})[hop] = ways
    return detours


def _ways_around(graph: _Graph, avoided: _Avoidance, node: int, failed: int, wanted: list[int]) -> Ways:
    ways: dict[Path, list[int]] = {}
    behind = [destination for destination in wanted if destination != failed]
    parents = _search(graph, node, behind, without=failed) if behind else {}
    around_link: Path | None = None
    for destination in wanted:
        path: Path | None = None
        if destination in parents:
            path = _release(avoided, _walk(parents, node, destination), failed, destination)
        if path is None:
            if around_link is None:
                found = _search(graph, node, (failed,), cut=failed)
                around_link = _walk(found, node, failed) if failed in found else ()
            path = around_link
        if 0 < len(path) <= MAX_DETOUR_HOPS:
            ways.setdefault(path, []).append(destination)
    return {path: tuple(destinations) for path, destinations in ways.items()}


def _release(avoided: _Avoidance, path: Path, failed: int, destination: int) -> Path:
    """*path* up to the first node that may forward by its table again."""
    for length, node in enumerate(path, 1):
        if avoided.by(node, destination, failed):
            return path[:length]
    raise AssertionError("the destination is its own last node, and is not the failed one")


class _Avoidance:
    """Old paths, asked for whether they avoid a third node."""

    def __init__(self, next_hops: Hops) -> None:
        self._next_hops = next_hops
        self._known: dict[tuple[int, int], frozenset[int]] = {}  # (node, destination) → nodes on the way

    def by(self, node: int, destination: int, failed: int) -> bool:
        way = self._known.get((node, destination))
        if way is None:
            way = self._known[node, destination] = frozenset(self._steps(node, destination))
        return destination in way and failed not in way

    def _steps(self, node: int, destination: int) -> Iterator[int]:
        here: int | None = node
        seen: set[int] = set()
        while here is not None and here not in seen:
            seen.add(here)
            yield here
            here = self._next_hops.get(here, {}).get(destination) if here != destination else None


def _search(
    graph: _Graph, start: int, wanted: Collection[int], *, without: int | None = None, cut: int | None = None
) -> dict[int, int]:
    """Cheapest paths from *start* as node → node before it, until all *wanted* are found.

    *without* names a node that is not there, *cut* a neighbour of *start* whose link to it is not.
    Equal choices go to the lower index, so that the same costs give the same detours.
    """
    before: dict[int, int] = {}
    missing = set(wanted)
    heap: list[tuple[float, int, int]] = [(0.0, start, start)]
    while heap and missing:
        cost, node, parent = heappop(heap)
        if node in before:
            continue
        before[node] = parent
        missing.discard(node)
        for receiver, more in graph[node]:
            if receiver in before or receiver == without or (node == start and receiver == cut):
                continue
            heappush(heap, (cost + more, receiver, node))
    return before


def _walk(before: Mapping[int, int], start: int, end: int) -> Path:
    path = [end]
    while before[path[-1]] != start:
        path.append(before[path[-1]])
    return tuple(reversed(path))
