"""Replanning: decides when the next plan is begun, and from which costs.

    changed costs, joins, edits, requests for a renewal → debounce → (Planning) → plan made → hitless

In: reasons for a plan, time. Out: messages of the plan under way. :mod:`planning` makes and sends one
plan; this module begins it, and only with evidence: somebody is connected, no node is awaited any more,
the lease holds, and no plan is in flight.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar

from relaymesh.controller.hitless import HitlessPaths
from relaymesh.controller.mesh_state import MeshState
from relaymesh.controller.outbox import Outbox
from relaymesh.controller.parts import Parts
from relaymesh.controller.pins import Pins
from relaymesh.controller.planning import Planning
from relaymesh.controller.preview import stages
from relaymesh.controller.settling import Settling
from relaymesh.controller.stage import Gone, Joined, MemberEvent, Told

_RENEWAL_PAUSE_S = 0.9  # less than the report interval of nodes


class Replanning:
    """The schedule of plans."""

    works_lapsed: ClassVar[bool] = False

    def __init__(self, state: MeshState, settling: Settling, hitless: HitlessPaths, outbox: Outbox) -> None:
        self._state = state
        self._settling = settling
        self._hitless = hitless
        self._outbox = outbox
        self._retiring = state.costs.retiring
        self._planning = Planning(state.planner, state.publisher, state.connected)
        self._due: float | None = None  # something changed that a plan must follow
        self._planned_at = -inf
        self._renewal_wanted = False  # a node detours around a link that works again

    def plan_soon(self, now: float) -> None:
        """Request a plan; requests that come together make one."""
        if self._due is None:
            self._due = now + self._state.options.debounce_s

    def renew_soon(self, now: float) -> None:
        """Request a new generation even if its routes are the same.

        Nodes repeat the request with each report: it is granted once in each pause.
        """
        if now >= self._planned_at + _RENEWAL_PAUSE_S:
            self._renewal_wanted = True
            self.plan_soon(now)

    def next_timeout(self) -> float | None:
        """Time of the next plan, or of the next slice of the one under way."""
        dues = (self._planning.next_timeout(), self._due if self._may_plan() else None)
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> Told:
        """Begin the plan that is due, or do a slice of the one under way."""
        if self._due is not None and now >= self._due and self._may_plan():
            told = self._begin(now)
        else:
            told = self._planning.handle_timeout(now)
        made = self._planning.poll_made()
        if made is not None:
            plan, costs_ms = made
            self._retiring.handle_planned(plan.generation)
            self._hitless.handle_plan(plan, costs_ms, now)
            self._planned_at = now
            nodes = len(self._state.registry.members())
            self._outbox.counters["plans"] += 1
            self._outbox.event("plan made", generation=plan.generation, nodes=nodes)
        return told

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Request a plan with, or without, the node."""
        if isinstance(event, Joined | Gone):
            self.plan_soon(now)
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"plan_due": self._due}

    def _may_plan(self) -> bool:
        # With nobody connected there is no evidence, and nobody to tell.
        return (
            self._planning.idle
            and not self._settling.waiting
            and not self._state.reign.lapsed
            and self._state.registry.connected_count() > 0
        )

    def _begin(self, now: float) -> Told:
        self._due = None
        nodes = self._state.nodes()
        weights = self._state.costs.weights
        costs_ms, changed = weights.costs_ms, weights.poll_changed()
        # A pair on its way out may be in no table, but in paths that are made from a plan.
        renew = self._renewal_wanted or self._retiring.unplanned
        self._renewal_wanted = False
        self._retiring.handle_begun()
        pins = Pins(stages(self._state.policy.now, nodes), self._state.costs.damping.on_probation(now))
        indexes = [node.index for node in nodes]
        return self._planning.begin(indexes, costs_ms, now, changed=changed, renew=renew, pins=pins)
