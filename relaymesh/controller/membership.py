"""Membership of the mesh: nodes join, lose their channels, come back, and are given up.

    join → version, token, leader epoch → registry → Welcome → Joined
    closed channel → Left;  death beyond patience → Gone

In: joins, closed channels, any sign of life, time. Out: refusals and welcomes, and
:data:`~relaymesh.controller.stage.MemberEvent`, each followed by all stages before this module goes on.
This module knows no links' keys, routes or streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from relaymesh.controller.mesh_state import MeshState
from relaymesh.controller.outbox import Disconnect, Outbox
from relaymesh.controller.parts import Parts
from relaymesh.controller.presence import Patience
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.registry import Member
from relaymesh.controller.sites import host_of
from relaymesh.controller.stage import Gone, Joined, Left, MemberEvent, Replaced, Told
from relaymesh.controller.stage_rows import SettlingStage
from relaymesh.controller.tokens import verify_join_token
from relaymesh.protocol.messages import CONTROL_VERSION, Join, Refused, Welcome

_SWEEP_S = 0.25  # how often the absent are looked at; the bounds of patience are seconds
_REASON_CHARS = 512  # limit of a Refused


class Membership:
    """Admission and presence of nodes, by channel."""

    works_lapsed: ClassVar[bool] = True

    def __init__(
        self,
        state: MeshState,
        settling: SettlingStage,
        outbox: Outbox,
        hand_out: Callable[[MemberEvent, float], None],
        unix_time: Callable[[], float],
    ) -> None:
        """*hand_out* has all stages follow an event; *unix_time* is for the expiry of tokens."""
        self._state = state
        self._options = state.options
        self._registry = state.registry
        self._reign = state.reign
        self._settling = settling
        self._outbox = outbox
        self._hand_out = hand_out
        self._unix_time = unix_time
        self._was_outrun = False
        self._sweep_due: float | None = None

    # --- channels ----------------------------------------------------------------------------

    def handle_join(self, conn_id: int, join: Join, now: float) -> None:
        """Admit or refuse the node that opened a channel."""
        self._reign.check(now)
        if self._registry.by_conn(conn_id) is not None:
            self.refuse(conn_id, JoinRefused("malformed", "this channel has joined already"), now)
            return
        was_alone = self._registry.connected_count() == 0
        try:
            self._check_token(join)
            self._check_reign(join)
            self._make_room(join, now)
            admission = self._registry.join(join, conn_id, now)
        except JoinRefused as refusal:
            self._outbox.event("node refused", node=join.name, code=refusal.code, reason=refusal.reason)
            self.refuse(conn_id, refusal, now)
            return
        member, kind = admission.member, admission.kind
        self._outbox.event("node joined", node=member.name, index=member.index, kind=kind)
        self._outbox.counters[f"join-{kind}"] += 1
        if admission.replaced_conn is not None:
            self._outbox.put(admission.replaced_conn, Disconnect("the node opened another channel"))
            self._hand_out(Replaced(member), now)
        self._maybe_settle(join, was_alone, now)
        self._outbox.tell([(member.index, self._welcome(member))])
        fresh = kind != "resumed"
        self._hand_out(Joined(member, join, fresh, admission.moved, admission.absent_since), now)
        if self._sweep_due is None:
            self._sweep_due = now + _SWEEP_S

    def handle_heard(self, conn_id: int, now: float) -> Member | None:
        """Note a sign of life; the member of this channel, or None where the channel was refused."""
        member = self._registry.by_conn(conn_id)
        if member is None:
            self.refuse(conn_id, JoinRefused("malformed", "the first message must be a join"), now)
            return None
        member.last_seen = now
        self._reign.check(now)
        return member

    def handle_malformed(self, conn_id: int, reason: str, now: float) -> None:
        """Refuse a channel that carried bytes which are no message."""
        self.refuse(conn_id, JoinRefused("malformed", reason[:_REASON_CHARS]), now)

    def handle_disconnect(self, conn_id: int, now: float) -> None:
        """Note that a channel closed, at either end."""
        member = self._registry.leave(conn_id, now)
        if member is None:
            return
        self._outbox.event("node left", node=member.name)
        self._outbox.counters["channel-closed"] += 1
        self._hand_out(Left(member), now)

    def refuse(self, conn_id: int, refusal: JoinRefused, now: float) -> None:
        """Answer a channel with *refusal*, and close it."""
        self._outbox.counters[f"refused-{refusal.code}"] += 1
        self._outbox.put(conn_id, Refused(refusal.code, refusal.reason[:_REASON_CHARS]))
        self._close(conn_id, refusal.reason, now)

    # --- as a stage --------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Time of the next sweep, or of the next step of the lease."""
        dues = (self._reign.next_timeout(), self._sweep_due)
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> Told:
        """Send nodes of a lapsed leader away; sweep the absent."""
        if self._reign.send_away(now):
            for member in self._registry.members():
                if member.conn_id is not None:
                    self._close(member.conn_id, "the store is out of reach; another controller may lead", now)
        if self._sweep_due is not None and now >= self._sweep_due:
            self._sweep(now)
        return ()

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Nothing: the events are this module's own."""
        return ()

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"reign": self._reign.debug_state(), "registry": self._registry.debug_state()}

    # --- admission ---------------------------------------------------------------------------

    def _check_token(self, join: Join) -> None:
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
            site=None if join.site is None else join.site.name,
        )

    def _check_reign(self, join: Join) -> None:
        """Refuse joins that only the newest leader may accept."""
        if not self._reign.handle_heard(join.leader_epoch):
            raise JoinRefused("standby", f"the node has heard of the leader epoch {join.leader_epoch}")
        if self._reign.lapsed:
            member = self._registry.by_name(join.name)
            if member is None or member.boot_id != join.boot_id:
                raise JoinRefused("standby", "the store is out of reach: only nodes that were in are let in")

    def _make_room(self, join: Join, now: float) -> None:
        """Give a node that still forwards under its index that index back, if a newcomer was just given it.

        Only soon after the newcomer came: later its links and routes are as real as anybody's.
        """
        holder = self._registry.usurper(join)
        if holder is None or now - holder.joined_at > self._options.settle_s:
            return
        self._outbox.event("index given back", node=join.name, newcomer=holder.name, index=holder.index)
        if holder.conn_id is not None:
            self._close(holder.conn_id, "another node forwards under this index; join again", now)
        self._give_up(holder, now, reserve=False)

    def _maybe_settle(self, join: Join, was_alone: bool, now: float) -> None:
        """Hold plans back while nodes that carry media come back one by one.

        This is so when the first of all comes back, and when we are a restarted
        controller. The latter is believed once only: a node could say so again
        and again, and no plan would ever be made.
        """
        if join.generation == 0:
            return
        outruns = join.generation > self._state.generation
        if was_alone or (outruns and not self._was_outrun):
            self._settling.begin(now)
            self._outbox.event("waiting for nodes to come back", at_most_s=self._options.settle_s)
        self._was_outrun = self._was_outrun or outruns

    def _welcome(self, member: Member) -> Welcome:
        options = self._options
        return Welcome(
            member.index,
            options.probe_interval_ms,
            options.dead_after_ms,
            options.report_interval_ms,
            self._reign.epoch,
        )

    # --- presence ----------------------------------------------------------------------------

    def _close(self, conn_id: int, reason: str, now: float) -> None:
        self._outbox.put(conn_id, Disconnect(reason))
        self.handle_disconnect(conn_id, now)

    def _sweep(self, now: float) -> None:
        """Close silent channels; give up nodes that have long been dead."""
        nodes = self._registry.members()
        self._sweep_due = now + _SWEEP_S if nodes else None
        for member in nodes:
            silent = now - member.last_seen >= self._options.silence_timeout_s
            if member.conn_id is not None and silent:
                self._outbox.counters["channel-silent"] += 1
                self._close(member.conn_id, "nothing was heard on this channel", now)
        if self._registry.connected_count() == 0 or self._settling.waiting or self._reign.lapsed:
            return  # an outage of ours says nothing about the nodes
        for member in nodes:
            if self._state.is_alive(member.index):
                member.dead_since = None
            elif member.dead_since is None:
                member.dead_since = now
        patience = Patience(self._options.presence_timeout_s, self._options.mass_loss_s)
        hosts = {member.index: host_of(member) for member in nodes}
        for index in patience.given_up({m.index: m.dead_since for m in nodes}, now, hosts.__getitem__):
            self._give_up(self._registry.member(index), now)

    def _give_up(self, member: Member, now: float, *, reserve: bool = True) -> None:
        """*reserve*: keep its index for its name while there is room."""
        self._outbox.event("node gone", node=member.name)
        self._outbox.counters["gone"] += 1
        self._hand_out(Gone(member), now)
        self._registry.forget(member.index, reserve=reserve)
