"""Preview of another topology: the changes it would bring to the running mesh, computed from measurements.

In: a copy of what the stages know (:class:`Situation`), taken in one moment.
Out: a :class:`Preview`: links gained and lost, the paths that would move with
their costs before and after, what could not be reached any more, the streams
on those paths. Nothing here touches the stages, so that it may run in a thread
while the controller goes on.

A link the mesh does not have yet was never measured: its cost is what the file
leads one to expect, and paths over it are marked as estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Generic, TypeVar

import numpy as np

from relaymesh.controller.directory import PublicationLeg
from relaymesh.controller.lsdb import Direction
from relaymesh.controller.metric import HOP_MS
from relaymesh.controller.moved import Moved, compare, hops_of
from relaymesh.controller.objective import Pricing
from relaymesh.controller.pins import Pins, Stages, followed
from relaymesh.controller.plan import Tables
from relaymesh.controller.policy import MeshPolicy, TopologyPolicy
from relaymesh.controller.routes import SLICE_WORK, HopMatrix, RouteMatrix, in_parts
from relaymesh.controller.sites import crossing_ms, own_names, same_site
from relaymesh.controller.sparse import choose_neighbours
from relaymesh.protocol.messages import SiteInfo
from relaymesh.topology import Objective, Topology
from relaymesh.topology.diff import Change, describe_change, diff

MAX_SHOWN = 500  # entries of each list in an answer; counts are always of all
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class NodeAt:
    """A member, as the preview needs it."""

    index: int
    name: str
    region: str
    site: SiteInfo | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """A copy of the stages' state."""

    policy: MeshPolicy  # the one that holds; never changed, only replaced
    nodes: tuple[NodeAt, ...]
    neighbours: tuple[Direction, ...]  # the lower index first
    costs_ms: Mapping[Direction, float]  # as planned with but for prices, of what is up
    objective: Objective  # where a policy says none
    on_probation: frozenset[Direction]
    tables: Tables  # as active; nobody changes them any more
    legs: tuple[PublicationLeg, ...]


@dataclass(frozen=True, slots=True)
class Some(Generic[Item]):
    """The first :data:`MAX_SHOWN` of many, and how many they are."""

    shown: tuple[Item, ...] = ()
    count: int = 0

    @classmethod
    def of(cls, items: Iterable[Item]) -> Some[Item]:
        rest = iter(items)
        shown = tuple(islice(rest, MAX_SHOWN))
        return cls(shown, len(shown) + sum(1 for _ in rest))


@dataclass(frozen=True, slots=True)
class MovedPath:
    """One path, before and after; None: no way. Costs in milliseconds, each under its own topology."""

    start: str
    end: str
    before: tuple[str, ...] | None
    before_ms: float | None
    after: tuple[str, ...] | None
    after_ms: float | None
    estimated: bool  # it would use a link that was never measured


@dataclass(frozen=True, slots=True)
class Preview:
    """The answer."""

    conflicts: tuple[str, ...]  # why this cannot be applied while these nodes are in
    changes: tuple[Change, ...]  # in the file
    gained: tuple[tuple[str, str], ...] = ()  # pairs of nodes
    lost: tuple[tuple[str, str], ...] = ()
    idle_pins: tuple[str, ...] = ()  # that nothing would follow now
    moved: Some[MovedPath] = Some()  # with those that have no way any more
    cut_off: Some[tuple[str, str]] = Some()  # (from, to) that have a way now and would have none
    streams: Some[tuple[str, str, str, str]] = Some()  # room, participant, ingress, edge

    def as_json(self) -> dict[str, object]:
        """For the API: lists are cut at :data:`MAX_SHOWN`, counts are not."""
        return {
            "conflicts": list(self.conflicts),
            "changes": [describe_change(change) for change in self.changes[:MAX_SHOWN]],
            "links": {
                "gained": [list(pair) for pair in self.gained[:MAX_SHOWN]],
                "lost": [list(pair) for pair in self.lost[:MAX_SHOWN]],
            },
            "idle_pins": list(self.idle_pins[:MAX_SHOWN]),
            "paths": [
                {
                    "from": path.start,
                    "to": path.end,
                    "before": None if path.before is None else list(path.before),
                    "before_ms": _rounded(path.before_ms),
                    "after": None if path.after is None else list(path.after),
                    "after_ms": _rounded(path.after_ms),
                    "estimated": path.estimated,
                }
                for path in self.moved.shown
            ],
            "publications": [
                {"room": room, "participant": who, "ingress": ingress, "edge": edge}
                for room, who, ingress, edge in self.streams.shown
            ],
            "counts": {
                "changes": len(self.changes),
                "links_gained": len(self.gained),
                "links_lost": len(self.lost),
                "paths_moved": self.moved.count,
                "paths_cut_off": self.cut_off.count,
                "publications": self.streams.count,
            },
        }


def conflicts_with(policy: TopologyPolicy, nodes: tuple[NodeAt, ...]) -> tuple[str, ...]:
    """Conflicts between *policy* and the members."""
    regions = set(policy.regions())
    found = []
    for node in nodes:
        if node.region not in regions:
            found.append(f"node '{node.name}' is in region '{node.region}', which is not in the file")
            continue
        listed = {policy.listed_region(name) for name in own_names(node)} - {None, node.region}
        found += [
            f"node '{node.name}' is in region '{node.region}'; the file has it in '{region}'"
            for region in listed
        ]
    return tuple(found)


def stages(policy: MeshPolicy, nodes: tuple[NodeAt, ...]) -> tuple[Stages, ...]:
    """The pins of *policy*, each station as the indexes of its nodes."""
    return tuple(
        tuple(
            frozenset(node.index for node in nodes if policy.stands_at(node, station))
            for station in pin.stations
        )
        for pin in policy.pins()
    )


def preview(now: Situation, topology: Topology) -> Preview:
    """Compute the changes that *topology* would bring."""
    policy = TopologyPolicy(topology)
    conflicts = conflicts_with(policy, now.nodes)
    old = now.policy.topology
    changes = () if old is None else diff(old, topology)
    if conflicts:
        return Preview(conflicts, changes)
    names = {node.index: node.name for node in now.nodes}
    gained, lost = _pairs(now, policy)
    costs, unmeasured = _costs_under(policy, topology, now, gained)
    pins = Pins(stages(policy, now.nodes), now.on_probation)
    idle = set(range(len(topology.pins))) - followed(pins, costs)
    after = _planned(names, costs, pins)
    before = hops_of(now.tables, names, len(after))
    moved = compare(before, after)
    return Preview(
        conflicts,
        changes,
        tuple((names[a], names[b]) for a, b in gained),
        tuple((names[a], names[b]) for a, b in lost),
        tuple(" → ".join(topology.pins[number].stations) for number in sorted(idle)),
        Some(_moved(now, moved, (before, after), costs, unmeasured), len(moved.ends)),
        _cut_off(moved, names),
        _streams(now, moved, names, len(after)),
    )


def _pairs(now: Situation, policy: MeshPolicy) -> tuple[list[Direction], list[Direction]]:
    """Pairs that would become neighbours, and those that would not be any more; lower index first."""
    neighbours: dict[int, set[int]] = {node.index: set() for node in now.nodes}
    for low, high in now.neighbours:
        neighbours[low].add(high)
        neighbours[high].add(low)
    nodes = {node.index: node for node in now.nodes}
    lost = [pair for pair in now.neighbours if not policy.may_peer(*(nodes[end] for end in pair))]
    gained: list[Direction] = []
    # As the edit would choose them: one node after the other, each beside what those before it got.
    for node in sorted(now.nodes, key=lambda node: node.index):
        allowed = {
            other.index: other for other in now.nodes if other is not node and policy.may_peer(node, other)
        }
        wanted = choose_neighbours(node, allowed, lambda index: len(neighbours[index]), policy)
        for other in sorted(wanted - neighbours[node.index]):
            neighbours[node.index].add(other)
            neighbours[other].add(node.index)
            gained.append((min(node.index, other), max(node.index, other)))
    return sorted(gained), lost


def _costs_under(
    policy: TopologyPolicy, topology: Topology, now: Situation, gained: list[Direction]
) -> tuple[dict[Direction, float], set[Direction]]:
    """The cost of every link *policy* allows, and which of them were never measured."""
    nodes = {node.index: node for node in now.nodes}
    costs: dict[Direction, float] = {}
    for (a, b), cost in now.costs_ms.items():
        if a in nodes and b in nodes and policy.may_peer(nodes[a], nodes[b]):
            more = policy.extra_cost_ms(nodes[a], nodes[b]) - now.policy.extra_cost_ms(nodes[a], nodes[b])
            costs[a, b] = cost + more
    unmeasured: set[Direction] = set()
    for low, high in gained:
        for a, b in ((low, high), (high, low)):
            link = topology.link(policy.end(nodes[a]), policy.end(nodes[b]))
            assert link is not None or same_site(nodes[a], nodes[b]), "they may peer"
            listed_ms = 0.0 if link is None else link.cost_ms
            costs[a, b] = listed_ms + HOP_MS + crossing_ms(nodes[a], nodes[b])
            unmeasured.add((a, b))
    return _priced(costs, policy, now), unmeasured


def _priced(costs: dict[Direction, float], policy: MeshPolicy, now: Situation) -> dict[Direction, float]:
    """*costs* with the weight that prices have under *policy*; a copy."""
    nodes = {node.index: node for node in now.nodes}

    def price_per_gb(link: Direction) -> float:
        return policy.price_per_gb(nodes[link[0]], nodes[link[1]])

    objective = policy.objective() or now.objective
    return Pricing(lambda: objective, price_per_gb, lambda index: nodes[index].region).weigh(costs)


def _planned(names: Mapping[int, str], costs: dict[Direction, float], pins: Pins) -> HopMatrix:
    """Next hops as they would be planned."""
    routes = RouteMatrix()
    for _ in routes.grow(max(names, default=-1) + 1):
        pass
    routes.take(costs)
    routes.pin(pins)
    for part in in_parts(np.arange(routes.size), SLICE_WORK / max(1, len(costs))):
        routes.compute(part)
    return routes.hops


def _moved(
    now: Situation,
    moved: Moved,
    hops: tuple[HopMatrix, HopMatrix],
    costs: Mapping[Direction, float],
    unmeasured: set[Direction],
) -> tuple[MovedPath, ...]:
    """The first of what *moved*; *hops* and ways before and after."""
    names = {node.index: node.name for node in now.nodes}
    known = {link: cost for link, cost in now.costs_ms.items() if link[0] in names and link[1] in names}
    old_costs = _priced(known, now.policy, now)
    shown: list[MovedPath] = []
    first = slice(0, MAX_SHOWN)
    for end, start, had, has in zip(
        *(column[first].tolist() for column in (moved.ends, moved.starts, moved.before, moved.after)),
        strict=True,
    ):
        before = _way(hops[0], start, end) if had else None
        after = _way(hops[1], start, end) if has else None
        estimated = after is not None and any(hop in unmeasured for hop in pairwise(after))
        shown.append(
            MovedPath(
                names[start],
                names[end],
                _named(before, names),
                _cost(before, old_costs),
                _named(after, names),
                _cost(after, costs),
                estimated,
            )
        )
    return tuple(shown)


def _cut_off(moved: Moved, names: Mapping[int, str]) -> Some[tuple[str, str]]:
    gone = np.flatnonzero(moved.before & ~moved.after)
    first = gone[:MAX_SHOWN]
    pairs = zip(moved.starts[first].tolist(), moved.ends[first].tolist(), strict=True)
    return Some(tuple((names[start], names[end]) for start, end in pairs), len(gone))


def _streams(
    now: Situation, moved: Moved, names: Mapping[int, str], size: int
) -> Some[tuple[str, str, str, str]]:
    """The streams that go a way that *moved*."""
    other = np.zeros((size, size), np.bool_)  # a set of a million pairs would be a hundred times as large
    other[moved.starts, moved.ends] = True
    return Some.of(
        (leg.room, leg.participant, names[leg.ingress], names[leg.edge])
        for leg in now.legs
        if leg.ingress in names and leg.edge in names and other[leg.ingress, leg.edge]
    )


def _way(hops: HopMatrix, start: int, end: int) -> list[int]:
    """The nodes from *start* to *end*, between which there is a way."""
    way = [start]
    while way[-1] != end:
        way.append(int(hops[end, way[-1]]))
    return way


def _named(path: list[int] | None, names: Mapping[int, str]) -> tuple[str, ...] | None:
    return None if path is None else tuple(names.get(index, f"#{index}") for index in path)


def _cost(path: list[int] | None, costs: Mapping[Direction, float]) -> float | None:
    """None: no path, or a link of it is down by now."""
    if path is None or any(hop not in costs for hop in pairwise(path)):
        return None
    return sum(costs[hop] for hop in pairwise(path))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
