from __future__ import annotations

import itertools

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.paths import Paths, follow, shortest_paths
from relaymesh.controller.plan import Plan, Planner, delta_for, snapshot_for
from tests.controller.node_tables import from_snapshot, with_delta

# Few distinct costs, so that ties are common.
costs = st.one_of(st.sampled_from([0.25, 1.0, 2.0, 3.0]), st.floats(0.25, 500.0))
graphs = st.integers(1, 9).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.dictionaries(
            st.sampled_from(list(itertools.permutations(range(size), 2))) if size > 1 else st.nothing(),
            costs,
        ),
    )
)


def square() -> dict[tuple[int, int], float]:
    """0-1-3 and 0-2-3 cost the same; 0-3 directly costs more."""
    links = {(0, 1): 10.0, (1, 3): 10.0, (0, 2): 10.0, (2, 3): 10.0, (0, 3): 25.0}
    return links | {(b, a): cost for (a, b), cost in links.items()}


def test_the_cheapest_way_wins_and_ties_go_to_the_lowest_index() -> None:
    paths = shortest_paths(range(4), square())
    assert paths.path(0, 3) == [0, 1, 3]
    assert paths.cost_ms(0, 3) == pytest.approx(20.0)
    assert paths.path(2, 2) == [2] and paths.cost_ms(2, 2) == 0.0


def test_directions_have_their_own_ways() -> None:
    paths = shortest_paths(range(4), square() | {(3, 0): 1.0})
    assert paths.path(3, 0) == [3, 0] and paths.path(0, 3) == [0, 1, 3]


def test_what_is_not_connected_has_no_path() -> None:
    paths = shortest_paths(range(5), square() | {(0, 9): 1.0, (9, 4): 1.0})
    assert paths.path(0, 4) is None and paths.cost_ms(0, 4) is None
    assert shortest_paths([], {}) == Paths()


def test_following_tables_that_loop_ends() -> None:
    assert follow({0: {2: 1}, 1: {2: 0}}, 0, 2) is None


@given(graphs)
def test_next_hops_reach_every_reachable_destination_at_the_least_cost(
    drawn: tuple[int, dict[tuple[int, int], float]],
) -> None:
    size, links = drawn
    paths = shortest_paths(range(size), links)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(size))
    graph.add_weighted_edges_from((a, b, cost) for (a, b), cost in links.items())
    least = dict(nx.all_pairs_dijkstra_path_length(graph))
    for start, end in itertools.permutations(range(size), 2):
        path = paths.path(start, end)
        if end not in least[start]:
            assert path is None
            continue
        assert path is not None and len(path) == len(set(path))
        walked = sum(links[hop] for hop in itertools.pairwise(path))
        assert walked == pytest.approx(least[start][end], abs=1e-4)
        assert paths.cost_ms(start, end) == pytest.approx(least[start][end], abs=1e-4)


@given(st.lists(graphs, min_size=2, max_size=4))
def test_deltas_applied_to_snapshots_are_the_plan(
    drawn: list[tuple[int, dict[tuple[int, int], float]]],
) -> None:
    planner = Planner()
    before: Plan | None = None
    held: dict[int, dict[int, int]] = {}
    for size, links in drawn:
        plan = planner.replan(shortest_paths(range(size), links).next_hops)
        if plan is None:
            continue
        for index in range(9):
            if before is None:
                held[index] = from_snapshot(snapshot_for(plan, index))
            else:
                delta = delta_for(before, plan, index)
                assert (delta.base, delta.generation) == (before.generation, plan.generation)
                held[index] = with_delta(held[index], delta)
            assert held[index] == plan.table(index)
        before = plan
