"""Who is given up: one that died, never a third of all at once."""

from __future__ import annotations

from relaymesh.controller.presence import Patience

PATIENCE = Patience(10.0, 300.0)


def given_up(dead: dict[int, float], members: int, now: float) -> list[int]:
    return PATIENCE.given_up({index: dead.get(index) for index in range(members)}, now)


def test_one_death_is_one_death_in_a_mesh_of_any_size() -> None:
    for members in (1, 2, 3, 100):
        assert given_up({0: 100.0}, members, 109.9) == []
        assert given_up({0: 100.0}, members, 110.0) == [0]


def test_many_at_once_are_waited_for_as_for_an_outage() -> None:
    dead = {index: 100.0 + index * 0.2 for index in range(4)}
    assert given_up(dead, 10, 200.0) == []
    assert given_up(dead, 10, 399.9) == []
    assert given_up(dead, 10, 401.0) == [0, 1, 2, 3]
    assert given_up(dead, 14, 111.0) == [0, 1, 2, 3], "less than a third is no mass"


def test_when_most_are_back_the_rest_is_given_up() -> None:
    assert given_up({3: 100.0, 7: 100.5}, 10, 130.0) == [3, 7]


def test_deaths_far_apart_are_no_mass() -> None:
    dead = {index: 100.0 + index * 60 for index in range(4)}
    assert given_up(dead, 10, 300.0) == [0, 1, 2, 3]


def test_a_host_that_dies_with_all_its_workers_is_one_death() -> None:
    dead_since = {index: 100.0 if index < 4 else None for index in range(8)}
    assert PATIENCE.given_up(dead_since, 111.0) == []
    assert PATIENCE.given_up(dead_since, 111.0, lambda index: index // 4) == [0, 1, 2, 3]
    three_of_six = {index: 100.0 if index < 12 else None for index in range(24)}
    assert PATIENCE.given_up(three_of_six, 111.0, lambda index: index // 4) == []
