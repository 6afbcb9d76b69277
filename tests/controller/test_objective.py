from __future__ import annotations

from itertools import pairwise

from relaymesh.controller.objective import Pricing
from relaymesh.controller.paths import shortest_paths
from relaymesh.topology import Objective

# Two nodes in each of three regions. Everything across a border costs 0.09 per GB, but for b→c: 0.02.
REGION = {0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 5: "c"}


def costs() -> dict[tuple[int, int], float]:
    """Across a border 30 ms and a little more for each node; inside a region 1 ms."""
    return {
        (one, other): 1.0 if REGION[one] == REGION[other] else 30.0 + other / 10 + one / 100
        for one in REGION
        for other in REGION
        if one != other
    }


def price(direction: tuple[int, int]) -> float:
    ends = {REGION[end] for end in direction}
    return 0.0 if len(ends) == 1 else 0.02 if ends == {"b", "c"} else 0.03 if ends == {"a", "b"} else 0.09


def paths(objective: Objective) -> list[list[int] | None]:
    pricing = Pricing(lambda: objective, price, lambda node: REGION[node])
    found = shortest_paths(REGION, pricing.weigh(costs()))
    return [found.path(0, end) for end in REGION]


def test_by_latency_money_does_not_count() -> None:
    assert paths("latency") == [[0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]
    assert Pricing(lambda: "latency", price, lambda node: "").price_ms((0, 4)) == 0.0


def test_by_cost_the_cheapest_way_is_taken_and_each_border_is_crossed_once() -> None:
    found = paths("cost")
    # a→b→c costs 0.05 per GB, a→c 0.09.
    assert [found[4], found[5]] == [[0, 2, 4], [0, 2, 4, 5]]
    assert [found[2], found[3]] == [[0, 2], [0, 2, 3]]
    links = {hop for path in found if path for hop in pairwise(path)}
    crossed = [(REGION[one], REGION[other]) for one, other in links if REGION[one] != REGION[other]]
    assert len(crossed) == len(set(crossed)), "a region is sent to once"


def test_balanced_pays_for_what_is_quicker_by_enough() -> None:
    assert paths("balanced") == [[0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]
    pricing = Pricing(lambda: "balanced", price, lambda node: REGION[node])
    assert pricing.price_ms((0, 4)) == 9.0
    assert pricing.door_ms((0, 5)) == 0.0
