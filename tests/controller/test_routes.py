"""The compiled way against the plain one, over histories of changes."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.controller.alternates import AlternateMatrix
from relaymesh.controller.paths import shortest_paths
from relaymesh.controller.pins import NO_PINS, Pins, Stages
from relaymesh.controller.plan import Plan, delta_for, snapshot_for
from relaymesh.controller.ripples import spread
from relaymesh.controller.routes import NO_HOP, RouteMatrix
from relaymesh.controller.routing import Routes, Routing
from relaymesh.node.tables import ForwardingTables
from relaymesh.protocol.bitstring import members
from relaymesh.protocol.messages import decode_controller_message, encode_message

Costs = dict[tuple[int, int], float]
INDEXES = (0, 1, 2, 3, 5, 8, 63, 64, 70)  # with gaps, and over the edge of a matrix that has to grow
# Few distinct costs, so that ties are common.
cost = st.one_of(st.sampled_from([0.25, 1.0, 2.0, 3.0]), st.floats(0.25, 500.0))
link = st.sampled_from(list(itertools.permutations(INDEXES, 2)))
links = st.dictionaries(link, cost, max_size=30)


@st.composite
def histories(draw: st.DrawFn) -> list[Costs]:
    """Costs of all links, again and again, each time with a few changes."""
    costs = draw(links)
    history = [costs]
    for _ in range(draw(st.integers(1, 4))):
        costs = dict(costs)
        for changed, now in draw(st.dictionaries(link, st.none() | cost, min_size=1, max_size=3)).items():
            if now is None:
                costs.pop(changed, None)
            else:
                costs[changed] = now
        history.append(costs)
    return history


def take(
    matrix: RouteMatrix, costs: Costs, alternates: AlternateMatrix | None = None, *, ripple: bool = True
) -> None:
    changes = matrix.differences(costs)
    matrix.take(costs)
    touched = matrix.touched(changes)
    if alternates is not None:
        alternates.handle_changes(changes, touched)
    # Few changes ripple, many are computed as whole trees; so small a slice does one destination at a time.
    whole = changes is None or not ripple
    trees = [matrix.compute(touched)] if whole else spread(matrix, changes, touched, slice_work=1.0)
    for moves in trees:
        if alternates is not None:
            alternates.handle_moves(moves)
    if alternates is not None:
        alternates.compute(alternates.stale())


@settings(max_examples=60, deadline=None)
@given(histories())
def test_next_hops_and_costs_are_those_of_the_plain_way(history: list[Costs]) -> None:
    matrix = RouteMatrix()
    for costs in history:
        take(matrix, costs)
        expected = shortest_paths(INDEXES, costs)
        for node, destination in itertools.permutations(INDEXES, 2):
            inside = max(node, destination) < matrix.size
            hop = int(matrix.hops[destination, node]) if inside else NO_HOP
            to_go = float(matrix.to_go[destination, node]) if inside else np.inf
            assert hop == expected.next_hops[node].get(destination, NO_HOP)
            # To the bit: a history of changes must not matter.
            assert to_go == expected.costs_ms[node].get(destination, np.inf)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_alternates_do_not_depend_on_the_history(history: list[Costs]) -> None:
    matrix = RouteMatrix()
    alternates = AlternateMatrix(matrix)
    for costs in history:
        take(matrix, costs, alternates)
        fresh = RouteMatrix()
        others = AlternateMatrix(fresh)
        take(fresh, costs, others)
        kept, new = alternates.frozen(), others.frozen()
        size = fresh.size
        assert np.array_equal(kept.ways[:size, :size], new.ways)
        assert (kept.ways[size:] < 0).all()
        assert kept.paths == new.paths


def test_only_trees_that_a_change_can_touch_are_computed_again() -> None:
    ring = {way: 1.0 for a in range(20) for way in ((a, (a + 1) % 20), ((a + 1) % 20, a))}
    chord = ring | {(0, 5): 50.0}
    matrix = RouteMatrix()
    take(matrix, chord)
    assert list(matrix.touched(matrix.differences(chord | {(0, 5): 40.0}))) == []
    shorter = chord | {(0, 5): 3.5}
    changes = matrix.differences(shorter)
    matrix.take(shorter)
    # By the ring 0 is 5, 6, 7, 8, 9, 10 hops from these; by the chord less.
    assert matrix.touched(changes).tolist() == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("slice_work", [1.0, 5e3, 1e9])
@pytest.mark.parametrize("seed", range(4))
def test_ripples_leave_what_whole_trees_would(seed: int, slice_work: float) -> None:
    rng, nodes = random.Random(seed), 80
    ways = [(a, b) for a in range(nodes) for b in rng.sample(range(nodes), 5) if a != b]
    # Half of all costs are small whole numbers: many equal ways.
    costs: Costs = {way: rng.choice([rng.uniform(1, 30), float(rng.randrange(1, 6))]) for way in ways}
    matrix, whole = RouteMatrix(), RouteMatrix()
    take(matrix, costs)
    for _ in range(25):
        costs = dict(costs)
        for way in rng.sample(ways, rng.randrange(1, 12)):
            if rng.random() < 0.4:
                costs.pop(way, None)
            else:
                costs[way] = rng.choice([rng.uniform(1, 30), float(rng.randrange(1, 6)), 1e4])
        if rng.random() < 0.3:  # a node dies, or all that it sends goes a longer way
            node, dies = rng.randrange(nodes), rng.random() < 0.7
            for way in [way for way in costs if way[0] == node or (dies and way[1] == node)]:
                costs[way] += 50.0
                if dies:
                    del costs[way]
        changes = matrix.differences(costs)
        assert changes is not None
        matrix.take(costs)
        to_go, hops = matrix.to_go.copy(), matrix.hops.copy()
        seen: list[int] = []
        for moves in spread(matrix, changes, matrix.touched(changes), slice_work):
            rows = moves.destinations
            seen += rows.tolist()
            assert np.array_equal(moves.farther, matrix.to_go[rows] != to_go[rows])
            assert np.array_equal(moves.rerouted, matrix.hops[rows] != hops[rows])
        assert len(seen) == len(set(seen))
        take(whole, costs, ripple=False)
        assert np.array_equal(matrix.to_go, whole.to_go) and np.array_equal(matrix.hops, whole.hops)


def random_pins(nodes: int, ways: list[tuple[int, int]], rng: random.Random) -> Pins:
    stages: list[Stages] = []
    for _ in range(rng.randrange(4)):
        station = rng.randrange(nodes)
        stages.append((frozenset({station}),))
        for _ in range(rng.randrange(1, 4)):
            onward = [b for a, b in ways if a in stages[-1][-1]]
            stages[-1] += (frozenset(rng.sample(onward, min(len(onward), rng.randrange(1, 3)))),)
    return Pins(tuple(stages), frozenset(rng.sample(ways, 5)))


@pytest.mark.parametrize("seed", range(6))
def test_pins_give_a_big_mesh_the_hops_they_give_a_small_one(seed: int) -> None:
    rng, nodes = random.Random(seed), list(range(40))
    ways = [(a, b) for a in nodes for b in rng.sample(nodes, 5) if a != b]
    costs = {way: rng.uniform(1, 30) for way in ways}
    small, big = Routing(small=100), Routing(small=0, together=rng.choice([0, 100]))
    for _ in range(15):
        costs = dict(costs)
        changed = rng.sample(ways, rng.choice([0, 1, 3, 80]))
        for way in changed:
            costs[way] = rng.uniform(1, 30)
            if rng.random() < 0.3:
                del costs[way]
        pins = random_pins(40, ways, rng)
        expected = compute(small, nodes, costs, pins=pins)[-1].tables
        found = compute(big, nodes, costs, changed=changed, pins=pins)[-1]
        assert {node: dict(table) for node, table in found.tables.items()} == {
            node: table for node, table in expected.items() if table
        }
        # Detours are those of a mesh that never had other pins or costs.
        fresh = compute(Routing(small=0, together=100), nodes, costs, pins=pins)[-1]
        assert found.detours == fresh.detours and found.tables == fresh.tables


def test_a_pin_that_nothing_followed_is_gone_when_it_is_taken_back() -> None:
    """Its link was down all the while, and comes up only afterwards."""
    ring = {way: 1.0 for a in range(20) for way in ((a, (a + 1) % 20), ((a + 1) % 20, a))}
    pins = Pins(((frozenset({0}), frozenset({10})),))
    routing, nodes = Routing(small=0), list(range(20))
    compute(routing, nodes, ring, pins=pins)
    compute(routing, nodes, ring)
    dear = ring | {(0, 10): 500.0}
    assert compute(routing, nodes, dear, changed=[(0, 10)])[-1].tables[0][10] != 10
    assert compute(routing, nodes, dear, changed=[], pins=pins)[-1].tables[0][10] == 10
    assert compute(routing, nodes, dear, changed=[])[-1].tables[0][10] != 10


def compute(
    routing: Routing,
    nodes: list[int],
    costs: Costs,
    *,
    changed: list[tuple[int, int]] | None = None,
    pins: Pins = NO_PINS,
) -> list[Routes]:
    """All that comes of one change: tables, and the detours where they come later."""
    found: list[Routes] = []
    routing.begin(nodes, dict(costs), changed=changed, pins=pins)
    for _ in range(10_000):
        routes = routing.step()
        if routes is None:
            continue
        found.append(routes)
        if not routing.owes_detours:
            return found
        routing.begin_detours()
    raise AssertionError("the computation never ends")


def ways_by_destination(tables: ForwardingTables, generation: int) -> dict[tuple[int, int], tuple[int, ...]]:
    return {
        (failed, destination): path
        for failed in INDEXES
        for path, mask in tables.detours(failed, generation)
        for destination in members(mask)
    }


@pytest.mark.parametrize("few", [0, 48], ids=["in arrays", "one by one"])
@settings(max_examples=40, deadline=None)
@given(history=histories(), together=st.sampled_from([0, 100]))
def test_a_node_that_is_told_deltas_holds_what_a_snapshot_says(
    few: int, history: list[Costs], together: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relaymesh.controller.tables._FEW", few)
        check_deltas(history, together)


def check_deltas(history: list[Costs], together: int) -> None:
    routing = Routing(small=0, together=together)
    held = {node: ForwardingTables() for node in INDEXES}
    base: Plan | None = None
    generation = 0
    for costs in history:
        for routes in compute(routing, list(INDEXES), costs):
            generation += 1
            plan = Plan(generation, routes.tables, routes.detours)
            for node in INDEXES:
                whole = ForwardingTables()
                whole.install_snapshot(snapshot_for(plan, node))
                if base is None:
                    held[node].install_snapshot(snapshot_for(plan, node))
                else:
                    delta = decode_controller_message(encode_message(delta_for(base, plan, node)))
                    assert held[node].install_delta(delta)  # type: ignore[arg-type]
                for tables in (held[node], whole):
                    assert tables.activate(generation)
                assert {r.next_hop: r.destinations for r in held[node].routes()} == {
                    r.next_hop: r.destinations for r in whole.routes()
                }
                mine, theirs = (
                    ways_by_destination(held[node], generation),
                    ways_by_destination(whole, generation),
                )
                assert mine == theirs
                # What the mappings say is what is told.
                assert plan.tables.get(node, {}) == plan.table(node)
                assert theirs == {
                    (failed, destination): path
                    for failed, ways in plan.detours.get(node, {}).items()
                    for path, destinations in ways.items()
                    for destination in destinations
                }
            base = plan


def test_big_meshes_get_tables_first_and_keep_the_detours_that_hold() -> None:
    rng = random.Random(5)
    pairs = {
        (min(a, b), max(a, b)) for a in range(64) for b in rng.sample([n for n in range(64) if n != a], 8)
    }
    mesh = {way: rng.uniform(10, 30) for a, b in sorted(pairs) for way in ((a, b), (b, a))}
    cut = min(pairs)
    routing = Routing(small=0, together=10)
    first, second = compute(routing, list(range(64)), mesh)
    assert not first.complete and second.complete
    assert first.tables == second.tables and not list(first.detours[0])
    del mesh[cut], mesh[cut[::-1]]
    tables, after = compute(routing, list(range(64)), mesh)
    lacking = sum(tables.detours[node] != after.detours[node] for node in range(64))
    assert lacking
    kept, whole = (
        sum(len(d) for node in range(64) for ways in routes.detours[node].values() for d in ways.values())
        for routes in (tables, after)
    )
    assert 0.9 * whole < kept < whole, "most detours hold"
    assert tables.tables == after.tables
    again = compute(routing, list(range(64)), mesh)
    assert [routes.complete for routes in again] == [True]
    assert again[0].tables == after.tables and again[0].detours == after.detours
