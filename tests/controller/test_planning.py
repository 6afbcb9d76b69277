from __future__ import annotations

import random

from relaymesh.controller.plan import Planner
from relaymesh.controller.planning import SEND_EFFORT, Planning
from relaymesh.controller.publish import FULL_EFFORT, Publisher, Told
from relaymesh.controller.routing import Routing
from relaymesh.node.tables import ForwardingTables
from relaymesh.protocol.messages import Activate, Delta, Snapshot
from tests.controller.fake_mesh import FakeMesh

Costs = dict[tuple[int, int], float]
NODES = list(range(40))


def mesh(seed: int = 1) -> Costs:
    rng = random.Random(seed)
    pairs = {(min(a, b), max(a, b)) for a in NODES for b in rng.sample(NODES[:a] + NODES[a + 1 :], 4)}
    return {way: rng.uniform(5, 50) for a, b in sorted(pairs) for way in ((a, b), (b, a))}


class Nodes:
    """Nodes that hold what they are told, and what drives the planning."""

    def __init__(self, together: int = 8) -> None:
        self.publisher = Publisher()
        self.planner = Planner()
        self.connected = set(NODES)
        routing = Routing(small=3, together=together, slice_work=2000)
        self.planning = Planning(self.planner, self.publisher, lambda: sorted(self.connected), routing)
        self.tables = {node: ForwardingTables() for node in NODES}
        self.now = 0.0
        self.slices = 0

    def plan(self, costs: Costs) -> None:
        assert self.planning.idle
        self.take(self.planning.begin(NODES, dict(costs), self.now, renew=False))

    def take(self, told: Told) -> None:
        heavy = [m for _, m in told if isinstance(m, Snapshot) or (isinstance(m, Delta) and m.detours)]
        assert len(heavy) <= SEND_EFFORT // FULL_EFFORT, "one slice says too much"
        for index, message in told:
            tables = self.tables[index]
            if isinstance(message, Activate):
                assert tables.activate(message.generation)
                continue
            if isinstance(message, Snapshot):
                tables.install_snapshot(message)
            else:
                assert tables.install_delta(message)
            self.take(self.publisher.handle_held(index, message.generation))

    def step(self) -> bool:
        if self.planning.next_timeout() is None:
            return False
        self.slices += 1
        self.take(self.planning.handle_timeout(self.now))
        return True

    def run(self) -> None:
        for _ in range(10_000):
            if not self.step():
                return
        raise AssertionError("there is always one more slice")

    def detours(self) -> int:
        return sum(len(t.debug_state()["detours"]) for t in self.tables.values())  # type: ignore[arg-type, misc]


def test_a_big_mesh_is_told_its_tables_then_its_detours_in_slices() -> None:
    nodes = Nodes()
    nodes.plan(mesh())
    for _ in range(1000):
        if nodes.publisher.active is not None or not nodes.step():
            break
    assert nodes.tables[0].active == 1 and nodes.tables[0].next_hop(39) is not None
    assert nodes.detours() == 0
    nodes.run()
    assert nodes.tables[0].active == 2
    assert nodes.detours() > 100
    assert nodes.slices > 10


def test_up_to_a_size_they_go_together() -> None:
    nodes = Nodes(together=40)
    nodes.plan(mesh())
    nodes.run()
    assert nodes.tables[0].active == 1
    assert nodes.detours() > 100


def test_news_go_before_detours_that_are_owed_and_take_them_along() -> None:
    nodes, costs = Nodes(), mesh()
    nodes.plan(costs)
    while nodes.publisher.active is None:
        assert nodes.step()
    assert nodes.planning.idle, "detours are computed, but a plan may begin"
    for _ in range(3):
        nodes.step()
    (one, other), *_ = costs
    del costs[one, other], costs[other, one]
    nodes.plan(costs)
    nodes.run()
    assert nodes.publisher.active is not None
    assert nodes.publisher.active.generation == 3, "tables, newer tables, all detours"
    fresh = Nodes()
    fresh.plan(costs)
    fresh.run()
    for node in NODES:
        mine, theirs = nodes.tables[node].debug_state(), fresh.tables[node].debug_state()
        assert mine["routes"] == theirs["routes"]
    assert nodes.planner.plan is not None and fresh.planner.plan is not None
    assert nodes.planner.plan.detours == fresh.planner.plan.detours


def test_who_leaves_or_comes_while_a_plan_is_sent_does_not_hold_it_up() -> None:
    nodes = Nodes()
    nodes.plan(mesh())
    while not nodes.publisher.sending:
        assert nodes.step()
    nodes.connected -= {38, 39}
    for gone in (38, 39):
        nodes.take(nodes.publisher.handle_leave(gone))
    nodes.connected.add(39)
    nodes.take(nodes.publisher.handle_join(39))
    nodes.run()
    assert nodes.publisher.active is not None and nodes.publisher.active.generation == 2
    assert nodes.tables[39].active == 2 and nodes.tables[38].active == 0


def test_nothing_changed_makes_no_plan() -> None:
    nodes = Nodes()
    nodes.plan(mesh())
    nodes.run()
    nodes.plan(mesh())
    nodes.run()
    assert nodes.tables[5].active == 2


def test_a_core_with_many_nodes_brings_every_packet_the_cheapest_way() -> None:
    fake = FakeMesh(seed=2)
    names = [f"n{number:02}" for number in range(16)]
    for name in names:
        fake.add(name)
    rng = random.Random(4)
    for at, name in enumerate(names):
        fake.wire(name, names[(at + 1) % 16], 10.0)
        fake.wire(name, names[rng.randrange(16)], 60.0)
    fake.run(5.0)
    assert fake.route("n00", "n03") == ["n00", "n01", "n02", "n03"]
    fake.wire("n01", "n02", None)
    fake.run(5.0)
    path = fake.route("n00", "n03")
    assert path is not None and path != ["n00", "n01", "n02", "n03"]
    assert fake.core.counters["snapshot-wanted"] == 0
