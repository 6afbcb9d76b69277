"""Plans with detours, in the nodes' own forwarding: neighbours alone repair any single failure.

Each test is for both ways to compute them, that of small meshes and that of big ones.
"""

from __future__ import annotations

import itertools
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.controller.pins import NO_PINS, Pins, Stages
from relaymesh.controller.plan import Plan, snapshot_for
from relaymesh.controller.routing import Routes, Routing
from relaymesh.node.forwarder import Forwarder
from relaymesh.node.publications import PublicationTable
from relaymesh.node.repair import LocalRepair
from relaymesh.node.tables import ForwardingTables
from relaymesh.protocol import frames
from relaymesh.protocol.bitstring import set_of
from relaymesh.protocol.ids import TrackId

WAYS = pytest.mark.parametrize("small", [100, 0], ids=["plain", "compiled"])
Costs = dict[tuple[int, int], float]
TRACK = TrackId(1, 2, 3)


@st.composite
def meshes(draw: st.DrawFn, *, ring: bool) -> Costs:
    """Links of 3 to 9 nodes, each direction with a cost of its own; 2-connected with a *ring*."""
    size = draw(st.integers(3, 9))
    pairs = list(itertools.combinations(range(size), 2))
    chosen = set(draw(st.lists(st.sampled_from(pairs), max_size=2 * size)))
    if ring:
        chosen |= {(min(a, b), max(a, b)) for a in range(size) for b in [(a + 1) % size]}
    cost = st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.floats(0.25, 300.0))
    return {way: draw(cost) for a, b in sorted(chosen) for way in ((a, b), (b, a))}


@st.composite
def pins_in(draw: st.DrawFn, costs: Costs) -> Pins:
    """Up to three pins; half of them along links that are there, up to two nodes at a station."""
    nodes = sorted({node for way in costs for node in way})
    drawn: list[Stages] = []
    for _ in range(draw(st.integers(1, 3))):
        way = [draw(st.sampled_from(nodes))]
        for _ in range(draw(st.integers(1, 3))):
            onward = [b for a, b in sorted(costs) if a == way[-1] and b not in way]
            way.append(draw(st.sampled_from(onward or nodes)))
        drawn.append(
            tuple(frozenset({node, *draw(st.sets(st.sampled_from(nodes), max_size=1))}) for node in way)
        )
    return Pins(tuple(drawn), draw(st.frozensets(st.sampled_from(sorted(costs)), max_size=2)))


def routes_of(nodes: list[int], costs: Costs, small: int, pins: Pins = NO_PINS) -> Routes:
    routing = Routing(small=small)
    routing.begin(nodes, dict(costs), pins=pins)
    for _ in range(1000):
        routes = routing.step()
        if routes is not None:
            return routes
    raise AssertionError("the computation never ends")


class Fabric:
    """Forwarders with the tables and detours of one plan; what is sent to the dead is gone."""

    def __init__(self, costs: Costs, small: int, pins: Pins = NO_PINS, generation: int = 1) -> None:
        self.nodes = sorted({node for way in costs for node in way})
        routes = routes_of(self.nodes, costs, small, pins)
        plan = Plan(generation, routes.tables, routes.detours)
        self.links = set(costs)
        self.queue: list[tuple[int, int, bytes]] = []
        self.tables = {node: ForwardingTables() for node in self.nodes}
        self.repairs = {node: LocalRepair(self.tables[node]) for node in self.nodes}
        self.forwarders: dict[int, Forwarder] = {}
        for node in self.nodes:
            self.tables[node].install_snapshot(snapshot_for(plan, node))
            self.tables[node].activate(generation)
            relay = Port(self, node)
            self.forwarders[node] = Forwarder(
                PublicationTable(),
                self.tables[node],
                self.repairs[node],
                relay,  # type: ignore[arg-type]
            )
            self.forwarders[node].own_index = node

    def fail(self, lost: set[tuple[int, int]]) -> None:
        self.links -= lost
        for one, other in lost:
            self.repairs[one].handle_down(other)

    def send(self, source: int, targets: set[int]) -> Counter[int]:
        """How often each node took one frame from *source* to *targets*."""
        before = {node: f.dropped["unwanted"] for node, f in self.forwarders.items()}
        frame = frames.encode_keyframe_request(
            frames.KeyframeRequest(TRACK, 0, frames.HOP_LIMIT + 1, 1, set_of(targets))
        )
        self.forwarders[source].handle_frame(-1, frame, 0.0)
        for _ in range(10_000):
            if not self.queue:
                break
            sender, receiver, data = self.queue.pop(0)
            self.forwarders[receiver].handle_frame(sender, data, 0.0)
        assert not self.queue, "frames never came to rest"
        # Nobody holds the track: each frame that is taken is counted as unwanted.
        return Counter({n: f.dropped["unwanted"] - before[n] for n, f in self.forwarders.items()})

    def looped(self) -> int:
        return sum(f.dropped["hop_limit"] + f.dropped["reflected"] for f in self.forwarders.values())


class Port:
    """The relay port of one node."""

    def __init__(self, fabric: Fabric, node: int) -> None:
        self._fabric = fabric
        self._node = node

    def send(self, peer: int, frame: bytes, now: float) -> bool:
        if (self._node, peer) in self._fabric.links:
            self._fabric.queue.append((self._node, peer, frame))
        return True


def failures(costs: Costs) -> list[tuple[int | None, set[tuple[int, int]]]]:
    """(the node that is dead, the directed links that are)."""
    single = [(None, {(a, b), (b, a)}) for a, b in costs if a < b]
    nodes = sorted({node for way in costs for node in way})
    return single + [(node, {way for way in costs if node in way}) for node in nodes]


def check_everybody_reachable_is_reached_once(costs: Costs, small: int, pins: Pins = NO_PINS) -> None:
    for dead, lost in failures(costs):
        fabric = Fabric(costs, small, pins)
        fabric.fail(lost)
        graph = nx.DiGraph(list(fabric.links))
        graph.add_nodes_from(fabric.nodes)
        for source in fabric.nodes:
            if source == dead:
                continue
            targets = set(fabric.nodes) - {source}
            reachable = nx.descendants(graph, source)
            assert fabric.send(source, targets) == Counter(dict.fromkeys(reachable, 1)), (dead, lost, source)
        assert fabric.looped() == 0


@WAYS
@settings(max_examples=40, deadline=None)
@given(meshes(ring=True))
def test_single_failures_of_a_2_connected_mesh_are_all_repaired(small: int, costs: Costs) -> None:
    check_everybody_reachable_is_reached_once(costs, small)


@WAYS
@settings(max_examples=40, deadline=None)
@given(meshes(ring=False).filter(bool))
def test_in_any_mesh_what_the_failure_leaves_reachable_is_reached(small: int, costs: Costs) -> None:
    check_everybody_reachable_is_reached_once(costs, small)


@WAYS
@settings(max_examples=40, deadline=None)
@given(meshes(ring=True), st.data())
def test_pinned_ways_are_repaired_like_any(small: int, costs: Costs, data: st.DataObject) -> None:
    check_everybody_reachable_is_reached_once(costs, small, data.draw(pins_in(costs)))


@WAYS
@settings(max_examples=40, deadline=None)
@given(meshes(ring=True), st.data())
def test_a_false_death_costs_nothing(small: int, costs: Costs, data: st.DataObject) -> None:
    """A neighbour stalls and is believed dead by all: every frame still arrives once, those for it too."""
    fabric = Fabric(costs, small)
    stalled = data.draw(st.sampled_from(fabric.nodes))
    alive = set(fabric.links)
    fabric.fail({way for way in costs if way[1] == stalled})
    fabric.links = alive
    for source in fabric.nodes:
        targets = set(fabric.nodes) - {source}
        assert fabric.send(source, targets) == Counter(dict.fromkeys(targets, 1))


@WAYS
@settings(max_examples=25, deadline=None)
@given(meshes(ring=True), st.data())
def test_two_failures_at_once_may_lose_frames_but_never_copy_or_keep_them(
    small: int, costs: Costs, data: st.DataObject
) -> None:
    fabric = Fabric(costs, small)
    for _, lost in data.draw(st.lists(st.sampled_from(failures(costs)), min_size=2, max_size=2)):
        fabric.fail(lost & fabric.links)
    for source in fabric.nodes:
        taken = fabric.send(source, set(fabric.nodes) - {source})
        assert max(taken.values()) <= 1
