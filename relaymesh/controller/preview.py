"""What another topology would change on the running mesh, computed from what is measured.

In: a copy of what the stages know (:class:`Situation`), taken in one moment.
Out: a :class:`Preview`: links gained and lost, the paths that would move with
their costs before and after, what could not be reached any more, the streams
on those paths. Nothing here touches the stages, so that it may run in a thread
while the controller goes on.

A link the mesh does not have yet was never measured: its cost is what the file
leads one to expect, and paths over it are marked as estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.metric import HOP_MS
from relaymesh.controller.objective import Pricing
from relaymesh.controller.paths import Paths, follow, shortest_paths
from relaymesh.controller.pins import Pins, Stages, apply_pins
from relaymesh.controller.plan import Tables
from relaymesh.controller.policy import MeshPolicy, TopologyPolicy
from relaymesh.controller.rooms import StreamLeg
from relaymesh.controller.sparse import choose_neighbours
from relaymesh.topology import Objective, Topology
from relaymesh.topology.diff import Change, describe_change, diff

MAX_SHOWN = 500  # entries of each list in an answer; counts are always of all


@dataclass(frozen=True, slots=True)
class NodeAt:
    """A member, as the preview needs it."""

    index: int
    name: str
    region: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What the stages know, copied."""

    policy: MeshPolicy  # the one that holds; never changed, only replaced
    nodes: tuple[NodeAt, ...]
    neighbours: frozenset[Direction]  # both directions of each pair
    costs_ms: Mapping[Direction, float]  # as planned with but for prices, of what is up
    objective: Objective  # where a policy says none
    on_probation: frozenset[Direction]
    tables: Tables  # as active; nobody changes them any more
    legs: tuple[StreamLeg, ...]


@dataclass(frozen=True, slots=True)
class MovedPath:
    """One path, before and after; None: no way. Costs in milliseconds, each under its own topology."""

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
    gained: tuple[tuple[str, str], ...]  # pairs of nodes
    lost: tuple[tuple[str, str], ...]
    idle_pins: tuple[str, ...]  # that nothing would follow now
    moved: Mapping[tuple[str, str], MovedPath]  # (from, to); with those that have no way any more
    streams: tuple[tuple[str, str, str, str], ...]  # room, participant, ingress, edge

    @property
    def cut_off(self) -> list[tuple[str, str]]:
        """What has a way now and would have none."""
        return [ends for ends, path in self.moved.items() if path.before and not path.after]

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
                    "from": ends[0],
                    "to": ends[1],
                    "before": None if path.before is None else list(path.before),
                    "before_ms": _rounded(path.before_ms),
                    "after": None if path.after is None else list(path.after),
                    "after_ms": _rounded(path.after_ms),
                    "estimated": path.estimated,
                }
                for ends, path in list(self.moved.items())[:MAX_SHOWN]
            ],
            "streams": [
                {"room": room, "participant": who, "ingress": ingress, "edge": edge}
                for room, who, ingress, edge in self.streams[:MAX_SHOWN]
            ],
            "counts": {
                "changes": len(self.changes),
                "links_gained": len(self.gained),
                "links_lost": len(self.lost),
                "paths_moved": len(self.moved),
                "paths_cut_off": len(self.cut_off),
                "streams": len(self.streams),
            },
        }


def conflicts_with(topology: Topology, nodes: tuple[NodeAt, ...]) -> tuple[str, ...]:
    """Why *topology* does not fit the nodes that are in."""
    policy = TopologyPolicy(topology)
    regions = set(policy.regions())
    found = []
    for node in nodes:
        listed = policy.listed_region(node.name)
        if node.region not in regions:
            found.append(f"node '{node.name}' is in region '{node.region}', which is not in the file")
        elif listed is not None and listed != node.region:
            found.append(f"node '{node.name}' is in region '{node.region}'; the file has it in '{listed}'")
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
    """What *topology* would change."""
    conflicts = conflicts_with(topology, now.nodes)
    old = now.policy.topology
    changes = () if old is None else diff(old, topology)
    if conflicts:
        return Preview(conflicts, changes, (), (), (), {}, ())
    policy = TopologyPolicy(topology)
    names = {node.index: node.name for node in now.nodes}
    gained, lost = _pairs(now, policy)
    costs, unmeasured = _costs_under(policy, topology, now, gained)
    computed = shortest_paths(names, costs)
    pinned = apply_pins(computed, costs, Pins(stages(policy, now.nodes), now.on_probation))
    moved = {
        (names[start], names[end]): path
        for (start, end), path in _moved(now, pinned.paths, costs, unmeasured, names)
    }
    return Preview(
        conflicts,
        changes,
        tuple((names[a], names[b]) for a, b in gained),
        tuple((names[a], names[b]) for a, b in lost),
        tuple(
            " → ".join(pin.stations)
            for number, pin in enumerate(topology.pins)
            if number not in pinned.followed
        ),
        moved,
        tuple(
            (leg.room, leg.participant, names[leg.ingress], names[leg.edge])
            for leg in now.legs
            if (names[leg.ingress], names[leg.edge]) in moved
        ),
    )


def _pairs(now: Situation, policy: MeshPolicy) -> tuple[list[Direction], list[Direction]]:
    """Pairs that would become neighbours, and those that would not be any more; lower index first."""
    neighbours: dict[int, set[int]] = {node.index: set() for node in now.nodes}
    for sender, receiver in now.neighbours:
        if sender in neighbours:
            neighbours[sender].add(receiver)
    allowed = {
        node.index: {
            other.index: other for other in now.nodes if other is not node and policy.may_peer(node, other)
        }
        for node in now.nodes
    }
    lost = sorted(
        pair for pair in now.neighbours if pair[0] < pair[1] and pair[1] not in allowed.get(pair[0], {})
    )
    gained: list[Direction] = []
    # As the edit would choose them: one node after the other, each beside what those before it got.
    for node in sorted(now.nodes, key=lambda node: node.index):
        wanted = choose_neighbours(node, allowed[node.index], lambda index: len(neighbours[index]), policy)
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
            assert link is not None, "they may peer"
            costs[a, b] = link.cost_ms + HOP_MS
            unmeasured.add((a, b))
    return _priced(costs, policy, now), unmeasured


def _priced(costs: dict[Direction, float], policy: MeshPolicy, now: Situation) -> dict[Direction, float]:
    """*costs*, changed in place, with the weight that prices have under *policy*."""
    nodes = {node.index: node for node in now.nodes}

    def price_per_gb(link: Direction) -> float:
        return policy.price_per_gb(nodes[link[0]], nodes[link[1]])

    objective = policy.objective() or now.objective
    return Pricing(lambda: objective, price_per_gb, lambda index: nodes[index].region).weigh(costs)


def _moved(
    now: Situation,
    paths: Paths,
    costs: Mapping[Direction, float],
    unmeasured: set[Direction],
    names: Mapping[int, str],
) -> Iterator[tuple[tuple[int, int], MovedPath]]:
    tables = {node: dict(now.tables.get(node, {})) for node in names}
    known = {link: cost for link, cost in now.costs_ms.items() if link[0] in names and link[1] in names}
    old_costs = _priced(known, now.policy, now)
    for end in names:
        if all(tables[node].get(end) == paths.next_hops.get(node, {}).get(end) for node in names):
            continue  # the whole tree towards it is as it was
        for start in names:
            if start == end:
                continue
            before, after = follow(tables, start, end), follow(paths.next_hops, start, end)
            if before == after:
                continue
            yield (
                (start, end),
                MovedPath(
                    _named(before, names),
                    _cost(before, old_costs),
                    _named(after, names),
                    _cost(after, costs),
                    after is not None and any(hop in unmeasured for hop in pairwise(after)),
                ),
            )


def _named(path: list[int] | None, names: Mapping[int, str]) -> tuple[str, ...] | None:
    return None if path is None else tuple(names.get(index, f"#{index}") for index in path)


def _cost(path: list[int] | None, costs: Mapping[Direction, float]) -> float | None:
    """None: no path, or a link of it is down by now."""
    if path is None or any(hop not in costs for hop in pairwise(path)):
        return None
    return sum(costs[hop] for hop in pairwise(path))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
