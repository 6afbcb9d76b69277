"""Second paths against networkx, and against all pairs of paths of small graphs."""

from __future__ import annotations

import itertools
import random

import networkx as nx
import pytest

from relaymesh.controller.disjoint import Fully, Path, disjoint_pair, make_graph, second_path
from relaymesh.controller.paths import shortest_paths

Costs = dict[tuple[int, int], float]


def both_ways(**links: float) -> Costs:
    costs: Costs = {}
    for name, cost in links.items():
        a, b = map(int, name.lstrip("l").split("_"))
        costs[a, b] = costs[b, a] = cost
    return costs


def random_costs(rng: random.Random, nodes: int, density: float) -> Costs:
    costs: Costs = {}
    for a, b in itertools.combinations(range(nodes), 2):
        if rng.random() < density:
            costs[a, b] = float(rng.randint(1, 20))
            costs[b, a] = float(rng.randint(1, 20))  # no two directions need cost the same
    return costs


def inner(path: Path) -> set[int]:
    return set(path[:-1])


def links(start: int, path: Path) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in itertools.pairwise((start, *path))}


def cost_of(costs: Costs, start: int, path: Path) -> float:
    return sum(costs[pair] for pair in itertools.pairwise((start, *path)))


def least_pair(costs: Costs, start: int, end: int, *, nodes: bool) -> float | None:
    graph = nx.DiGraph(list(costs))
    if start not in graph or end not in graph:
        return None
    paths = [tuple(path[1:]) for path in nx.all_simple_paths(graph, start, end)]
    sums = [
        cost_of(costs, start, a) + cost_of(costs, start, b)
        for a, b in itertools.combinations(paths, 2)
        if not (inner(a) & inner(b) if nodes else links(start, a) & links(start, b))
    ]
    return min(sums, default=None)


@pytest.mark.parametrize("apart", ["nodes", "links"])
@pytest.mark.parametrize("seed", range(60))
def test_a_pair_is_disjoint_and_the_cheapest_there_is(seed: int, apart: Fully) -> None:
    rng = random.Random(seed)
    costs = random_costs(rng, 7, rng.choice((0.3, 0.5)))
    pair = disjoint_pair(make_graph(range(7), costs), 0, 6, apart=apart)
    least = least_pair(costs, 0, 6, nodes=apart == "nodes")
    if pair is None:
        assert least is None
        return
    assert not links(0, pair[0]) & links(0, pair[1])
    assert apart == "links" or not inner(pair[0]) & inner(pair[1])
    assert cost_of(costs, 0, pair[0]) <= cost_of(costs, 0, pair[1])
    assert cost_of(costs, 0, pair[0]) + cost_of(costs, 0, pair[1]) == least


@pytest.mark.parametrize("seed", range(40))
def test_every_pair_of_nodes_gets_the_most_disjoint_ways_there_are(seed: int) -> None:
    rng = random.Random(seed)
    costs = random_costs(rng, 12, rng.choice((0.15, 0.25, 0.4)))
    graph, paths = make_graph(range(12), costs), shortest_paths(range(12), costs)
    for start, end in itertools.permutations(range(12), 2):
        primary = paths.path(start, end)
        if primary is None:
            continue
        second = second_path(graph, primary)
        by_nodes = disjoint_pair(graph, start, end, apart="nodes") is not None
        by_links = disjoint_pair(graph, start, end, apart="links") is not None
        if second is None:
            assert not by_links
            continue
        first = second.first or tuple(primary[1:])
        assert second.path[-1] == first[-1] == end
        assert len(set(second.path)) == len(second.path)
        assert second.path[0] != first[0] or not by_links
        assert (second.apart == "nodes") == by_nodes == (not inner(first) & inner(second.path))
        assert (second.apart != "partly") == by_links == (not links(start, first) & links(start, second.path))


def test_a_trap_is_seen() -> None:
    # The cheapest way 0-1-2-3 takes one link of each of the only two disjoint ways.
    costs = both_ways(l0_1=1, l1_2=1, l2_3=1, l0_2=4, l1_3=4)
    primary = shortest_paths(range(4), costs).path(0, 3)
    assert primary == [0, 1, 2, 3]
    second = second_path(make_graph(range(4), costs), primary)
    assert second is not None
    assert (second.apart, second.first, second.path) == ("nodes", (1, 3), (2, 3))


def test_the_tables_path_stays_the_first_where_it_can() -> None:
    costs = both_ways(l0_1=1, l1_3=1, l0_2=2, l2_3=2)
    second = second_path(make_graph(range(4), costs), [0, 1, 3])
    assert second is not None
    assert (second.apart, second.first, second.path) == ("nodes", None, (2, 3))


def test_one_node_that_all_ways_need_is_shared_and_no_link() -> None:
    # 0 to 5: two ways to 3, two ways on.
    costs = both_ways(l0_1=1, l1_3=1, l0_2=2, l2_3=2, l3_4=1, l4_5=1, l3_5=3)
    second = second_path(make_graph(range(6), costs), [0, 1, 3, 4, 5])
    assert second is not None
    assert (second.apart, second.first, second.path) == ("links", None, (2, 3, 5))


def test_the_last_link_is_shared_where_it_is_the_only_one() -> None:
    costs = both_ways(l0_1=1, l1_3=1, l0_2=2, l2_3=2, l3_4=1)
    second = second_path(make_graph(range(5), costs), [0, 1, 3, 4])
    assert second is not None
    assert (second.apart, second.path) == ("partly", (2, 3, 4))


def test_nothing_goes_twice_over_the_only_first_link() -> None:
    costs = both_ways(l0_1=1, l1_2=1, l2_4=1, l1_3=2, l3_4=2)
    assert second_path(make_graph(range(5), costs), [0, 1, 2, 4]) is None


def test_a_list_of_hops_that_is_too_long_is_none() -> None:
    costs = both_ways(l0_1=1, **{f"l{n}_{n + 1}": 1.0 for n in range(2, 16)}, l0_2=1, l16_1=1)
    assert second_path(make_graph(range(17), costs), [0, 1]) is None
