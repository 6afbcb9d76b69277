"""The rows of the core's table that adapt one object of the mesh state each (:mod:`stage`).

    links: adjacency, intake → lsdb → costs → (replanning);  publishing;  rooms;  pending joins;
    settling → (rooms);  hitless, after the rooms that changed

In: membership events, reports, time. Out: messages for nodes, and requests for plans.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from relaymesh.controller.directory import Directory
from relaymesh.controller.hitless import HitlessPaths
from relaymesh.controller.lsdb import Direction
from relaymesh.controller.mesh_state import MeshState
from relaymesh.controller.parts import Parts
from relaymesh.controller.placement import PendingJoins
from relaymesh.controller.replanning import Replanning
from relaymesh.controller.settling import Settling
from relaymesh.controller.stage import Gone, Joined, Left, MemberEvent, Replaced, Told
from relaymesh.protocol.messages import Report


class LinkStage:
    """Links: whose neighbour each node is, what both ends report, and what that costs."""

    works_lapsed: ClassVar[bool] = False

    def __init__(self, state: MeshState, replanning: Replanning) -> None:
        self._registry = state.registry
        self._adjacency = state.adjacency
        self._intake = state.intake
        self._lsdb = state.lsdb
        self._costs = state.costs
        self._replanning = replanning

    def handle_report(self, index: int, report: Report, now: float) -> None:
        """Take in the reports of *index* on its own links."""
        accepted = self._intake.handle_report(index, report, now)
        if self._costs.handle_report(index, accepted, now):
            self._replanning.plan_soon(now)
        self._handle_changes(self._lsdb.handle_report(index, accepted, now), now)
        if accepted and report.detoured:
            self._replanning.renew_soon(now)

    def handle_parted(self, one: int, other: int, now: float) -> None:
        """Forget the link between two nodes that ceased to be neighbours."""
        self._handle_changes(self._lsdb.forget_link(one, other), now)
        self._costs.damping.forget_pair(one, other)

    def next_timeout(self) -> float | None:
        """Time of the next key rotation, end of a grace, or step of a cost."""
        dues = (self._adjacency.next_timeout(), self._lsdb.next_timeout(), self._costs.next_timeout())
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> Told:
        """Rotate keys, end graces, and step costs."""
        told = self._adjacency.handle_timeout(now)
        self._handle_changes(self._lsdb.handle_timeout(now), now)
        if self._costs.handle_timeout(now):
            self._replanning.plan_soon(now)
        return told

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Make, keep or take away the links of a node."""
        index = event.member.index
        match event:
            case Joined():
                return self._join(event, now)
            case Left():
                self._handle_changes(self._lsdb.handle_disconnected(index, now), now)
            case Gone():
                told = self._adjacency.handle_gone(index)
                self._intake.forget(index)
                self._costs.forget(index)
                self._handle_changes(self._lsdb.forget(index), now)
                return told
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        return {
            "adjacency": (yield from self._adjacency.debug_state()),
            "intake": self._intake.debug_state(),
            "lsdb": (yield from self._lsdb.debug_state()),
            **(yield from self._costs.debug_state()),
        }

    def _join(self, event: Joined, now: float) -> Told:
        member, fresh = event.member, event.fresh
        told = self._adjacency.handle_join(
            member, fresh=fresh, moved=event.moved, departed=self._registry.departed(), now=now
        )
        changes = self._lsdb.handle_connected(member.index, fresh=fresh, now=now)
        for index, links in told:
            if index != member.index:
                for removed in links.remove:
                    changes |= self._lsdb.forget_link(index, removed)
        self._handle_changes(changes, now)
        if fresh:
            self._costs.handle_moved(member, self._adjacency.neighbours(member.index))
        return told

    def _handle_changes(self, changes: Iterable[Direction], now: float) -> None:
        if self._costs.handle_changes(changes, self._lsdb.state, now):
            self._replanning.plan_soon(now)


class PublishingStage:
    """Tables on their way to nodes."""

    works_lapsed: ClassVar[bool] = True

    def __init__(self, state: MeshState) -> None:
        self._planner = state.planner
        self._publisher = state.publisher

    def next_timeout(self) -> float | None:
        return self._publisher.next_timeout()

    def handle_timeout(self, now: float) -> Told:
        return self._publisher.handle_timeout(now)

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Send the tables to a node that joined; wait no longer for one that left."""
        index = event.member.index
        match event:
            case Joined():
                self._planner.handle_seen(event.join.generation)
                # A node with newer tables than ours is told with the next plan, which outruns them.
                return () if self._planner.is_outrun else self._publisher.handle_join(index)
            case Replaced() | Left():
                return self._publisher.handle_leave(index)
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"publish": self._publisher.debug_state()}


class RoomsStage:
    """The directory of publications."""

    works_lapsed: ClassVar[bool] = False

    def __init__(self, rooms: Directory) -> None:
        self._rooms = rooms

    def next_timeout(self) -> float | None:
        return self._rooms.next_timeout()

    def handle_timeout(self, now: float) -> Told:
        return self._rooms.handle_timeout(now)

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Take in all that a node announces; end the publications of one that is gone."""
        index = event.member.index
        match event:
            case Joined(join=join, absent_since=since):
                return self._rooms.handle_announce(
                    index, join.published, join.subscribed, absent_since=since, now=now
                )
            case Gone():
                return self._rooms.handle_gone(index)
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"rooms": self._rooms.debug_state()}


class PendingStage:
    """Places at edges that clients were given and have not taken yet."""

    works_lapsed: ClassVar[bool] = False

    def __init__(self, pending: PendingJoins) -> None:
        self._pending = pending

    def next_timeout(self) -> float | None:
        """None: a reservation that ran out is not counted any more."""
        return None

    def handle_timeout(self, now: float) -> Told:
        return ()

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        if isinstance(event, Gone):
            self._pending.forget(event.member.index)
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"edges": self._pending.debug_state()}


class SettlingStage:
    """The wait for nodes that come back after an outage; rooms hold their Forwards meanwhile."""

    works_lapsed: ClassVar[bool] = True

    def __init__(self, settling: Settling, rooms: Directory) -> None:
        self._settling = settling
        self._rooms = rooms

    @property
    def waiting(self) -> bool:
        """True during the wait."""
        return self._settling.waiting

    def begin(self, now: float) -> None:
        """Begin to wait, or begin again."""
        self._settling.begin(now)
        self._rooms.hold()

    def next_timeout(self) -> float | None:
        return self._settling.next_timeout()

    def handle_timeout(self, now: float) -> Told:
        """End the wait, and release the Forwards."""
        return self._rooms.release() if self._settling.handle_timeout(now) else ()

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        if isinstance(event, Joined):
            self._settling.handle_join()
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"settling": self._settling.debug_state()}


class HitlessStage:
    """Disjoint paths for marked tracks."""

    works_lapsed: ClassVar[bool] = False

    def __init__(self, hitless: HitlessPaths, rooms: Directory) -> None:
        self._hitless = hitless
        self._rooms = rooms

    def handle_rooms(self, now: float) -> None:
        """Note the ingresses whose edges may have changed since the last call."""
        self._hitless.handle_changed(self._rooms.poll_changed(), now)

    def next_timeout(self) -> float | None:
        return self._hitless.next_timeout()

    def handle_timeout(self, now: float) -> Told:
        """Compute some more paths, for the rooms as they are now."""
        self.handle_rooms(now)
        return self._hitless.handle_timeout(now)

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        match event:
            case Joined():
                self._hitless.handle_join(event.member.index, now)
                self.handle_rooms(now)
            case Gone():
                self._hitless.forget(event.member.index)
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"hitless": self._hitless.debug_state()}
