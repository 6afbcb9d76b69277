"""The objective: what a plan is to be best at. Delivery time, the price of egress, or both.

In: costs in milliseconds, the operator's prices, and which region a node is in.
Out: costs in which money has its weight. ``latency``: none. ``balanced``: ten
cents per gigabyte weigh as 10 ms. ``cost``: as 5 s, more than any detour, so
that of ways of one price the quickest is taken; and a node sends to each other region
by one link only where the nodes there can pass it on, so that a packet for
many edges of a region crosses the border once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relaymesh.controller.lsdb import Direction
from relaymesh.topology import Objective

# Milliseconds that a price of 1 per GB weighs. Clouds ask from nothing to about 0.15.
PRICE_WEIGHT_MS: dict[Objective, float] = {"latency": 0.0, "balanced": 100.0, "cost": 50_000.0}
# On the second and further links of a node into one region: more than the way across a region takes.
SECOND_DOOR_MS = 500.0


class Pricing:
    """Adds the price to costs."""

    def __init__(
        self,
        objective: Callable[[], Objective],
        price_per_gb: Callable[[Direction], float],
        region: Callable[[int], str],
    ) -> None:
        self._objective = objective
        self._price_per_gb = price_per_gb
        self._region = region
        self._second: dict[int, frozenset[int]] = {}  # sender → doors beside its cheapest

    @property
    def objective(self) -> Objective:
        """The objective in force."""
        return self._objective()

    def price_ms(self, direction: Direction) -> float:
        """Cost that the price of *direction* adds, milliseconds."""
        weight = PRICE_WEIGHT_MS[self.objective]
        return weight * max(0.0, self._price_per_gb(direction)) if weight else 0.0

    def door_ms(self, direction: Direction) -> float:
        """Cost added to *direction* because another link leads into that region, as last weighed."""
        return SECOND_DOOR_MS if direction[1] in self._second.get(direction[0], ()) else 0.0

    def weigh(self, costs_ms: Mapping[Direction, float]) -> dict[Direction, float]:
        """*costs_ms* with the weight of money; a copy."""
        by_sender: dict[int, dict[int, float]] = {}
        for (sender, receiver), cost in costs_ms.items():
            by_sender.setdefault(sender, {})[receiver] = cost
        return {
            (sender, receiver): cost
            for sender, own in by_sender.items()
            for receiver, cost in self.weigh_sender(sender, own).items()
        }

    def weigh_sender(self, sender: int, costs_ms: Mapping[int, float]) -> dict[int, float]:
        """The same for all links of one *sender*: receiver → cost."""
        weighed = dict(costs_ms)
        objective = self.objective
        if objective != "cost":
            self._second.pop(sender, None)
        if objective == "latency":
            return weighed
        for receiver in weighed:
            weighed[receiver] += self.price_ms((sender, receiver))
        if objective == "cost":
            second = self._second_doors(sender, weighed)
            for receiver in second:
                weighed[receiver] += SECOND_DOOR_MS
            self._second[sender] = second
        return weighed

    def _second_doors(self, sender: int, costs_ms: Mapping[int, float]) -> frozenset[int]:
        """Of the *sender*'s links into another region, all but the cheapest."""
        home, best = self._region(sender), dict[str, tuple[float, int]]()
        crossing: list[tuple[str, int]] = []
        for receiver, cost in costs_ms.items():
            region = self._region(receiver)
            if region == home:
                continue
            crossing.append((region, receiver))
            best[region] = min(best.get(region, (cost, receiver)), (cost, receiver))
        return frozenset(receiver for region, receiver in crossing if best[region][1] != receiver)
