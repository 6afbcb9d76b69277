"""How much longer the best way around a failure is than the way before it.

In: the scenario, the windows of its faults, the paths that media took. Out:
milliseconds for each fault, stream and edge. A packet that goes around a dead link
arrives later by this much whoever routes it: it is no part of what the mesh
took to notice and to act. The delays are those of the scenario, not measured
ones, and the way around is the best there is, not the one taken: a bad detour
counts against the mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise

from relaymesh.netsim.result import FaultWindow, PathChange
from relaymesh.netsim.scenario.resolved import Scenario

Way = tuple[str, str]  # stream (room/participant), edge
DEADLY = ("link-cut", "flap", "node-crash")  # what leaves nothing of a link or node


def longer_ms(
    scenario: Scenario, found: Sequence[FaultWindow], paths: Sequence[PathChange]
) -> list[dict[Way, float]]:
    """For each window: by how many milliseconds the ways that it broke are longer around it."""
    ordered = sorted(paths, key=lambda change: change.t)
    longer: list[dict[Way, float]] = []
    for window in found:
        dead_nodes = {node for w in found if _is_on(w, window.start_s) for node in w.nodes}
        dead_links = {link for w in found if _is_on(w, window.start_s) for link in w.links}
        before = {(p.stream, p.edge): p.path for p in ordered if p.t < window.start_s}
        longer.append(
            {way: _longer(scenario, path, dead_nodes, dead_links) for way, path in before.items() if path}
            if window.kind in DEADLY
            else {}
        )
    return longer


def _is_on(window: FaultWindow, at: float) -> bool:
    return window.kind in DEADLY and window.start_s <= at < window.end_s


def _longer(
    scenario: Scenario, path: Sequence[str], dead_nodes: set[str], dead_links: set[tuple[str, str]]
) -> float:
    taken = sum(_delay_ms(scenario, a, b) for a, b in pairwise(path))
    best = _best_ms(scenario, path[0], path[-1], dead_nodes, dead_links)
    return max(0.0, best - taken) if best is not None else 0.0


def _delay_ms(scenario: Scenario, source: str, target: str) -> float:
    conditions = scenario.conditions(source, target)
    return float(conditions["delay_ms"]) if conditions is not None else 0.0


def _best_ms(
    scenario: Scenario, start: str, end: str, dead_nodes: set[str], dead_links: set[tuple[str, str]]
) -> float | None:
    relays = {node.name for node in scenario.topology.node_list() if "relay" in node.roles}
    done: set[str] = set()
    heap = [(0.0, start)]
    while heap:
        so_far, here = heappop(heap)
        if here == end:
            return so_far
        if here in done or (here != start and here not in relays):
            continue
        done.add(here)
        for there in scenario.nodes:
            usable = there not in done and there not in dead_nodes and (here, there) not in dead_links
            if usable and scenario.conditions(here, there) is not None:
                heappush(heap, (so_far + _delay_ms(scenario, here, there), there))
    return None
