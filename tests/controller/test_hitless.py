"""Which ingress is told what, when, and how much is found at once."""

from __future__ import annotations

import random

import pytest

from relaymesh.controller.disjoint import disjoint_pair, make_graph
from relaymesh.controller.hitless import DEBOUNCE_S, HitlessPaths, Told
from relaymesh.controller.paths import follow, shortest_paths
from relaymesh.controller.plan import Plan
from relaymesh.protocol.bitstring import decode_set, encode_set, members, set_of
from relaymesh.protocol.messages import (
    HitlessWays,
    ParticipantName,
    PublicationInfo,
    Publish,
    Subscribe,
    TrackInfo,
    Way,
)
from tests.controller.fake_mesh import FakeMesh
from tests.controller.test_disjoint import Costs, both_ways, links, random_costs

# 0 to 3 by 1; beside that by 2 and 4; 5 hangs on 3 alone.
MESH = both_ways(l0_1=1, l1_3=1, l0_2=2, l2_4=4, l4_3=1, l3_5=1, l2_3=9)


def edges(*indexes: int) -> bytes:
    return encode_set(set_of(indexes))


def plan_of(costs: Costs, generation: int = 1) -> Plan:
    return Plan(generation, shortest_paths(sorted({n for way in costs for n in way}), costs).next_hops)


def paths_for(wanted: dict[int, int], costs: Costs = MESH, **limits: int) -> HitlessPaths:
    hitless = HitlessPaths(lambda ingress: wanted.get(ingress, 0), **limits)
    hitless.handle_plan(plan_of(costs), costs, 0.0)
    hitless.handle_changed(wanted, 0.0)
    return hitless


def run(hitless: HitlessPaths, now: float) -> Told:
    told: Told = []
    for _ in range(1000):
        due = hitless.next_timeout()
        if due is None or due > now:
            return told
        told += hitless.handle_timeout(max(due, 0.0))
    raise AssertionError("never done")


def test_an_ingress_is_told_the_ways_of_the_edges_that_want_its_marked_tracks() -> None:
    hitless = paths_for({0: set_of([3, 5])})
    assert hitless.handle_timeout(0.0) == []
    [(ingress, ways)] = run(hitless, DEBOUNCE_S)
    assert ingress == 0
    # The tables of 2 lead back by 0, those of 4 keep apart from 0-1-3. 5 shares its only link.
    assert ways == HitlessWays(1, (Way((2, 4), edges(3)), Way((2, 4, 3, 5), edges(5))))
    assert hitless.next_timeout() is None


def test_a_plan_tells_all_again_and_what_did_not_change_is_not_repeated() -> None:
    wanted = {0: set_of([3])}
    hitless = paths_for(wanted)
    assert len(run(hitless, 1.0)) == 1
    hitless.handle_changed([0], 1.0)
    assert run(hitless, 2.0) == []
    hitless.handle_plan(plan_of(MESH, 2), MESH, 3.0)
    [(_, ways)] = run(hitless, 3.0)
    assert ways.generation == 2
    hitless.handle_join(0, 4.0)
    assert run(hitless, 5.0) == [(0, ways)], "it may have lost it"
    wanted[0] = 0
    hitless.handle_changed([0], 6.0)
    assert run(hitless, 7.0) == [(0, HitlessWays(2))]
    hitless.handle_plan(plan_of(MESH, 3), MESH, 8.0)
    assert run(hitless, 9.0) == []


def test_a_trap_sends_the_first_copies_by_a_path_too() -> None:
    costs = both_ways(l0_1=1, l1_2=1, l2_3=1, l0_2=4, l1_3=4)
    [(_, ways)] = run(paths_for({0: set_of([3])}, costs), 1.0)
    assert ways == HitlessWays(1, (Way((2, 3), edges(3)),), (Way((1, 3), edges(3)),))


@pytest.mark.parametrize("seed", range(30))
def test_the_copies_of_every_pair_keep_apart_all_the_way(seed: int) -> None:
    """Also behind the point where a second copy is given to the tables."""
    rng = random.Random(seed)
    costs = random_costs(rng, 10, rng.choice((0.2, 0.35)))
    plan = plan_of(costs)
    wanted = {node: set_of(plan.table(node)) for node in plan.tables}
    graph = make_graph(range(10), costs)
    for ingress, told in run(paths_for(wanted, costs), 1.0):
        second, first = by_destination(told.second), by_destination(told.first)
        for edge in plan.table(ingress):
            one = first[edge] if edge in first else (follow(plan.tables, ingress, edge) or [])[1:]
            if edge not in second:
                assert disjoint_pair(graph, ingress, edge, apart="links") is None
                continue
            onward = follow(plan.tables, second[edge][-1], edge)
            assert onward is not None
            other = (*second[edge], *onward[1:])
            if disjoint_pair(graph, ingress, edge, apart="nodes") is not None:
                assert not {ingress, *one[:-1]} & set(other[:-1])
            elif disjoint_pair(graph, ingress, edge, apart="links") is not None:
                assert not links(ingress, tuple(one)) & links(ingress, other)
            assert one[0] != other[0]


def by_destination(ways: tuple[Way, ...]) -> dict[int, tuple[int, ...]]:
    return {edge: way.path for way in ways for edge in members(decode_set(way.destinations))}


def test_an_ingress_with_one_link_is_told_nothing() -> None:
    assert run(paths_for({5: set_of([0, 1])}), 1.0) == []


def test_much_work_is_done_in_turns_and_too_much_is_left_out() -> None:
    wanted = {ingress: set_of(set(range(5)) - {ingress}) for ingress in range(5)}
    hitless = paths_for(wanted, links_per_turn=1)
    turns = 0
    told: Told = []
    while (due := hitless.next_timeout()) is not None:
        told += hitless.handle_timeout(due)
        turns += 1
    assert turns >= 20 and len(told) == 5
    few = paths_for(wanted, max_pairs=7)
    run(few, 1.0)
    assert sum(few.debug_state()["pairs"].values()) == 7  # type: ignore[attr-defined]
    assert few.counters["beyond-max-pairs"] == 13


def test_the_controller_tells_the_ingress_before_it_activates_a_plan() -> None:
    mesh = FakeMesh()
    for name in "abcd":
        mesh.add(name)
    for one, other in ("ab", "bd", "ac", "cd"):
        mesh.wire(one, other, 10.0 if "b" in (one, other) else 20.0)
    mesh.run(3.0)
    info = PublicationInfo("r", "alice", (TrackInfo(1, "audio", "opus", 48_000, 2, hitless=True),))
    a, b, c, d = (mesh.nodes[name] for name in "abcd")
    mesh.tell("a", Publish(1, info))
    mesh.tell("d", Subscribe(1, ParticipantName("r", "alice")))
    mesh.run(1.0)
    [ways] = a.said(HitlessWays)
    assert isinstance(ways, HitlessWays) and c.index is not None and d.index is not None
    assert ways == HitlessWays(a.active, (Way((c.index,), edges(d.index)),))
    mesh.wire("a", "b", None)
    mesh.wire("a", "d", 30.0)
    mesh.run(3.0)
    last = a.said(HitlessWays)[-1]
    assert isinstance(last, HitlessWays) and last.generation == a.active > ways.generation
    kinds = [m for m in a.heard if getattr(m, "generation", 0) == last.generation]
    assert [type(m).__name__ for m in kinds] == ["Delta", "HitlessWays", "Activate"]
    assert b.said(HitlessWays) == d.said(HitlessWays) == []
