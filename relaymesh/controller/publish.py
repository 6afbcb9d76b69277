"""Publishing plans in two phases: first every node holds the tables, then packets are stamped with them.

In: plans, who is connected, and who says to hold what. Out: messages, each for
one node. A node is sent a delta against the plan it was sent before (its
channel keeps order), or a snapshot where there is none. When all connected
nodes hold the plan, or a little later whatever they hold, it is activated. One
plan is in flight at a time: the caller makes the next one when this is idle,
from what is newest then. Many nodes are told a few at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from relaymesh.controller.plan import Plan, delta_for, snapshot_for
from relaymesh.protocol.messages import Activate, Delta, Snapshot

ACTIVATE_AFTER_S = 0.5  # a node that cannot say it holds a plan must not hold up the others for longer
FULL_EFFORT = 16  # of a message with routes and detours in it, beside one that only says "as before"

Told: TypeAlias = list[tuple[int, Snapshot | Delta | Activate]]  # (index of the node, what it is told)


class Publisher:
    """Progress of each node with the newest plan."""

    def __init__(self, activate_after_s: float = ACTIVATE_AFTER_S) -> None:
        self._activate_after_s = activate_after_s
        self._plan: Plan | None = None
        self._sent: dict[int, Plan] = {}  # of the connected nodes
        self._unsent: deque[int] = deque()
        self._waiting_for: set[int] = set()
        self._deadline: float | None = None  # of the plan in flight; None when idle
        self.active: Plan | None = None

    @property
    def idle(self) -> bool:
        """True when no plan is in flight, so that the next one may be published."""
        return self._deadline is None

    def publish(self, plan: Plan, connected: Iterable[int], now: float) -> Told:
        """Send *plan* to the *connected* nodes. Only when idle."""
        self.begin(plan, connected, now)
        return self.send(now, None)

    def begin(self, plan: Plan, connected: Iterable[int], now: float) -> None:
        """Make *plan* the one in flight; :meth:`send` sends it. Only when idle."""
        assert self.idle, "one plan is in flight at a time"
        self._plan = plan
        self._unsent = deque(sorted(connected))
        self._waiting_for.update(self._unsent)
        self._deadline = now + self._activate_after_s

    @property
    def sending(self) -> bool:
        """True while :meth:`send` has more to send of the plan in flight."""
        return bool(self._unsent)

    def send(self, now: float, effort: int | None) -> Told:
        """Send the plan in flight to some more nodes, for about so much *effort* (None: to all)."""
        told: Told = []
        plan = self._plan
        assert plan is not None, "there is a plan in flight"
        while self._unsent and (effort is None or effort > 0):
            index = self._unsent.popleft()
            base = self._sent.get(index)
            if base is plan or index not in self._waiting_for:
                continue  # it joined meanwhile, and has it whole; or it left
            message = snapshot_for(plan, index) if base is None else delta_for(base, plan, index)
            told.append((index, message))
            self._sent[index] = plan
            if effort is not None:
                effort -= 1 if isinstance(message, Delta) and message.detours is None else FULL_EFFORT
        if not self._unsent:
            # All have the same time, whenever in a long sending they were told.
            self._deadline = now + self._activate_after_s
        return told + self._activate_if_held()

    def handle_join(self, index: int) -> Told:
        """The node is connected (again) and gets the newest tables, whole."""
        if self._plan is None:
            return []
        told: Told = [(index, snapshot_for(self._plan, index))]
        self._sent[index] = self._plan
        if self.idle:
            told.append((index, Activate(self._plan.generation)))
        else:
            self._waiting_for.add(index)
        return told

    def handle_leave(self, index: int) -> Told:
        """The node's channel is closed: nobody waits for it."""
        self._sent.pop(index, None)
        self._waiting_for.discard(index)
        return self._activate_if_held()

    def handle_held(self, index: int, generation: int) -> Told:
        """The node holds the tables of *generation*."""
        if self._plan is None or generation != self._plan.generation:
            return []
        self._waiting_for.discard(index)
        return self._activate_if_held()

    def handle_snapshot_wanted(self, index: int) -> Told:
        """A delta did not fit on what the node holds."""
        if self._plan is None or index not in self._sent:
            return []
        return [(index, snapshot_for(self._plan, index))]

    def next_timeout(self) -> float | None:
        return None if self._unsent else self._deadline

    def handle_timeout(self, now: float) -> Told:
        """Activate a plan that waited long enough."""
        if self._deadline is None or now < self._deadline or self._unsent:
            return []
        return self._activate()

    def debug_state(self) -> dict[str, object]:
        return {
            "generation": None if self._plan is None else self._plan.generation,
            "active_generation": None if self.active is None else self.active.generation,
            "waiting_for": sorted(self._waiting_for),
            "deadline": self._deadline,
        }

    def _activate_if_held(self) -> Told:
        return [] if self.idle or self._waiting_for or self._unsent else self._activate()

    def _activate(self) -> Told:
        assert self._plan is not None, "a plan is in flight"
        self.active = self._plan
        self._deadline = None
        self._waiting_for.clear()
        return [(index, Activate(self._plan.generation)) for index in sorted(self._sent)]
