"""Pins: ways that the operator fixed, laid over the computed ones.

In: computed paths, the costs of the links that are up, and the pins as stages
of node indexes (a station that is a region is a stage of all its nodes). Out:
paths that follow every pin whose links are all up; where one is not, that pin
changes nothing. Of several nodes in a stage the cheapest chain is taken.

Why no table can loop: towards one destination a pinned node's next hop lies one
stage nearer to it, and a node has one next hop only, so that from any pinned
node the pins lead to the destination; all other nodes go by the computed tree,
on which cost-to-go falls, until they meet the destination or a pinned node. A
pin that would give a node a second next hop is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import Hops, Paths, follow

Stages: TypeAlias = tuple[frozenset[int], ...]  # source, each station between, destinations


@dataclass(frozen=True, slots=True)
class Pins:
    """The operator's pins, and the links that count as down for them: those on probation."""

    stages: tuple[Stages, ...] = ()
    barred: frozenset[Direction] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.stages)


NO_PINS = Pins()


class PinBook:
    """Pins, by the destinations they lead to."""

    def __init__(self, pins: Pins = NO_PINS) -> None:
        self.pins = pins
        self._by_destination: dict[int, list[tuple[int, Stages]]] = {}
        for number, stages in enumerate(pins.stages):
            if _is_clear(stages):
                for destination in stages[-1]:
                    self._by_destination.setdefault(destination, []).append((number, stages[:-1]))

    @property
    def destinations(self) -> list[int]:
        """Destinations of pins, rising."""
        return sorted(self._by_destination)

    def towards(
        self, destination: int, costs_ms: Mapping[Direction, float]
    ) -> tuple[dict[int, int], frozenset[int]]:
        """The pinned nodes' next hops towards *destination*; and by which pins, as numbers.

        *costs_ms* are those of all links that are up.
        """
        laid: dict[int, int] = {}
        followed: set[int] = set()
        for number, stages in self._by_destination.get(destination, ()):
            chain = _chain(stages, destination, costs_ms, self.pins.barred)
            if chain and all(laid.get(node, hop) == hop for node, hop in chain.items()):
                laid |= chain
                followed.add(number)
        return laid, frozenset(followed)


def followed(pins: Pins, costs_ms: Mapping[Direction, float]) -> frozenset[int]:
    """Numbers of the *pins* that lead from any node to any other by links that are up."""
    book = PinBook(pins)
    return frozenset().union(*(book.towards(end, costs_ms)[1] for end in book.destinations))


def apply_pins(
    paths: Paths,
    costs_ms: Mapping[Direction, float],
    pins: Pins,
) -> Paths:
    """*paths* with *pins* laid over them. *paths* is not changed; what differs is copied."""
    laid: dict[int, dict[int, int]] = {}  # destination → node → next hop
    book = PinBook(pins)
    for destination in book.destinations:
        chain, _ = book.towards(destination, costs_ms)
        if chain:
            laid[destination] = chain
    return _laid_over(paths, laid, costs_ms) if laid else paths


def _is_clear(stages: Stages) -> bool:
    """True when no node stands in two stages: such a pin would lead through itself."""
    return len(frozenset().union(*stages)) == sum(map(len, stages))


def _chain(
    stages: tuple[frozenset[int], ...],
    destination: int,
    costs_ms: Mapping[Direction, float],
    barred: Collection[Direction],
) -> dict[int, int]:
    """Node → next hop from every node of the first stage that reaches *destination* by all stages."""
    to_go: dict[int, float] = {destination: 0.0}
    hops: list[dict[int, int]] = []
    for stage in reversed(stages):
        nearer: dict[int, float] = {}
        hop_of: dict[int, int] = {}
        for node in sorted(stage):
            choices = [
                (costs_ms[node, hop] + rest, hop)
                for hop, rest in to_go.items()
                if (node, hop) in costs_ms and (node, hop) not in barred
            ]
            if choices:
                nearer[node], hop_of[node] = min(choices)
        to_go = nearer
        hops.append(hop_of)
    chain: dict[int, int] = {}
    reached = set(to_go)
    for hop_of in reversed(hops):
        step = {node: hop_of[node] for node in reached}
        chain |= step
        reached = set(step.values())
    return chain


def _laid_over(
    paths: Paths, laid: Mapping[int, Mapping[int, int]], costs_ms: Mapping[Direction, float]
) -> Paths:
    next_hops: Hops = dict(paths.next_hops)
    costs = dict(paths.costs_ms)
    for destination, chain in laid.items():
        for node, hop in chain.items():
            if next_hops.get(node) is paths.next_hops.get(node):
                next_hops[node] = dict(paths.next_hops.get(node, {}))
            next_hops[node][destination] = hop
    for destination in laid:
        for node in next_hops:
            way = follow(next_hops, node, destination) if node != destination else None
            if way is None:
                continue
            cost = sum(costs_ms[hop] for hop in pairwise(way))
            if costs.get(node) is paths.costs_ms.get(node):
                costs[node] = dict(paths.costs_ms.get(node, {}))
            costs[node][destination] = cost
    return Paths(next_hops, costs)
