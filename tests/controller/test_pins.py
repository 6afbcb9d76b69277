from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.paths import follow, shortest_paths
from relaymesh.controller.pins import Pins, Stages, apply_pins, followed

# 0 – 1 – 3 costs 2, 0 – 2 – 3 costs 10.
SQUARE = {pair: 1.0 for a, b in ((0, 1), (1, 3)) for pair in ((a, b), (b, a))} | {
    pair: 5.0 for a, b in ((0, 2), (2, 3)) for pair in ((a, b), (b, a))
}


def stages(*stations: int | tuple[int, ...]) -> Stages:
    return tuple(frozenset((one,) if isinstance(one, int) else one) for one in stations)


def test_a_pin_is_followed_in_its_direction_whatever_it_costs() -> None:
    pins = Pins((stages(0, 2, 3),))
    assert followed(pins, SQUARE) == {0}
    pinned = apply_pins(shortest_paths(range(4), SQUARE), SQUARE, pins)
    assert pinned.path(0, 3) == [0, 2, 3] and pinned.cost_ms(0, 3) == 10.0
    assert pinned.path(3, 0) == [3, 1, 0] and pinned.path(0, 2) == [0, 2]


def test_without_one_of_its_links_a_pin_changes_nothing() -> None:
    costs = {pair: cost for pair, cost in SQUARE.items() if pair != (2, 3)}
    computed = shortest_paths(range(4), costs)
    pins = Pins((stages(0, 2, 3),))
    assert apply_pins(computed, costs, pins) is computed and not followed(pins, costs)


def test_a_link_on_probation_counts_as_down() -> None:
    pins = Pins((stages(0, 2, 3),), frozenset({(2, 3)}))
    computed = shortest_paths(range(4), SQUARE)
    assert apply_pins(computed, SQUARE, pins) is computed and not followed(pins, SQUARE)


def test_the_computed_paths_are_not_changed() -> None:
    computed = shortest_paths(range(4), SQUARE)
    before = {node: dict(table) for node, table in computed.next_hops.items()}
    apply_pins(computed, SQUARE, Pins((stages(0, 2, 3),)))
    assert computed.next_hops == before


def test_of_a_region_the_cheapest_chain_is_taken_and_the_first_pin_wins() -> None:
    costs = SQUARE | {(0, 4): 1.0, (4, 3): 2.0}
    computed = shortest_paths(range(5), costs)
    assert apply_pins(computed, costs, Pins((stages(0, (2, 4), 3),))).path(0, 3) == [0, 4, 3]
    both = Pins((stages(0, 2, 3), stages(0, 4, 3)))
    assert apply_pins(computed, costs, both).path(0, 3) == [0, 2, 3] and followed(both, costs) == {0}


def test_a_pin_through_itself_or_through_nobody_is_left_out() -> None:
    computed = shortest_paths(range(4), SQUARE)
    for pin in (stages((0, 2), 2, 3), stages(0, (), 3), stages(0, 2, ())):
        pins = Pins((pin,))
        assert apply_pins(computed, SQUARE, pins) is computed and not followed(pins, SQUARE)


def test_whom_the_pin_passes_and_who_goes_by_it_have_costs_that_are_true() -> None:
    costs = SQUARE | {(4, 0): 1.0, (4, 2): 9.0}
    pinned = apply_pins(shortest_paths(range(5), costs), costs, Pins((stages(0, 2, 3),)))
    assert pinned.path(4, 3) == [4, 0, 2, 3] and pinned.cost_ms(4, 3) == 11.0


@given(st.integers(0, 10_000))
def test_no_pins_make_a_loop_or_cut_anybody_off(seed: int) -> None:
    rng = random.Random(seed)
    nodes = range(rng.randint(3, 8))
    costs = {(a, b): rng.uniform(0.25, 50) for a in nodes for b in nodes if a != b and rng.random() < 0.6}
    pins = [
        tuple(frozenset(rng.sample(nodes, rng.randint(1, 2))) for _ in range(rng.randint(2, 4)))
        for _ in range(rng.randint(1, 8))
    ]
    computed = shortest_paths(nodes, costs)
    pinned = apply_pins(computed, costs, Pins(tuple(pins)))
    for start in nodes:
        for end in nodes:
            path = follow(pinned.next_hops, start, end)
            assert (path is None) == (computed.path(start, end) is None)
            assert path is None or all(hop in costs for hop in pairwise(path))
