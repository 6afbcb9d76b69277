from __future__ import annotations

import random

import networkx as nx
import pytest

from relaymesh.controller.adjacency import Adjacency
from relaymesh.controller.policy import OpenMesh, Place
from relaymesh.controller.registry import Member
from relaymesh.controller.sparse import FULL_MESH, MAX_DEGREE
from relaymesh.protocol.messages import Address


class World(OpenMesh):
    """Ten regions around the equator."""

    def place(self, region: str) -> Place | None:
        return Place(0.0, 36.0 * int(region))


def member(index: int, region: str = "0") -> Member:
    return Member(index, f"n{index}", region, "boot", Address("10.0.0.1", 1), "", index, 0.0, 0.0)


def mesh(size: int, order: list[int] | None = None) -> Adjacency:
    adjacency = Adjacency(World(), random.Random(1).randbytes, 3600.0)
    for index in order or range(size):
        new = member(index, str(index * 7 % 10))
        adjacency.handle_join(new, fresh=True, moved=False, departed=[], now=0.0)
    return adjacency


def graph(adjacency: Adjacency, size: int) -> nx.Graph:
    found: nx.Graph = nx.Graph()
    found.add_nodes_from(range(size))
    found.add_edges_from((one, other) for one in range(size) for other in adjacency.neighbours(one))
    return found


def test_a_small_mesh_is_full() -> None:
    size = FULL_MESH + 1
    assert graph(mesh(size), size).number_of_edges() == size * (size - 1) // 2


@pytest.mark.parametrize("size", [40, 300])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_big_mesh_is_sparse_two_connected_and_a_few_hops_wide(size: int, seed: int | None) -> None:
    order = list(range(size))
    if seed is not None:
        random.Random(seed).shuffle(order)
    found = graph(mesh(size, order), size)
    degrees = [degree for _, degree in found.degree()]
    assert 8 <= sum(degrees) / size <= 17 and max(degrees) <= MAX_DEGREE
    assert nx.is_biconnected(found)
    assert nx.diameter(found) <= 7
    near = sum(one * 7 % 10 == other * 7 % 10 for one, other in found.edges)
    assert near > (0.15 if size < 100 else 0.2) * found.number_of_edges(), "one in ten by chance"


def test_nobody_loses_a_link_because_somebody_joins_and_who_loses_too_many_gets_new_ones() -> None:
    adjacency = mesh(60)
    before = graph(adjacency, 60)
    adjacency.handle_join(member(60, "3"), fresh=True, moved=False, departed=[], now=1.0)
    after = graph(adjacency, 61)
    assert set(before.edges) <= set(after.edges)
    for index in range(40):
        adjacency.handle_gone(index)
    left = graph(adjacency, 61).subgraph(range(40, 61))
    assert min(degree for _, degree in left.degree()) >= 3
    assert nx.is_biconnected(left)


def test_both_ends_are_told_of_a_new_link_with_the_same_keys() -> None:
    adjacency = mesh(40)
    told = adjacency.handle_join(member(40, "3"), fresh=True, moved=False, departed=[], now=1.0)
    index, own = told[-1]
    assert index == 40
    theirs = {config.peer: other for other, links in told[:-1] for config in links.set}
    assert theirs and {config.peer for config in own.set} == set(adjacency.neighbours(40))
    for other, links in told[:-1]:
        (config,) = links.set
        mine = next(config for config in own.set if config.peer == other)
        assert (config.send_key, config.receive_key) == (mine.receive_key, mine.send_key)


class Listed(World):
    """The operator lists the pairs."""

    def lists_pairs(self) -> bool:
        return True


def test_listed_pairs_are_all_kept() -> None:
    adjacency = Adjacency(Listed(), random.Random(1).randbytes, 3600.0)
    for index in range(30):
        adjacency.handle_join(member(index), fresh=True, moved=False, departed=[], now=0.0)
    assert graph(adjacency, 30).number_of_edges() == 30 * 29 // 2
