"""The objective: what a plan is to be best at. Delivery time, the price of egress, or both.

In: costs in milliseconds, the operator's prices, and which region a node is in.
Out: costs in which money has its weight. ``latency``: none. ``balanced``: ten
cents per gigabyte weigh as 10 ms. ``cost``: as 5 s, more than any detour, so
that of ways of one price the quickest is taken; and a node sends to each other region
by one link only where the nodes there can pass it on, so that a packet for
many edges of a region crosses the border once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from relaymesh.controller.lsdb import Direction

Objective = Literal["latency", "balanced", "cost"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
# Milliseconds that a price of 1 per GB weighs. Clouds ask from nothing to about 0.15.
PRICE_WEIGHT_MS: dict[Objective, float] = {"latency": 0.0, "balanced": 100.0, "cost": 50_000.0}
# On the second and further links of a node into one region: more than the way across a region takes.
SECOND_DOOR_MS = 500.0


class Pricing:
    """Adds the price to costs."""

    def __init__(
        self,
        objective: Objective,
        price_per_gb: Callable[[Direction], float],
        region: Callable[[int], str],
    ) -> None:
        self.objective: Objective = objective
        self._price_per_gb = price_per_gb
        self._region = region
        self._second: frozenset[Direction] = frozenset()  # doors, when costs were last weighed

    def price_ms(self, direction: Direction) -> float:
        """What the price of *direction* weighs."""
        weight = PRICE_WEIGHT_MS[self.objective]
        return weight * max(0.0, self._price_per_gb(direction)) if weight else 0.0

    def door_ms(self, direction: Direction) -> float:
        """What *direction* costs more because another link leads into that region, as last weighed."""
        return SECOND_DOOR_MS if direction in self._second else 0.0

    def weigh(self, costs_ms: dict[Direction, float]) -> dict[Direction, float]:
        """*costs_ms*, changed in place, with the weight of money."""
        if self.objective == "latency":
            return costs_ms
        for direction in costs_ms:
            costs_ms[direction] += self.price_ms(direction)
        if self.objective == "cost":
            self._second = frozenset(self._second_doors(costs_ms))
            for direction in self._second:
                costs_ms[direction] += SECOND_DOOR_MS
        return costs_ms

    def _second_doors(self, costs_ms: dict[Direction, float]) -> list[Direction]:
        """Of each node's links into another region, all but the cheapest."""
        best: dict[tuple[int, str], tuple[float, Direction]] = {}
        crossing: list[tuple[tuple[int, str], Direction]] = []
        for (sender, receiver), cost in costs_ms.items():
            region = self._region(receiver)
            if region == self._region(sender):
                continue
            door, choice = (sender, region), (cost, (sender, receiver))
            crossing.append((door, (sender, receiver)))
            if door not in best or choice < best[door]:
                best[door] = choice
        return [direction for door, direction in crossing if best[door][1] != direction]
