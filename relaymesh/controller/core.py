"""The controller without its sockets: all stages, tied together in one table.

    join   → membership → tokens → registry → (Welcome) → Joined, Left, Gone → every stage
    report → links: intake → lsdb → costs → replanning → plan → publish → (Snapshot, Delta, Activate)
    stream messages → rooms → (replies, Forward, …); rooms, plan → hitless → (HitlessWays)

In: messages of nodes, by channel, and time. Out: messages by channel, channels to
close, and events worth a log line. It knows no clock, no socket and no
randomness of its own: the Unix time (for token expiry only) and the key source
are given. Nothing a node sends makes it raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from relaymesh.controller.adjacency import KeySource
from relaymesh.controller.edges import EdgeFinder
from relaymesh.controller.editing import Edit, TopologyEditor, prepare
from relaymesh.controller.hitless import HitlessPaths
from relaymesh.controller.membership import Membership
from relaymesh.controller.mesh_state import MeshState
from relaymesh.controller.options import CoreOptions
from relaymesh.controller.outbox import CoreEvent, Disconnect, Outbox, Outgoing
from relaymesh.controller.parts import Parts, at_once
from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.preview import Situation
from relaymesh.controller.queries import Json, MeshView
from relaymesh.controller.reign import Reign
from relaymesh.controller.remembered import Remembered
from relaymesh.controller.replanning import Replanning
from relaymesh.controller.settling import Settling
from relaymesh.controller.stage import Gone, MemberEvent, Stage
from relaymesh.controller.stage_rows import (
    HitlessStage,
    LinkStage,
    PendingStage,
    PublishingStage,
    RoomsStage,
    SettlingStage,
)
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import (
    Join,
    NodeMessage,
    Publish,
    Report,
    SnapshotWanted,
    Subscribe,
    TablesHeld,
    Unpublish,
    Unsubscribe,
)
from relaymesh.topology import Topology

__all__ = ["ControllerCore", "CoreEvent", "CoreOptions", "Disconnect", "Outgoing"]


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
        """*reign*: the leader's term and the durable state of earlier ones; None: the only leader ever."""
        self._reign = reign or Reign()
        self._state = state = MeshState(options, policy, key_source=key_source, reign=self._reign)
        self._outbox = Outbox(state.registry, self._reign)
        self._settling = Settling(options.settle_s)
        hitless = HitlessPaths(state.rooms.hitless_edges)
        replanning = Replanning(state, self._settling, hitless, self._outbox)
        self._links = LinkStage(state, replanning)
        self._edges = EdgeFinder(state.policy, state.registry, state.rooms, state.costs.book, state.publisher)
        settling = SettlingStage(self._settling, state.rooms)
        self._membership = Membership(state, settling, self._outbox, self._follow, unix_time)
        self._editor = TopologyEditor(state, self._links, replanning, self._outbox)
        self._hitless = HitlessStage(hitless, state.rooms)
        # In the order in which timeouts are handled and a new member is taken in.
        self._stages: tuple[Stage, ...] = (
            self._links,
            PublishingStage(state),
            RoomsStage(state.rooms),
            PendingStage(self._edges.pending),
            settling,
            self._membership,
            self._editor,
            replanning,  # after all that asks for plans
            self._hitless,  # after all that changes rooms
        )
        self.view = MeshView(state, self._edges, self._stages)

    # --- in ----------------------------------------------------------------------------------

    def handle_join(self, conn_id: int, join: Join, now: float) -> None:
        """Admit or refuse the node that opened a channel."""
        self._membership.handle_join(conn_id, join, now)

    def handle_message(self, conn_id: int, message: NodeMessage, now: float) -> None:
        """Handle a message of a channel; the first must be a Join."""
        if isinstance(message, Join):
            self.handle_join(conn_id, message, now)
            return
        member = self._membership.handle_heard(conn_id, now)
        if member is None:
            return
        self._state.now = now
        index = member.index
        rooms, publisher, tell = self._state.rooms, self._state.publisher, self._outbox.tell
        match message:
            case Report():
                member.sessions = message.sessions
                self._edges.pending.handle_sessions(index, message.sessions, now)
                self._settling.handle_report(index, message, self._state.connected(), now)
                self._links.handle_report(index, message, now)
            case Publish():
                tell(rooms.handle_publish(index, message, now))
            case Unpublish():
                tell(rooms.handle_unpublish(index, message.participant))
            case Subscribe():
                tell(rooms.handle_subscribe(index, message))
            case Unsubscribe():
                tell(rooms.handle_unsubscribe(index, message.participant))
            case TablesHeld():
                tell(publisher.handle_held(index, message.generation))
            case SnapshotWanted():
                self.counters["snapshot-wanted"] += 1
                tell(publisher.handle_snapshot_wanted(index))
        self._hitless.handle_rooms(now)

    def handle_malformed(self, conn_id: int, error: ProtocolError, now: float) -> None:
        """Refuse and close a channel that carried bytes which are no message."""
        self._membership.handle_malformed(conn_id, str(error), now)

    def handle_disconnect(self, conn_id: int, now: float) -> None:
        """Note that a channel closed, at either end."""
        self._membership.handle_disconnect(conn_id, now)

    def apply_topology(
        self, topology: Topology | Edit, now: float, *, expected: str | None = None, author: str = ""
    ) -> Edit:
        """Replace the topology, prepared or not; *expected* is the version it was made from.

        Raises:
            EditRefused: it does not fit the members, or another version is in force.
        """
        edit = topology if isinstance(topology, Edit) else prepare(topology, self.topology)
        edit = self._editor.apply(edit, expected, author, now)
        self._outbox.tell(self._editor.step(now))
        return edit

    # --- time and membership: the table ------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Time of the next :meth:`handle_timeout` with anything to do; None: never."""
        lapsed = self._reign.lapsed
        dues = (stage.next_timeout() for stage in self._stages if stage.works_lapsed or not lapsed)
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do the work that is due.

        A leader that could not renew its lease makes no plan and no keys, and gives nobody up.
        """
        self._state.now = now
        lapsed = not self._reign.check(now)
        for stage in self._stages:
            if stage.works_lapsed or not lapsed:
                self._outbox.tell(stage.handle_timeout(now))

    def _follow(self, event: MemberEvent, now: float) -> None:
        # What was built last is taken down first: streams end before their links do.
        stages = reversed(self._stages) if isinstance(event, Gone) else self._stages
        for stage in stages:
            self._outbox.tell(stage.handle_member(event, now))

    # --- out ---------------------------------------------------------------------------------

    @property
    def counters(self) -> Counter[str]:
        """Counts of what happened, by name."""
        return self._outbox.counters

    def poll_outgoing(self) -> list[Outgoing]:
        """Messages to send and channels to close, in order."""
        return self._outbox.poll_outgoing()

    def poll_events(self) -> list[CoreEvent]:
        """Events since the last call."""
        return self._outbox.poll_events()

    @property
    def reign(self) -> Reign:
        """The term and lease of this leader."""
        return self._reign

    def remembered(self) -> Remembered:
        """The durable state, for a successor."""
        return Remembered(
            self._state.generation or self._reign.remembered.generation,
            self._state.registry.indexes(),
            self._state.adjacency.key_epochs(),
            self._editor.applied_text,
        )

    # --- queries (long answers in parts: :attr:`view`) ---------------------------------------

    @property
    def active_generation(self) -> int:
        """Generation that packets are stamped with; 0 before the first."""
        return self._state.active_generation

    @property
    def topology(self) -> Topology | None:
        """The topology in force; None when there is none."""
        return self._state.policy.topology

    @property
    def topology_version(self) -> str:
        """Version of the topology in force, which :meth:`apply_topology` expects from editors."""
        return self._editor.version

    @property
    def topology_text(self) -> str | None:
        """The topology in force, as a file."""
        return self._editor.text

    def state(self) -> Json:
        """The mesh, as the API shows it."""
        return at_once(self.view.state())

    def state_in_parts(self) -> Parts[Json]:
        """The same in parts."""
        return self.view.state()

    def path(self, start: str, end: str) -> Json | None:
        """The path between two nodes, by name; None when there is none."""
        return self.view.path(start, end)

    def explanation(self, start: str, end: str) -> Callable[[], Json] | None:
        """The reasons for the path between two nodes: see :meth:`MeshView.explanation`."""
        return self.view.explanation(start, end)

    def routes(self, start: str) -> list[Json] | None:
        """The routing table of a node, by name; None when there is no such node."""
        return at_once(self.view.routes(start))

    def situation(self) -> Situation:
        """A copy of the state for :func:`~relaymesh.controller.preview.preview`."""
        return at_once(self.view.situation())

    def situation_in_parts(self) -> Parts[Situation]:
        """The same in parts."""
        return self.view.situation()

    def debug_state(self) -> Json:
        """Counters and the debug state of all stages, without keys and tokens."""
        return at_once(self.debug_in_parts())

    def debug_in_parts(self) -> Parts[Json]:
        """The same in parts."""
        return {"counters": dict(self.counters), **(yield from self.view.debug())}
