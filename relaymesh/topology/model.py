"""A mesh as its operator wants it: regions, nodes, which pairs may peer, what their links should be like.

What is expected here is not what is measured: the controller routes by
measurements and takes from this only who may peer and the operator's biases;
the emulated network takes delays, jitter and loss. All values are checked
before a :class:`Topology` exists; it never changes afterwards, so one can be
compared with the next.

Milliseconds are one-way unless a name says otherwise. This module knows no files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Literal

import networkx as nx

from relaymesh.topology.problems import Problem

Peering = Literal["private", "public", "never"]
Role = Literal["edge", "relay"]
Objective = Literal["latency", "balanced", "cost"]  # what routes are to be best at

# Between two nodes of one region, where the file lists no link for them:
# about what one data centre's network takes.
LOCAL_DELAY_MS = 0.25

# A link that loses everything would cost infinitely much; sums of costs stay finite with this.
MAX_LOSS_COUNTED = 0.99


@dataclass(frozen=True, slots=True)
class Region:
    """A place with nodes."""

    name: str
    title: str  # what people call it; its name where the file gives no title
    latitude: float | None = None  # degrees, north positive; given together with longitude
    longitude: float | None = None  # degrees, east positive
    country: str | None = None  # ISO 3166-1 alpha-2


@dataclass(frozen=True, slots=True)
class Node:
    """A node the file knows by name."""

    name: str
    region: str
    roles: frozenset[Role] = frozenset({"edge", "relay"})


@dataclass(frozen=True, slots=True)
class Direction:
    """Expected properties of one direction of a pair."""

    delay_ms: float  # of a packet that waits in no queue
    jitter_ms: float = 0.0  # 90th percentile of the delay minus its median
    loss: float = 0.0  # fraction of packets
    capacity_mbps: float | None = None  # None: not limited
    extra_cost_ms: float = 0.0  # the operator's bias, added to the routing cost only
    price_per_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One entry of ``links``: two regions or two nodes, with the defaults filled in."""

    ends: tuple[str, str]
    peering: Peering
    forward: Direction  # from ends[0] to ends[1]
    backward: Direction


@dataclass(frozen=True, slots=True)
class Pin:
    """The operator's word on one way: from *source* by *via* to *target*, while all its links are up."""

    source: str
    target: str
    via: tuple[str, ...]  # in order; empty: the direct link

    @property
    def stations(self) -> tuple[str, ...]:
        """All regions or nodes on the way, both ends included."""
        return (self.source, *self.via, self.target)


@dataclass(frozen=True, slots=True)
class Link:
    """The way from one region or node to another: a directed view of what the file says."""

    source: str
    target: str
    peering: Peering
    listed: bool  # False: the file does not name this pair, what stands here are defaults
    delay_ms: float
    rtt_ms: float  # this direction's delay plus the other's
    jitter_ms: float
    loss: float
    capacity_mbps: float | None
    extra_cost_ms: float
    price_per_gb: float

    @property
    def cost_ms(self) -> float:
        """Expected delivery time plus the operator's bias, milliseconds.

        Delay, a margin for jitter, and the wait for repair: a lost packet comes a
        round trip later, and 1 / (1 − loss) sendings are needed on average.
        """
        loss = min(self.loss, MAX_LOSS_COUNTED)
        return self.delay_ms + self.jitter_ms + self.rtt_ms * loss / (1.0 - loss) + self.extra_cost_ms


@dataclass(frozen=True)
class Topology:
    """One topology file, understood. Methods that take a name raise ``KeyError`` for an unknown one."""

    name: str
    description: str
    regions: tuple[Region, ...]
    nodes: tuple[Node, ...]
    pairs: tuple[Pair, ...]
    default_peering: Peering  # of two regions the file does not list: "never" where only listed pairs peer
    default_direction: Direction  # of such a pair
    pins: tuple[Pin, ...] = ()
    objective: Objective | None = None  # None: as the controller is set
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    @cached_property
    def _regions(self) -> dict[str, Region]:
        return {region.name: region for region in self.regions}

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], Pair]:
        pairs = {pair.ends: pair for pair in self.pairs}
        pairs.update({(pair.ends[1], pair.ends[0]): pair for pair in self.pairs})
        return pairs

    def region(self, name: str) -> Region:
        """The region called *name*."""
        return self._regions[name]

    def node(self, name: str) -> Node:
        """The node called *name*."""
        return self._nodes[name]

    def node_list(self) -> tuple[Node, ...]:
        """All nodes the file knows, in its order; one for each region where it lists none."""
        return self.nodes

    def may_peer(self, a: str, b: str) -> bool:
        """Check that two regions (or two nodes) may be neighbours. Nodes of one region always may,
        unless the file lists that pair of nodes as ``never``."""
        return self._between(a, b)[0] != "never"

    def link(self, a: str, b: str) -> Link | None:
        """The way from *a* to *b*, regions or nodes; ``None`` where they may not peer.

        What the file says of two nodes goes before what it says of their regions.
        """
        peering, there, back, listed = self._between(a, b)
        if peering == "never":
            return None
        return Link(
            source=a,
            target=b,
            peering=peering,
            listed=listed,
            delay_ms=there.delay_ms,
            rtt_ms=there.delay_ms + back.delay_ms,
            jitter_ms=there.jitter_ms,
            loss=there.loss,
            capacity_mbps=there.capacity_mbps,
            extra_cost_ms=there.extra_cost_ms,
            price_per_gb=there.price_per_gb,
        )

    def graph(self) -> nx.DiGraph[str]:
        """All nodes and the directed links they may have, a new graph with each call.

        Vertices carry ``node`` (:class:`Node`) and ``region`` (its name); edges carry
        ``link`` (:class:`Link`) and ``cost_ms``, the weight.
        """
        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        for node in self.nodes:
            graph.add_node(node.name, node=node, region=node.region)
        for a, b in combinations(graph, 2):
            for source, target in ((a, b), (b, a)):
                link = self.link(source, target)
                if link is not None:
                    graph.add_edge(source, target, link=link, cost_ms=link.cost_ms)
        return graph

    def components(self) -> list[set[str]]:
        """The regions in groups that can reach each other; one group is what one wants."""
        allowed: dict[str, set[str]] = {name: set() for name in self._regions}
        forbidden: dict[str, set[str]] = {name: set() for name in self._regions}
        for pair in self.pairs:
            a, b = (self._region_of(end) for end in pair.ends)
            if pair.peering != "never":
                allowed[a].add(b)
                allowed[b].add(a)
            elif pair.ends == (a, b):  # two of many nodes say nothing about their regions
                forbidden[a].add(b)
                forbidden[b].add(a)
        groups: list[set[str]] = []
        waiting = dict.fromkeys(self._regions)  # ordered, so that groups come in the file's order
        while waiting:
            group, frontier = set[str](), [next(iter(waiting))]
            while frontier:
                here = frontier.pop()
                group.add(here)
                waiting.pop(here, None)
                near = allowed[here] & waiting.keys()
                if self.default_peering != "never":
                    near |= waiting.keys() - forbidden[here]
                for name in near:
                    del waiting[name]
                frontier.extend(near)
            groups.append(group)
        return groups

    def _region_of(self, name: str) -> str:
        return name if name in self._regions else self._nodes[name].region

    def _between(self, a: str, b: str) -> tuple[Peering, Direction, Direction, bool]:
        """Peering, the directions a → b and b → a, and whether the file says so itself."""
        regions = self._region_of(a), self._region_of(b)
        pair = self._pairs.get((a, b)) or self._pairs.get(regions)
        if pair is not None:
            forward = pair.ends in ((a, b), regions)
            there, back = (pair.forward, pair.backward) if forward else (pair.backward, pair.forward)
            return pair.peering, there, back, True
        if regions[0] == regions[1]:
            local = Direction(LOCAL_DELAY_MS)
            return "private", local, local, False
        return self.default_peering, self.default_direction, self.default_direction, False
