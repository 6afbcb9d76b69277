"""The controller without its sockets: all stages, tied together.

    join   → tokens → registry → adjacency → (Links)
    report → intake → lsdb → costing → routing → plan → publish → (Snapshot, Delta, Activate)
    stream messages → rooms → (replies, Forward, …); rooms, plan → hitless → (HitlessWays)

In: what nodes say, by channel, and time. Out: messages by channel, channels to
close, and events worth a log line. It knows no clock, no socket and no
randomness of its own: the Unix time (for token expiry only) and the key source
are given. Whatever a node says, nothing is raised here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from relaymesh.controller.adjacency import Adjacency, KeySource
from relaymesh.controller.costing import LinkCosts
from relaymesh.controller.directory import Directory
from relaymesh.controller.edges import EdgeFinder
from relaymesh.controller.editing import Edit, TopologyEditor, prepare
from relaymesh.controller.hitless import HitlessPaths
from relaymesh.controller.intake import Intake
from relaymesh.controller.lsdb import SILENT_GRACE_S, Direction, LinkStateDb
from relaymesh.controller.parts import Parts, at_once
from relaymesh.controller.pins import Pins
from relaymesh.controller.placement import Client
from relaymesh.controller.plan import Planner
from relaymesh.controller.planning import Planning
from relaymesh.controller.policy import CurrentPolicy, MeshPolicy
from relaymesh.controller.presence import Patience
from relaymesh.controller.preview import Situation, stages
from relaymesh.controller.publish import ACTIVATE_AFTER_S, Publisher, Told
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.registry import MAX_NODES, Joined, Member, Registry
from relaymesh.controller.reign import Reign
from relaymesh.controller.remembered import GENERATION_GAP, Remembered
from relaymesh.controller.settling import Settling
from relaymesh.controller.state import Json, MeshView
from relaymesh.controller.tokens import verify_join_token
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    ControllerMessage,
    Join,
    NodeMessage,
    Publish,
    Refused,
    Report,
    SnapshotWanted,
    Subscribe,
    TablesHeld,
    Unpublish,
    Unsubscribe,
    Welcome,
)
from relaymesh.topology import Objective, Topology

SILENCE_TIMEOUT_S = 10.0
_SWEEP_S = 0.25  # how often the absent are looked at; the bounds below are seconds
_RENEWAL_PAUSE_S = 0.9  # less than nodes' reports are apart
_REASON_CHARS = 512  # what a Refused may carry


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """How the controller behaves; seconds unless the name says milliseconds."""

    join_secret: str = field(repr=False)
    probe_interval_ms: float = 50.0
    dead_after_ms: float = 200.0
    report_interval_ms: float = 1000.0
    key_rotation_s: float = 3600.0
    debounce_s: float = 0.02  # changes that come together make one plan
    activate_after_s: float = ACTIVATE_AFTER_S
    presence_timeout_s: float = 10.0  # from a node's death to the end of its streams
    mass_loss_s: float = 300.0  # the same, where so many died at once that we may be the one who is cut off
    silence_timeout_s: float = SILENCE_TIMEOUT_S  # a channel without a word for this long is closed
    silent_grace_s: float = SILENT_GRACE_S
    settle_s: float = 8.0  # at most, for all nodes to come back; more than their longest pause between tries
    max_nodes: int = MAX_NODES
    objective: Objective = "latency"  # where the topology says none


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close this channel, after what was sent on it before."""

    reason: str


@dataclass(frozen=True, slots=True)
class CoreEvent:
    """Something an operator may want to read; ``fields`` are plain values and no secrets."""

    name: str
    fields: dict[str, object]


Outgoing: TypeAlias = tuple[int, ControllerMessage | Disconnect]  # (channel, what to do)


class ControllerCore:
    """All state of a controller. Channels are numbers that the caller gives out and never uses twice."""

    def __init__(
        self,
        options: CoreOptions,
        policy: MeshPolicy,
        *,
        key_source: KeySource,
        unix_time: Callable[[], float],
        reign: Reign | None = None,
    ) -> None:
        """*reign*: as which leader, and what is remembered of earlier ones; none: as the only one ever."""
        self._reign = reign or Reign()
        remembered = self._reign.remembered
        self._options = options
        self._policy = CurrentPolicy(policy)
        self._unix_time = unix_time
        self._registry = Registry(self._policy, options.max_nodes, remembered.indexes)
        self._adjacency = Adjacency(self._policy, key_source, options.key_rotation_s, remembered.key_epochs)
        self._intake = Intake(self._adjacency.are_neighbours)
        self._lsdb = LinkStateDb(options.silent_grace_s)
        self._costs = LinkCosts(self._policy, self._registry, options.objective)
        self._now = 0.0  # of the last call, for questions that come without a time
        self._retiring = self._costs.retiring
        self._editor = TopologyEditor(self._policy, self._registry, self._adjacency, self._costs)
        self._settling = Settling(options.settle_s)
        self._planner = Planner()
        if remembered.generation:
            self._planner.handle_seen(remembered.generation + GENERATION_GAP)
        self._publisher = Publisher(options.activate_after_s)
        self._planning = Planning(self._planner, self._publisher, self._connected)
        self._rooms = Directory(self._is_alive, self._name_of, wait_s=options.presence_timeout_s)
        self._hitless = HitlessPaths(self._rooms.hitless_edges)
        self._edges = EdgeFinder(self._policy, self._registry, self._rooms, self._costs.book, self._publisher)
        self._view = MeshView(
            self._policy,
            self._registry,
            self._adjacency,
            self._lsdb,
            self._costs.book,
            self._planner,
            self._publisher,
            self._rooms,
        )
        self.counters: Counter[str] = Counter()
        self._outgoing: deque[Outgoing] = deque()
        self._events: deque[CoreEvent] = deque()
        self._plan_due: float | None = None  # something changed that a plan must follow
        self._planned_at = float("-inf")
        self._renewal_wanted = False  # a node goes around a link that works again
        self._was_outrun = False
        self._sweep_due: float | None = None
        self._applied_text = remembered.topology

    # --- in ----------------------------------------------------------------------------------

    def handle_join(self, conn_id: int, join: Join, now: float) -> None:
        """The first message on a channel."""
        self._reign.check(now)
        if self._registry.by_conn(conn_id) is not None:
            self._refuse(conn_id, JoinRefused("malformed", "this channel has joined already"), now)
            return
        was_alone = self._registry.connected_count() == 0
        try:
            self._check(join)
            self._check_reign(join)
            self._make_room(join, now)
            joined = self._registry.join(join, conn_id, now)
        except JoinRefused as refusal:
            self._event("node refused", node=join.name, code=refusal.code, reason=refusal.reason)
            self._refuse(conn_id, refusal, now)
            return
        member = joined.member
        self._event("node joined", node=member.name, index=member.index, kind=joined.kind)
        self.counters[f"join-{joined.kind}"] += 1
        if joined.replaced_conn is not None:
            self._outgoing.append((joined.replaced_conn, Disconnect("the node opened another channel")))
            self._tell(self._publisher.handle_leave(member.index))
        self._maybe_settle(join, was_alone, now)
        self._let_in(joined, join, now)

    def handle_message(self, conn_id: int, message: NodeMessage, now: float) -> None:
        """Any message of a channel."""
        if isinstance(message, Join):
            self.handle_join(conn_id, message, now)
            return
        member = self._registry.by_conn(conn_id)
        if member is None:
            self._refuse(conn_id, JoinRefused("malformed", "the first message must be a join"), now)
            return
        member.last_seen = self._now = now
        index = member.index
        self._reign.check(now)
        match message:
            case Report():
                member.sessions = message.sessions
                self._edges.pending.handle_sessions(index, message.sessions, now)
                self._settling.handle_report(index, message, self._connected(), now)
                accepted = self._intake.handle_report(index, message, now)
                if self._costs.handle_report(index, accepted, now):
                    self._plan_soon(now)
                self._handle_changes(self._lsdb.handle_report(index, accepted, now), now)
                if accepted and message.detoured:
                    self._renew_soon(now)
            case Publish():
                self._tell(self._rooms.handle_publish(index, message, now))
            case Unpublish():
                self._tell(self._rooms.handle_unpublish(index, message.participant))
            case Subscribe():
                self._tell(self._rooms.handle_subscribe(index, message))
            case Unsubscribe():
                self._tell(self._rooms.handle_unsubscribe(index, message.participant))
            case TablesHeld():
                self._tell(self._publisher.handle_held(index, message.generation))
            case SnapshotWanted():
                self.counters["snapshot-wanted"] += 1
                self._tell(self._publisher.handle_snapshot_wanted(index))
        self._hitless.handle_changed(self._rooms.poll_changed(), now)

    def handle_malformed(self, conn_id: int, error: ProtocolError, now: float) -> None:
        """A channel carried what is no message: it is told, and closed."""
        self._refuse(conn_id, JoinRefused("malformed", str(error)[:_REASON_CHARS]), now)

    def handle_disconnect(self, conn_id: int, now: float) -> None:
        """The channel closed, by whomever."""
        member = self._registry.leave(conn_id, now)
        if member is None:
            return
        self._event("node left", node=member.name)
        self.counters["channel-closed"] += 1
        self._tell(self._publisher.handle_leave(member.index))
        self._handle_changes(self._lsdb.handle_disconnected(member.index, now), now)

    # --- time --------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` has something to do."""
        if self._reign.lapsed:
            return self._lapsed_timeout()
        dues = [
            self._reign.next_timeout(),
            self._adjacency.next_timeout(),
            self._lsdb.next_timeout(),
            self._costs.next_timeout(),
            self._editor.next_timeout(),
            self._publisher.next_timeout(),
            self._planning.next_timeout(),
            self._rooms.next_timeout(),
            self._hitless.next_timeout(),
            self._settling.next_timeout(),
            self._retiring.next_timeout(),
            self._plan_due if self._may_plan() else None,
            self._sweep_due,
        ]
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        if not self._reign.check(now):
            self._handle_lapsed(now)
            return
        self._tell(self._adjacency.handle_timeout(now))
        self._tell(self._publisher.handle_timeout(now))
        self._tell(self._rooms.handle_timeout(now))
        self._handle_changes(self._lsdb.handle_timeout(now), now)
        if self._costs.handle_timeout(now):
            self._plan_soon(now)
        if self._settling.handle_timeout(now):
            self._tell(self._rooms.release())
        if self._sweep_due is not None and now >= self._sweep_due:
            self._sweep(now)
        self._follow_edit(now)
        self._retire(now)
        if self._plan_due is not None and now >= self._plan_due and self._may_plan():
            self._replan(now)
        else:
            self._tell_plan(self._planning.handle_timeout(now), now)
        self._hitless.handle_changed(self._rooms.poll_changed(), now)
        self._tell(self._hitless.handle_timeout(now))

    # --- leadership --------------------------------------------------------------------------

    @property
    def reign(self) -> Reign:
        """As which leader this core speaks."""
        return self._reign

    def remembered(self) -> Remembered:
        """What a successor must know."""
        plan = self._planner.plan
        before = self._reign.remembered
        return Remembered(
            before.generation if plan is None else plan.generation,
            self._registry.indexes(),
            self._adjacency.key_epochs(),
            self._applied_text,
        )

    def _lapsed_timeout(self) -> float | None:
        """A leader that could not renew its lease makes no plan and no keys, and gives nobody up."""
        dues = (
            self._publisher.next_timeout(),
            self._settling.next_timeout(),
            self._reign.next_timeout(),
            self._sweep_due,
        )
        return min((due for due in dues if due is not None), default=None)

    def _handle_lapsed(self, now: float) -> None:
        self._tell(self._publisher.handle_timeout(now))
        if self._settling.handle_timeout(now):
            self._tell(self._rooms.release())
        if self._reign.send_away(now):
            for member in self._registry.members():
                if member.conn_id is not None:
                    self._close(member.conn_id, "the store is out of reach; another controller may lead", now)
        if self._sweep_due is not None and now >= self._sweep_due:
            self._sweep(now)

    def _check_reign(self, join: Join) -> None:
        """What only the newest leader may do."""
        if not self._reign.handle_heard(join.leader_epoch):
            raise JoinRefused("standby", f"the node has heard of the leader epoch {join.leader_epoch}")
        if self._reign.lapsed:
            member = self._registry.by_name(join.name)
            if member is None or member.boot_id != join.boot_id:
                raise JoinRefused("standby", "the store is out of reach: only nodes that were in are let in")

    # --- out ---------------------------------------------------------------------------------

    def poll_outgoing(self) -> list[Outgoing]:
        """What to send, and which channels to close, in order."""
        outgoing = list(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def poll_events(self) -> list[CoreEvent]:
        """What happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    @property
    def active_generation(self) -> int:
        """The generation that packets are stamped with; 0 before the first."""
        active = self._publisher.active
        return 0 if active is None else active.generation

    def state(self) -> Json:
        """The mesh, as the API shows it."""
        return at_once(self.state_in_parts())

    def state_in_parts(self) -> Parts[Json]:
        """The same in parts."""
        role = "lapsed" if self._reign.lapsed else "leader"
        return {
            "role": role,
            "leader_epoch": self._reign.epoch,
            "objective": self._costs.pricing.objective,
            **(yield from self._view.state()),
        }

    def path(self, start: str, end: str) -> Json | None:
        """The path between two nodes, by name, as the API shows it; None when there is none."""
        return self._view.path(start, end)

    def explanation(self, start: str, end: str) -> Callable[[], Json] | None:
        """Why packets between two nodes go as they go; None when they do not arrive.

        What is returned works it out, and may be called in a thread.
        """
        costs, now = self._costs, self._now
        work_out = self._view.explanation(
            start, end, costs.weights.costs_ms, lambda link: costs.added(link, now)
        )
        objective = costs.pricing.objective
        return None if work_out is None else lambda: {**work_out(), "objective": objective}

    def routes(self, start: str) -> list[Json] | None:
        """The table of a node, by name; None when there is no such node."""
        return at_once(self.routes_in_parts(start))

    def routes_in_parts(self, start: str) -> Parts[list[Json] | None]:
        """The same in parts."""
        return self._view.routes(start)

    def edges(self, room: str, client: Client, limit: int, now: float) -> list[Json]:
        """Where *client* should connect for *room*, the best first; a place there is kept for a while."""
        return self._edges.find(room, client, limit, now)

    # --- editing -----------------------------------------------------------------------------

    @property
    def topology(self) -> Topology | None:
        """The topology that holds; None when there is none."""
        return self._policy.topology

    @property
    def topology_version(self) -> str:
        """What :meth:`apply_topology` wants to hear of whoever edits it."""
        return self._editor.version

    @property
    def topology_text(self) -> str | None:
        """The topology that holds, as a file."""
        return self._editor.text

    def situation(self) -> Situation:
        """A copy of what :func:`~relaymesh.controller.preview.preview` needs."""
        return at_once(self.situation_in_parts())

    def situation_in_parts(self) -> Parts[Situation]:
        """The same in parts: of those who are in at the last."""
        pairs = self._adjacency.pairs()
        yield
        unpriced = self._costs.weights.unpriced_ms()
        yield
        legs = yield from self._rooms.legs()
        active = self._publisher.active
        return Situation(
            self._policy.now,
            self._editor.nodes(),
            tuple(pair for pair in pairs if self._adjacency.are_neighbours(*pair)),
            unpriced,
            self._options.objective,
            self._costs.damping.on_probation(self._now),
            {} if active is None else active.tables,
            legs,
        )

    def apply_topology(
        self, topology: Topology | Edit, now: float, *, expected: str | None = None, author: str = ""
    ) -> Edit:
        """Let *topology*, prepared or not, hold from now on; *expected* is the version it was made from.

        Raises:
            EditRefused: it does not fit the nodes that are in, or that version is not the one that holds.
        """
        edit = topology if isinstance(topology, Edit) else prepare(topology, self.topology)
        edit = self._editor.apply(edit, expected, now)
        self.counters["topology-applied"] += 1
        self._applied_text = edit.text
        self._event(
            "topology applied",
            topology=edit.topology.name,
            version=edit.version,
            changes=edit.changes,
            author=author,
        )
        self._follow_edit(now)
        return edit

    def _follow_edit(self, now: float) -> None:
        """Do a slice of what an edit brings."""
        if not self._editor.following:
            return
        self._tell(self._editor.step(now))
        followed = self._editor.poll_followed()
        if followed is not None:
            self._event(
                "links follow the topology",
                version=followed.version,
                pairs_gained=followed.gained,
                pairs_retiring=followed.retiring,
            )
            self._plan_soon(now)

    def _retire(self, now: float) -> None:
        if self._editor.following:
            return  # what was on its way out may be wanted again
        active = self._publisher.active
        gone, told = self._editor.retire(0 if active is None else active.generation, now)
        self._tell(told)
        for one, other in gone:
            self._event("link taken away", between=[self._name_of(one), self._name_of(other)])
            self._handle_changes(self._lsdb.forget_link(one, other), now)
            self._costs.damping.forget_pair(one, other)

    def debug_state(self) -> Json:
        """All stages' insides, without keys and tokens."""
        return at_once(self.debug_in_parts())

    def debug_in_parts(self) -> Parts[Json]:
        """The same in parts."""
        return {
            "counters": dict(self.counters),
            "plan_due": self._plan_due,
            "reign": self._reign.debug_state(),
            "settling": self._settling.debug_state(),
            "registry": self._registry.debug_state(),
            "adjacency": (yield from self._adjacency.debug_state()),
            "intake": self._intake.debug_state(),
            "lsdb": (yield from self._lsdb.debug_state()),
            **(yield from self._costs.debug_state()),
            "edges": self._edges.pending.debug_state(),
            "publish": self._publisher.debug_state(),
            "rooms": self._rooms.debug_state(),
            "hitless": self._hitless.debug_state(),
        }

    # --- joining -----------------------------------------------------------------------------

    def _check(self, join: Join) -> None:
        if join.version != CONTROL_VERSION:
            raise JoinRefused(
                "version", f"this controller speaks version {CONTROL_VERSION}, the node {join.version}"
            )
        verify_join_token(
            self._options.join_secret,
            join.token,
            name=join.name,
            region=join.region,
            unix_time=self._unix_time(),
        )

    def _refuse(self, conn_id: int, refusal: JoinRefused, now: float) -> None:
        self.counters[f"refused-{refusal.code}"] += 1
        self._outgoing.append((conn_id, Refused(refusal.code, refusal.reason[:_REASON_CHARS])))
        self._close(conn_id, refusal.reason, now)

    def _close(self, conn_id: int, reason: str, now: float) -> None:
        self._outgoing.append((conn_id, Disconnect(reason)))
        self.handle_disconnect(conn_id, now)

    def _make_room(self, join: Join, now: float) -> None:
        """Give a node that still forwards under its index that index back, if a newcomer was just given it.

        Only soon after the newcomer came: later its links and routes are as real as anybody's.
        """
        holder = self._registry.usurper(join)
        if holder is None or now - holder.joined_at > self._options.settle_s:
            return
        self._event("index given back", node=join.name, newcomer=holder.name, index=holder.index)
        if holder.conn_id is not None:
            self._close(holder.conn_id, "another node forwards under this index; join again", now)
        self._give_up(holder, now, reserve=False)

    def _maybe_settle(self, join: Join, was_alone: bool, now: float) -> None:
        """Nodes that carry media come back one by one: no plan without those still missing.

        This is so when the first of all comes back, and when we are a restarted
        controller. The latter is believed once only: a node could say so again
        and again, and no plan would ever be made.
        """
        if join.generation == 0:
            return
        outruns = join.generation > (0 if self._planner.plan is None else self._planner.plan.generation)
        if was_alone or (outruns and not self._was_outrun):
            self._settling.begin(now)
            self._rooms.hold()
            self._event("waiting for nodes to come back", at_most_s=self._options.settle_s)
        self._was_outrun = self._was_outrun or outruns

    def _let_in(self, joined: Joined, join: Join, now: float) -> None:
        member, fresh = joined.member, joined.kind != "resumed"
        self._settling.handle_join()
        self._planner.handle_seen(join.generation)
        self._tell([(member.index, self._welcome(member))])
        links = self._adjacency.handle_join(
            member, fresh=fresh, moved=joined.moved, departed=self._registry.departed(), now=now
        )
        self._tell(links)
        changes = self._lsdb.handle_connected(member.index, fresh=fresh, now=now)
        for index, told in links:
            if index != member.index:
                for removed in told.remove:
                    changes |= self._lsdb.forget_link(index, removed)
        self._handle_changes(changes, now)
        if fresh:
            self._costs.handle_moved(member, self._adjacency.neighbours(member.index))
        if not self._planner.is_outrun:
            # Otherwise it holds newer tables than ours: it is told with the next plan, which outruns them.
            self._tell(self._publisher.handle_join(member.index))
        self._tell(
            self._rooms.handle_announce(
                member.index, join.published, join.subscribed, absent_since=joined.absent_since, now=now
            )
        )
        self._hitless.handle_join(member.index, now)
        self._hitless.handle_changed(self._rooms.poll_changed(), now)
        self._plan_soon(now)
        if self._sweep_due is None:
            self._sweep_due = now + _SWEEP_S

    def _welcome(self, member: Member) -> Welcome:
        options = self._options
        return Welcome(
            member.index,
            options.probe_interval_ms,
            options.dead_after_ms,
            options.report_interval_ms,
            self._reign.epoch,
        )

    # --- planning ----------------------------------------------------------------------------

    def _handle_changes(self, changes: Iterable[Direction], now: float) -> None:
        if self._costs.handle_changes(changes, self._lsdb.state, now):
            self._plan_soon(now)

    def _plan_soon(self, now: float) -> None:
        if self._plan_due is None:
            self._plan_due = now + self._options.debounce_s

    def _renew_soon(self, now: float) -> None:
        """A node wants a newer plan, be it the same. It says so with each report: no oftener than that."""
        if now >= self._planned_at + _RENEWAL_PAUSE_S:
            self._renewal_wanted = True
            self._plan_soon(now)

    def _may_plan(self) -> bool:
        # With nobody connected there is no evidence, and nobody to tell.
        return (
            self._planning.idle
            and not self._settling.waiting
            and not self._reign.lapsed
            and self._registry.connected_count() > 0
        )

    def _replan(self, now: float) -> None:
        self._plan_due = None
        nodes = self._editor.nodes()
        weights = self._costs.weights
        costs, changed = weights.costs_ms, weights.poll_changed()
        # A pair on its way out may be in no table, but in paths that are made from a plan.
        renew = self._renewal_wanted or self._retiring.unplanned
        self._renewal_wanted = False
        self._retiring.handle_begun()
        pins = Pins(stages(self._policy.now, nodes), self._costs.damping.on_probation(now))
        indexes = [node.index for node in nodes]
        self._tell_plan(
            self._planning.begin(indexes, costs, now, changed=changed, renew=renew, pins=pins), now
        )

    def _tell_plan(self, told: Told, now: float) -> None:
        made = self._planning.poll_made()
        if made is not None:
            plan, costs = made
            self._retiring.handle_planned(plan.generation)
            self._hitless.handle_plan(plan, costs, now)
            self._planned_at = now
            self.counters["plans"] += 1
            self._event("plan made", generation=plan.generation, nodes=len(self._registry.members()))
        self._tell(told)

    def _connected(self) -> list[int]:
        return [member.index for member in self._registry.members() if member.connected]

    # --- presence ----------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        """Close silent channels; give up nodes that are dead for long."""
        nodes = self._registry.members()
        self._sweep_due = now + _SWEEP_S if nodes else None
        for member in nodes:
            silent = now - member.last_seen >= self._options.silence_timeout_s
            if member.conn_id is not None and silent:
                self.counters["channel-silent"] += 1
                self._close(member.conn_id, "nothing was heard on this channel", now)
        if self._registry.connected_count() == 0 or self._settling.waiting or self._reign.lapsed:
            return  # an outage of ours says nothing about the nodes
        for member in nodes:
            if member.connected or self._lsdb.is_reached(member.index):
                member.dead_since = None
            elif member.dead_since is None:
                member.dead_since = now
        patience = Patience(self._options.presence_timeout_s, self._options.mass_loss_s)
        for index in patience.given_up({m.index: m.dead_since for m in nodes}, now):
            self._give_up(self._registry.member(index), now)

    def _give_up(self, member: Member, now: float, *, reserve: bool = True) -> None:
        self._event("node gone", node=member.name)
        self.counters["gone"] += 1
        self._tell(self._rooms.handle_gone(member.index))
        self._tell(self._adjacency.handle_gone(member.index))
        self._hitless.forget(member.index)
        self._intake.forget(member.index)
        self._costs.forget(member.index)
        self._edges.pending.forget(member.index)
        self._registry.forget(member.index, reserve=reserve)
        self._handle_changes(self._lsdb.forget(member.index), now)
        self._plan_soon(now)

    def _is_alive(self, index: int) -> bool:
        member = self._registry.by_index(index)
        return member is not None and (member.connected or self._lsdb.is_reached(index))

    def _name_of(self, index: int) -> str:
        member = self._registry.by_index(index)
        return f"node {index}" if member is None else member.name

    # --- sending -----------------------------------------------------------------------------

    def _tell(self, told: Iterable[tuple[int, ControllerMessage]]) -> None:
        """Hand messages to the channels of their nodes. Who has none is told all again when it is back."""
        for index, message in told:
            member = self._registry.by_index(index)
            if member is not None and member.conn_id is not None:
                self._outgoing.append((member.conn_id, self._reign.stamp(message)))

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(CoreEvent(name, fields))
