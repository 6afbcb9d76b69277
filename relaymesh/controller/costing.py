"""From what is known of links to what the planner counts for them: all stages of costs, tied together.

    lsdb → metric (steps), damping, load, retiring → + → objective → weights → (routing)

In: changed link states, accepted reports, edits of the topology, time. Out:
whether a plan must follow, and the weights for it; term by term, what is added to
what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from relaymesh.controller.damping import Damping
from relaymesh.controller.load import LoadGauges
from relaymesh.controller.lsdb import Direction, LinkState
from relaymesh.controller.metric import CostBook
from relaymesh.controller.objective import Pricing
from relaymesh.controller.parts import Parts
from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.registry import Member, Registry
from relaymesh.controller.retiring import Retiring
from relaymesh.controller.sites import crossing_ms, same_site
from relaymesh.controller.weights import Weights
from relaymesh.protocol.messages import LinkReport
from relaymesh.topology import Objective


class LinkCosts:
    """The cost of every directed link, with its terms."""

    def __init__(self, policy: MeshPolicy, registry: Registry, objective: Objective) -> None:
        """*objective*: where the policy says none."""
        self._policy = policy
        self._registry = registry
        self.book = CostBook(lambda link: self._asked(self._extra_cost_ms, link))
        self.damping = Damping()
        self.load = LoadGauges(lambda link: self._asked(policy.capacity_kbps, link))
        self.pricing = Pricing(
            lambda: policy.objective() or objective,
            lambda link: self._asked(policy.price_per_gb, link),
            self._region_of,
        )
        self.retiring = Retiring()
        self.weights = Weights(self._unpriced_ms, self.pricing.weigh_sender)

    def handle_changes(
        self, changes: Iterable[Direction], state: Callable[[Direction], LinkState | None], now: float
    ) -> bool:
        """Take in the changed *state* of these links; True when a plan must follow."""
        moved: list[Direction] = []
        down: list[Direction] = []
        up: list[Direction] = []
        for link in sorted(changes):
            was_up = self.book.planned_ms(link) is not None
            if self.book.update(link, self._counted(link, state(link)), now):
                moved.append(link)
            if was_up != (self.book.planned_ms(link) is not None):
                (down if was_up else up).append(link)
        self.damping.handle_down(down, now)
        self.damping.handle_up(up, now)
        # Probation is of both directions, whichever died.
        return self._reweigh([*moved, *((b, a) for a, b in (*down, *up))], now)

    def handle_report(self, sender: int, accepted: Iterable[LinkReport], now: float) -> bool:
        """Take in rates and queues reported by *sender*; True when a plan must follow."""
        return self._reweigh(self.load.handle_report(sender, accepted, now), now)

    def next_timeout(self) -> float | None:
        """Time of the next :meth:`handle_timeout` with anything to do; None: never."""
        dues = (self.book.next_timeout(), self.damping.next_timeout())
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> bool:
        """Take steps, end probations; True when a plan must follow."""
        moved = self.book.handle_timeout(now)
        moved += self.damping.handle_timeout(now)
        return self._reweigh(moved, now)

    def handle_edited(self, links: Collection[Direction], now: float) -> None:
        """The topology was edited: what the operator adds to these *links* may be another, or they retire."""
        self.book.handle_policy(links)
        self.weights.update(links, now)

    def handle_moved(self, member: Member, neighbours: Iterable[int]) -> None:
        """*member* may be in another region than before, and prices with it."""
        self.weights.reprice((member.index, *neighbours))

    def added(self, link: Direction, now: float) -> dict[str, float]:
        """Terms added to the measured cost of *link*, milliseconds each."""
        return {
            "load_ms": self.load.load_ms(link),
            "price_ms": self.pricing.price_ms(link),
            "door_ms": self.pricing.door_ms(link),
            "probation_ms": self.damping.added_ms(link, now),
        }

    def forget(self, index: int) -> None:
        """The node is gone for good."""
        self.damping.forget(index)
        self.load.forget(index)

    def debug_state(self) -> Parts[dict[str, object]]:
        return {
            "metric": (yield from self.book.debug_state()),
            "damping": self.damping.debug_state(),
            "load": self.load.debug_state(),
            "retiring": self.retiring.debug_state(),
        }

    def _reweigh(self, links: Collection[Direction], now: float) -> bool:
        self.weights.update(links, now)
        return bool(links)

    def _unpriced_ms(self, link: Direction, now: float) -> float | None:
        """Cost of *link* by all stages but prices; None when no plan may be made with it."""
        planned = self.book.planned_ms(link)
        if planned is None or self.retiring.holds(link):
            return None
        return planned + self.damping.added_ms(link, now) + self.load.load_ms(link)

    def _counted(self, link: Direction, state: LinkState | None) -> LinkState | None:
        """*state* as it counts: within a site neither time nor jitter do, which tell how busy the host is."""
        source, target = (self._registry.by_index(index) for index in link)
        if state is None or source is None or target is None or not same_site(source, target):
            return state
        return replace(state, rtt_ms=0.0, jitter_ms=0.0)

    def _extra_cost_ms(self, source: Member, target: Member) -> float:
        """Cost added by decisions: the operator's, and which worker of a site is to cross to another."""
        return self._policy.extra_cost_ms(source, target) + crossing_ms(source, target)

    def _asked(self, ask: Callable[[Member, Member], float], link: Direction) -> float:
        source, target = (self._registry.by_index(index) for index in link)
        return 0.0 if source is None or target is None else ask(source, target)

    def _region_of(self, index: int) -> str:
        member = self._registry.by_index(index)
        return "" if member is None else member.region
