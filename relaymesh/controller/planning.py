"""The course of a plan: routes are computed, made a plan, and sent, one slice at a time.

In: when to make one and from what; time. Out: what nodes are told. Only one
plan is under way at a time; the next begins when the last is active. A small
mesh takes the whole way in one call. In a big one, detours that a plan went out
without are computed while it is in flight, and sent as a plan of their own,
unless there is news to plan for: then with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.pins import NO_PINS, Pins
from relaymesh.controller.plan import Plan, Planner
from relaymesh.controller.publish import Publisher, Told
from relaymesh.controller.routing import Routes, Routing

SEND_EFFORT = 128  # see Publisher.send: about 3 ms


class Planning:
    """Drives routing, planner and publisher."""

    def __init__(
        self,
        planner: Planner,
        publisher: Publisher,
        connected: Callable[[], list[int]],
        routing: Routing | None = None,
    ) -> None:
        self._planner = planner
        self._publisher = publisher
        self._connected = connected
        self._routing = Routing() if routing is None else routing
        self._renew = False
        self._for_tables = False  # what is computed: new tables, or detours that were owed
        self._held: Routes | None = None  # computed while the last plan was in flight
        self._stepped_at = 0.0
        self._costs: dict[Direction, float] = {}  # of what is computed
        self._made: tuple[Plan, dict[Direction, float]] | None = None

    @property
    def idle(self) -> bool:
        """True when a plan may be begun; detours that are still owed then go with it."""
        return self._publisher.idle and not (self._routing.computing and self._for_tables)

    def begin(
        self,
        nodes: Sequence[int],
        costs_ms: dict[Direction, float],
        now: float,
        *,
        renew: bool,
        changed: Collection[Direction] | None = None,
        pins: Pins = NO_PINS,
    ) -> Told:
        """Make a plan of these costs, or a *renewed* one though nothing changed. Only when idle.

        *changed*: the only links that may cost something else than in the last call; None: any may.
        """
        assert self.idle, "one plan is under way at a time"
        self._renew, self._for_tables, self._held = renew, True, None
        self._costs = costs_ms
        self._routing.begin(nodes, costs_ms, changed=changed, pins=pins)
        return self._slice(now, None if self._routing.is_small else SEND_EFFORT)

    def next_timeout(self) -> float | None:
        """At once, while there is a slice to do."""
        return self._stepped_at if self._has_work() else None

    def handle_timeout(self, now: float) -> Told:
        """Do one slice, if there is one."""
        return self._slice(now, SEND_EFFORT) if self._has_work() else []

    def poll_made(self) -> tuple[Plan, dict[Direction, float]] | None:
        """The plan that was made since the last call, and the costs it came from."""
        made, self._made = self._made, None
        return made

    def _has_work(self) -> bool:
        return (
            self._publisher.sending
            or self._routing.computing
            or (self._held is not None and self._publisher.idle)
        )

    def _slice(self, now: float, effort: int | None) -> Told:
        self._stepped_at = now
        if self._publisher.sending:
            return self._publisher.send(now, effort)
        if self._routing.computing:
            self._held = self._routing.step()
            if self._routing.owes_detours and not self._routing.computing:
                self._for_tables = False
        told: Told = []
        if self._held is not None and self._publisher.idle:
            routes, self._held = self._held, None
            plan = self._planner.replan(routes.tables, routes.detours, renew=self._renew)
            self._renew = False
            if plan is not None:
                self._made = plan, self._costs
                self._publisher.begin(plan, self._connected(), now)
                if effort is None or not self._publisher.sending:
                    told = self._publisher.send(now, effort)
        if self._routing.owes_detours and not self._routing.computing and self._held is None:
            self._routing.begin_detours()
        return told
