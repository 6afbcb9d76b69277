from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.placement import (
    PENDING_S,
    SHORTLIST,
    UNKNOWN_MS,
    Candidate,
    Client,
    PendingJoins,
    Ranked,
    Spot,
    distance_km,
    load_ms,
    rank,
)

FRA, AMS, NYC = Spot(50.1, 8.7), Spot(52.4, 4.9), Spot(40.7, -74.0)


def edge(index: int, spot: Spot | None = FRA, sessions: int = 0, capacity: int = 1000) -> Candidate:
    return Candidate(index, f"n{index}", f"https://n{index}", f"r{index}", spot, sessions, capacity)


def names(
    candidates: list[Candidate], client: Client, mesh: dict[int, float | None] | None = None, pending: int = 0
) -> list[str]:
    found = rank(candidates, client, lambda index: pending, lambda index: (mesh or {}).get(index, 0.0))
    return [one.candidate.name for one in found]


def test_the_nearest_wins_while_all_are_idle() -> None:
    edges = [edge(0, NYC), edge(1, FRA), edge(2, AMS)]
    assert names(edges, Client(Spot(52.0, 5.0))) == ["n2", "n1", "n0"]
    assert names(edges, Client(FRA)) == ["n1", "n2", "n0"]
    assert names(edges, Client(NYC)) == ["n0", "n2", "n1"]
    assert names(edges, Client(None, "r2"))[0] == "n2"


@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=20),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
)
def test_an_idle_mesh_without_a_room_is_ranked_by_distance(
    spots: list[tuple[float, float]], here: tuple[float, float]
) -> None:
    edges = [edge(number, Spot(*spot)) for number, spot in enumerate(spots)]
    found = rank(edges, Client(Spot(*here)), lambda index: 0, lambda index: 0.0)
    distances = [distance_km(Spot(*here), one.candidate.spot or FRA) for one in found]
    assert len(found) == len(edges)
    assert all(a <= b + 1e-6 for a, b in pairwise(distances))


def test_full_and_unreachable_edges_are_left_out() -> None:
    edges = [edge(0, sessions=1000), edge(1, sessions=999), edge(2)]
    assert names(edges, Client(FRA)) == ["n2", "n1"]
    assert names(edges, Client(FRA), {2: None}) == ["n1"]


def test_pending_joins_alone_fill_no_edge() -> None:
    assert load_ms(edge(0, capacity=10), 10**6) is not None
    assert load_ms(edge(0, sessions=10, capacity=10), 0) is None
    assert load_ms(edge(0, capacity=0), 0) == 0.0, "who does not say how much it takes is taken for small"


def test_a_busy_edge_gives_way_to_one_a_little_farther() -> None:
    edges = [edge(0, FRA, sessions=700), edge(1, AMS)]
    assert names(edges, Client(FRA)) == ["n1", "n0"]
    assert names([replace(edges[0], sessions=100), edges[1]], Client(FRA)) == ["n0", "n1"]


def test_the_mesh_behind_an_edge_counts() -> None:
    edges = [edge(0, FRA), edge(1, AMS)]
    assert names(edges, Client(FRA), {0: 40.0, 1: 10.0}) == ["n1", "n0"]
    (first, _) = rank(edges, Client(FRA), lambda index: 0, lambda index: 10.0)
    assert isinstance(first, Ranked) and first.score_ms == first.place_ms + first.load_ms + 10.0


def test_where_the_client_is_need_not_be_known() -> None:
    edges = [edge(0, NYC, sessions=500), edge(1, None)]
    assert names(edges, Client()) == ["n1", "n0"]
    found = rank(edges, Client(NYC), lambda index: 0, lambda index: 0.0)
    assert [one.place_ms for one in found] == [1.0, UNKNOWN_MS]


def test_the_mesh_is_asked_for_the_most_promising_only() -> None:
    asked: list[int] = []

    def mesh(index: int) -> float:
        asked.append(index)
        return 0.0

    rank([edge(number) for number in range(500)], Client(FRA), lambda index: 0, mesh)
    assert len(asked) == SHORTLIST


@pytest.mark.parametrize("capacities", [(1000, 1000, 1000), (2000, 1000, 500), (400, 400, 400)])
def test_a_thousand_clients_at_one_spot_are_spread_by_capacity(capacities: tuple[int, ...]) -> None:
    """Within one second, before any node says a word: nothing but pending joins tells them apart."""
    pending = PendingJoins()
    edges = [edge(number, FRA, capacity=capacity) for number, capacity in enumerate(capacities)]
    sent: Counter[int] = Counter()
    for number in range(1000):
        now = number / 1000
        found = rank(edges, Client(FRA), lambda index, at=now: pending.count(index, at), lambda index: 0.0)  # type: ignore[misc]
        pending.reserve(found[0].candidate.index, now)
        sent[found[0].candidate.index] += 1
    for number, capacity in enumerate(capacities):
        fair = 1000 * capacity / sum(capacities)
        assert abs(sent[number] - fair) <= 0.02 * 1000, sent


def test_no_herd_at_the_nearest_either() -> None:
    """The nearest takes more, and no edge is sent more than it holds while another has room."""
    pending = PendingJoins()
    edges = [edge(0, FRA, capacity=400), edge(1, AMS, capacity=400), edge(2, NYC, capacity=400)]
    sent: Counter[int] = Counter()
    for number in range(1000):
        found = rank(edges, Client(FRA), lambda index: pending.count(index, 0.0), lambda index: 0.0)
        pending.reserve(found[0].candidate.index, 0.0)
        sent[found[0].candidate.index] += 1
        assert number or found[0].candidate.index == 0
    assert sent[0] >= sent[1] >= sent[2] > 100 and max(sent.values()) <= 400


def test_who_arrives_is_no_longer_on_the_way_and_who_does_not_is_forgotten() -> None:
    pending = PendingJoins()
    pending.handle_sessions(0, 5, 0.0)
    for _ in range(10):
        pending.reserve(0, 0.0)
    pending.handle_sessions(0, 9, 1.0)
    assert pending.count(0, 1.0) == 6
    pending.handle_sessions(0, 7, 2.0)  # two left, nobody arrived
    assert pending.count(0, 2.0) == 6
    assert pending.count(0, PENDING_S) == 0


def test_pending_joins_are_bounded_and_forgotten_with_their_node() -> None:
    pending = PendingJoins(max_pending=3)
    for _ in range(10):
        pending.reserve(0, 0.0)
    assert pending.count(0, 0.0) == 3
    pending.forget(0)
    assert pending.count(0, 0.0) == 0 and pending.debug_state() == {"pending": {}}


@given(st.lists(st.tuples(st.sampled_from("rs"), st.integers(0, 50), st.floats(0, 30)), max_size=60))
def test_the_count_is_never_negative_nor_more_than_was_reserved(
    steps: list[tuple[str, int, float]],
) -> None:
    pending, now, reserved = PendingJoins(), 0.0, 0
    for kind, sessions, later in steps:
        now += later
        if kind == "r":
            pending.reserve(0, now)
            reserved += 1
        else:
            pending.handle_sessions(0, sessions, now)
        assert 0 <= pending.count(0, now) <= reserved
