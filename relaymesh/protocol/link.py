"""One neighbour: what is sealed and opened; probes, liveness, repair and rate, composed.

In: datagrams from the neighbour's address, frames to send, keys from the
controller, ``now``. Out: routed frames, datagrams, :class:`LinkUp` and
:class:`LinkDown`, and a :class:`LinkSample` for the link report.

A datagram is taken whole or not at all: until its seal has opened and every
link-local frame in it was decoded, nothing changes, and nothing is answered.
What was lost and is recovered is handed up as if it had arrived, once.
This module knows no socket, no address and no route.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from relaymesh.kernels.aead import open_batch
from relaymesh.protocol.acks import Ack, encode_ack
from relaymesh.protocol.arq import Retransmission
from relaymesh.protocol.conduct import Conduct
from relaymesh.protocol.contents import Contents, read_contents
from relaymesh.protocol.contexts import SentContexts
from relaymesh.protocol.control import (
    Control,
    ControlAck,
    ControlChannels,
    ControlEvent,
    ControlResetFrame,
)
from relaymesh.protocol.datagram import (
    MAX_PLAINTEXT_BYTES,
    OVERHEAD_BYTES,
    SealJob,
    open_job,
    read_header,
    seal_jobs,
)
from relaymesh.protocol.departures import Departures
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fates import Fates
from relaymesh.protocol.fec import Repair
from relaymesh.protocol.frames import (
    ACK,
    CONTEXT_UNKNOWN,
    CONTROL,
    CONTROL_ACK,
    CONTROL_RESET,
    ECHO,
    PROBE,
    REPAIR,
    RETRANSMISSION,
    ROUTED_FIRST,
    TO_END_FIRST,
    TO_END_LAST,
    ContextUnknown,
    Echo,
    Probe,
    encode_echo,
    encode_probe,
    is_routed_alone,
    priority_of,
    read_stream,
    restore,
)
from relaymesh.protocol.intake import Intake
from relaymesh.protocol.keyring import Key, KeyRing
from relaymesh.protocol.link_events import (
    KeyframeWanted,
    LinkDown,
    LinkEvent,
    LinkSample,
    LinkStepped,
    LinkUp,
)
from relaymesh.protocol.liveness import Liveness
from relaymesh.protocol.outflow import Outflow
from relaymesh.protocol.probe import Prober
from relaymesh.protocol.recovery import Sender
from relaymesh.protocol.repair import Adaptive, RepairPolicy

if TYPE_CHECKING:
    from random import Random

MAX_ECHOES = 60  # queued; they and a probe fit one datagram
_MAX_RTT_MS = 60_000.0  # what a link report can say
_Recovered = list[bytes] | tuple[()]  # routed frames, whole
_NOTHING: tuple[()] = ()


class Link:
    """The protocol towards one neighbour.

    ``probe_interval`` and ``dead_after`` are seconds. ``rng`` spreads probes of
    many links over time and gives the first probe sequence; no key comes from it.
    ``repair`` says what is done about loss on the way to the peer.
    """

    def __init__(
        self,
        *,
        own_index: int,
        peer_index: int,
        probe_interval: float,
        dead_after: float,
        rng: Random,
        repair: RepairPolicy | None = None,
    ) -> None:
        self.own_index = own_index
        self.peer_index = peer_index
        self.due = math.inf  # when next_timeout() said it is, at the last poll_jobs()
        self._probe_interval = probe_interval
        self._liveness = Liveness(probe_interval, dead_after)
        self._media_packets = 0  # received
        self._rng = rng
        self._keys = KeyRing(own_index)
        self._prober = Prober(rng.getrandbits(32))
        self._fates = Fates()
        self._rtt_steps = 0  # that were told
        self._echoes: list[bytes] = []  # encoded, to be sent at once
        self._events: list[LinkEvent] = []
        self._received_packets = 0
        self._echoes_dropped = 0
        self._conduct = Conduct()
        self._policy = repair or Adaptive()
        self._sender = Sender(self._policy)
        self._contexts = SentContexts()
        self._outflow = Outflow(self._sender, self._contexts.wholes)
        self._departures = Departures(self._keys, self._contexts, self._outflow, self._liveness)
        self._intake = Intake(self._keys)
        self._control = ControlChannels(rng)
        self._ack_bytes = 0  # of ACKs, with their share of the datagrams

    # --- keys ------------------------------------------------------------------------------------

    def install_key(self, epoch: int, send_key: bytes, receive_key: bytes, now: float) -> None:
        """Hold the keys of a new *epoch* (0..255): heard at once, sent with after the overlap rule.

        The same epoch with the same keys again changes nothing, so that the
        packet numbers go on.

        Raises:
            ProtocolError: invalid: a key of the wrong length, or one that already serves elsewhere here.
        """
        if not self._keys.install(epoch, send_key, receive_key, now):
            return
        self._intake.hold_keys()
        if self._liveness.next_probe_at is None:
            self._liveness.next_probe_at = now + self._rng.random() * self._probe_interval

    # --- reliable control ------------------------------------------------------------------------

    def send_control(self, channel: int, data: bytes, now: float) -> None:
        """Send a small message, in order and once, as soon as the link is up; see :mod:`~.control`.

        Raises:
            ChannelFull: too many wait.
            ValueError: no such channel, or the message is too long.
        """
        self._control.send(channel, data, now)

    def poll_control(self) -> list[ControlEvent]:
        """Messages of the peer, and streams that started over, in order."""
        return self._control.poll_events()

    # --- the packet path -------------------------------------------------------------------------

    def send_jobs(self, frame: bytes, now: float) -> list[SealJob]:
        """The datagrams to be sealed and sent at once for a routed *frame*, in the order of their numbers.

        A small frame shares its datagram with others of the same wake: :meth:`poll_jobs` at the end of it has
        what is not full before. Other frames may wait, or be left out.

        Raises:
            ProtocolError: unknown_key before the first key, oversized when it is longer than a frame may be.
        """
        priority = priority_of(frame)
        admitted = self._outflow.admit(frame, priority, now)
        if admitted is None:
            return []
        return self._departures.add(admitted, priority, now)

    def send(self, frame: bytes, now: float) -> list[bytes]:
        """The datagrams of a routed *frame*, sealed; what waits to share a datagram goes with it."""
        return seal_jobs(self.send_jobs(frame, now) + self._departures.take_ready(now))

    def seal(self, frame: bytes, now: float) -> bytes:
        """The datagram around one encoded *frame* (or several, joined), whatever the path carries.

        Raises:
            ProtocolError: unknown_key before the first key, oversized when it fits no datagram.
        """
        job, _ = self._departures.assign(frame, priority_of(frame), now)
        return seal_jobs([job])[0]

    def expect(self, epoch: int, number: int, short: bool, now: float) -> tuple[Key, int]:
        """(the key to open a datagram with, its packet number), by what its header says; nothing is changed.

        Raises:
            ProtocolError: unknown_key, misconduct or replayed.
        """
        key = self._keys.get(epoch)
        if key is None:
            raise ProtocolError("unknown_key", f"epoch {epoch}")
        if now < self._conduct.held_until:
            raise ProtocolError("misconduct", self._conduct.last_offence)
        if short:
            number = key.expand(number)
        if not key.window.is_new(number):
            raise ProtocolError("replayed", f"{number}")
        return key, number

    def accept(self, key: Key, number: int, plaintext: bytes, now: float) -> list[bytes]:
        """The routed frames of an authentic *plaintext*, or recovered by it, whole; local ones are consumed.

        *key* and *number* are those that :meth:`expect` gave; a batch may hold one twice. Routed
        frames are not decoded: a transit node has no need to, and forwards types it does not know.

        Raises:
            ProtocolError: replayed or malformed. The link is as it was before.
        """
        contents: Contents | None = None
        try:
            media = None
            # Nearly every one is compact, and alone.
            if plaintext and TO_END_FIRST <= plaintext[0] <= TO_END_LAST:
                _, media = restore(plaintext, key.contexts)
            if media is not None:
                routed = [media]
            elif is_routed_alone(plaintext):
                routed = [plaintext]
            else:
                contents = read_contents(plaintext, key.contexts)
                routed = contents.routed
        except ProtocolError as error:
            raise ProtocolError("malformed", str(error)) from None
        if not key.window.mark(number):
            raise ProtocolError("replayed", f"{number}")
        # From here on the datagram is accepted whole.
        self._received_packets += 1
        self._liveness.handle_heard(now)
        self._keys.handle_heard(key)
        arrivals = key.arrivals
        late = number < arrivals.top
        packet_id = key.prefix | number
        eliciting = contents is None or contents.eliciting
        arrivals.note(number, now, eliciting)
        receiver = self._intake.receiver
        if routed or (contents is not None and contents.fragment is not None):
            self._media_packets += 1
            if receiver.keeps:
                receiver.keep(packet_id, plaintext, now)
        if contents is not None:
            routed = self._take_contents(contents, key, packet_id, now)
        if late:
            routed += self._intake.handle_late(packet_id, now)
        return routed

    def _take_contents(self, contents: Contents, key: Key, packet_id: int, now: float) -> list[bytes]:
        """Act on the frames of a datagram that arrived; the routed ones among them, and those recovered."""
        routed = self._intake.take(contents, key, packet_id, now)
        for kind, frame in contents.local:
            routed += _LOCAL[kind](self, frame, now)
        return routed

    def handle_datagram(self, datagram: bytes, now: float) -> list[bytes]:
        """Open a single *datagram* and :meth:`accept` it.

        Raises:
            ProtocolError: oversized, truncated, version, unknown_sender, unknown_key, misconduct, replayed or
                unauthentic; malformed when the seal opened. The link is as it was before.
        """
        epoch, sender, number, short = read_header(datagram)
        if sender != self.peer_index:
            raise ProtocolError("unknown_sender", f"{sender}")
        key, number = self.expect(epoch, number, short, now)
        [plaintext] = open_batch([open_job(key.opener, datagram, number)])
        if plaintext is None:
            raise ProtocolError("unauthentic")
        return self.accept(key, number, plaintext, now)

    # --- frames of the peer for this link, by the table at the end -----------------------------------

    def _handle_probe(self, probe: Probe, now: float) -> _Recovered:
        if probe.deaf and self._liveness.believes_deaf(now):
            self._go_down("unheard")
        echo = self._prober.handle_probe(probe, now)
        if len(self._echoes) < MAX_ECHOES:
            self._echoes.append(encode_echo(echo))
        else:
            self._echoes_dropped += 1
        return _NOTHING

    def _handle_echo(self, echo: Echo, now: float) -> _Recovered:
        prober = self._prober
        if prober.handle_echo(echo, now):
            if self._liveness.handle_echo(now):
                self._fates.handle_up(now)
                self._events.append(LinkUp(self.peer_index, prober.rtt * 1e3))
                self._control.handle_link(True, now)
            elif prober.steps != self._rtt_steps:
                self._events.append(LinkStepped(self.peer_index))
            self._rtt_steps = prober.steps
        return _NOTHING

    def _handle_control(self, frame: Control | ControlAck | ControlResetFrame, now: float) -> _Recovered:
        self._control.handle_frame(frame, self._prober.rtt, now)
        return _NOTHING

    def _handle_ack(self, ack: Ack, now: float) -> _Recovered:
        key = self._keys.get(ack.epoch)
        if key is not None:  # else of a key that is held no more
            seen = ack.base + ack.covered - 1
            if key.acked < seen <= key.sent:
                key.acked = seen
            self._sender.handle_ack(ack, key.prefix, key.sent, self._departures.media_bytes, now)
            self._contexts.handle_ack(ack, key.prefix)
            self._outflow.handle_ack(ack, now)
            if self._fates.handle_ack(self._sender.packets.estimate, now):
                self._events.append(LinkStepped(self.peer_index))
        return _NOTHING

    def _handle_unknown(self, unknown: ContextUnknown, now: float) -> _Recovered:
        self._contexts.handle_unknown(unknown)
        return _NOTHING

    def _handle_retransmission(self, frame: Retransmission, now: float) -> _Recovered:
        return self._intake.handle_retransmission(frame, now)

    def _handle_repair(self, repair: Repair, now: float) -> _Recovered:
        return self._intake.handle_repair(repair, now)

    # --- time ------------------------------------------------------------------------------------

    def poll_jobs(self, now: float) -> list[SealJob]:
        """Probes, echoes, ACKs and repair that are due; to be sealed and sent at once.

        After it :attr:`due` says what :meth:`next_timeout` would.
        """
        jobs = self._departures.take_ready(now)
        due = self._own_due()
        if due <= now or self._echoes or self._liveness.probe_due:
            jobs += self._due_jobs(now)
            due = self._own_due()
        if self._liveness.next_probe_at is None:
            self.due = math.inf
        else:
            alive = self._liveness.due(self._prober.rtt)
            self.due = alive if alive < due else due
        return jobs

    def _own_due(self) -> float:
        """When ACKs, control, words of unknown contexts or what waits to be sent are due."""
        due = self._outflow.due
        if self._control.due < due:
            due = self._control.due
        if self._intake.unknown_contexts.due < due:
            due = self._intake.unknown_contexts.due
        for tracker in self._keys.trackers:  # on the packet path: no generator
            if tracker.due < due:
                due = tracker.due
        return due

    def _due_jobs(self, now: float) -> list[SealJob]:
        jobs = self._measurements(now)
        if self._control.due <= now:
            jobs += self._control_jobs(now)
        if self._outflow.due <= now:
            for frame, original in self._outflow.poll(now):
                jobs += self._assign_due(frame, original, now)
            while (waited := self._outflow.pop(now)) is not None:
                jobs += self._assign_due(*waited, now)
        return jobs

    def poll_datagrams(self, now: float) -> list[bytes]:
        """The same, sealed."""
        return seal_jobs(self.poll_jobs(now))

    def _assign_due(self, frame: bytes, original: int | None, now: float) -> list[SealJob]:
        """Repair, or a routed frame that waited."""
        if frame[0] >= ROUTED_FIRST:
            return self._departures.whole(frame, priority_of(frame), now)
        job, packet_id = self._departures.assign(frame, 0, now)
        if original is not None:
            self._sender.note_retransmission(packet_id, original)
        return [job]

    def _control_jobs(self, now: float) -> list[SealJob]:
        plaintexts = [b""]
        for frame in self._control.poll_frames(self._prober.rtt, now):
            if len(plaintexts[-1]) + len(frame) > MAX_PLAINTEXT_BYTES:
                plaintexts.append(b"")
            plaintexts[-1] += frame
        return [self._departures.assign(plaintext, 0, now)[0] for plaintext in plaintexts if plaintext]

    def _measurements(self, now: float) -> list[SealJob]:
        frames, self._echoes = self._echoes, []
        if self._liveness.probe_due:
            self._liveness.probe_due = False
            frames.append(encode_probe(self._prober.probe(now, deaf=self._liveness.deaf)))
        frames += self._intake.unknown_contexts.poll(now)
        plaintext, jobs = b"".join(frames), []
        for key in self._keys.held():
            if (ack := key.arrivals.poll(now)) is None:
                continue
            encoded = encode_ack(ack)
            self._ack_bytes += len(encoded) if plaintext else len(encoded) + OVERHEAD_BYTES
            if len(plaintext) + len(encoded) > MAX_PLAINTEXT_BYTES:
                jobs.append(self._departures.assign(plaintext, 0, now)[0])
                plaintext = b""
            plaintext += encoded
        if plaintext:
            jobs.append(self._departures.assign(plaintext, 0, now)[0])
        return jobs

    @property
    def has_told(self) -> bool:
        """Whether :meth:`poll_events` or :meth:`poll_control` has something: mostly not."""
        return bool(self._events or self._outflow.wanting or self._control.told)

    def poll_events(self) -> list[LinkEvent]:
        """Return the events since the last call, in order."""
        for stream in self._outflow.take_wanting():
            self._events.append(KeyframeWanted(self.peer_index, *read_stream(stream)))
        events, self._events = self._events, []
        return events

    def next_timeout(self) -> float | None:
        """The time at which to call :meth:`handle_timeout`; ``None`` before the first key."""
        if self._liveness.next_probe_at is None:
            return None
        return min(self._liveness.due(self._prober.rtt), self._own_due())

    def handle_timeout(self, now: float) -> None:
        """Make a probe due and judge whether the link is dead; early calls do nothing."""
        live, prober = self._liveness, self._prober
        if not live.handle_wake(prober.rtt, now):
            return
        assert live.next_probe_at is not None, "else nothing is due"
        if now >= live.next_probe_at:
            live.handle_interval(
                loss_in=prober.loss_in(now),
                jitter=prober.jitter,
                media_packets=self._departures.media_packets + self._media_packets,
                now=now,
            )
            self._sender.forget_old(now)
            self._intake.fragments.forget_old(now)
            if self._fates.handle_probes(prober, now):
                self._events.append(LinkStepped(self.peer_index))
            if self._conduct.judge(self._offences(), self._received_packets, now) is not None:
                self._begin_anew()
        else:
            live.fill(now)
        if (reason := live.judge(prober.rtt, now)) is not None:
            self._go_down(reason)

    def _offences(self) -> dict[str, int]:
        """Counts of what an honest peer does never or seldom, by the names of :mod:`~.conduct`."""
        intake = self._intake
        return {
            "acks_invalid": self._sender.packets.acks_invalid,
            "blocks_invalid": intake.receiver.blocks_invalid,
            "recovered_malformed": intake.malformed,
            "fragments_invalid": intake.fragments.invalid,
            "retransmissions_useless": intake.receiver.useless,
            "outages": sum([tracker.outages for tracker in self._keys.trackers]),
            "echoes_unmatched": self._prober.echoes_unmatched,
            "echoes_dropped": self._echoes_dropped,
            "contexts_unknown": intake.unknown_contexts.dropped,
        }

    def _begin_anew(self) -> None:
        """The peer misbehaved: forget all it told us; keys, packet numbers and replay windows stay."""
        self._sender = Sender(self._policy)
        self._outflow = self._departures.outflow = Outflow(self._sender, self._contexts.wholes)
        self._intake.begin_anew()
        for tracker in self._keys.trackers:
            tracker.forget()
        self._echoes.clear()
        if self._liveness.up:
            self._go_down("misconduct")

    def _go_down(self, reason: Literal["silent", "unheard", "misconduct"]) -> None:
        self._liveness.handle_down()
        self._prober.forget()
        self._fates.forget()
        self._sender.packets.estimate.forget()
        self._outflow.forget()
        self._contexts.void()
        self._control.handle_link(False, self._liveness.heard_at)
        self._events.append(LinkDown(self.peer_index, reason))

    # --- telling ---------------------------------------------------------------------------------

    @property
    def short(self) -> bool:
        """True while more is to be sent than the path carries."""
        return self._outflow.short

    def take_unacknowledged(self) -> list[bytes]:
        """Take the frames sealed recently and not known to have arrived, oldest first.

        For a link that went down: who takes them sends them another way, and this link sends them no more.
        """
        self._sender.drop_outbox()
        sources = self._sender.packets.take_unacknowledged()
        ready = self._departures.drop_ready()
        return self._contexts.all_wholes(sources) + ready + self._outflow.take_waiting()

    def sample(self, now: float) -> LinkSample:
        """Return the measurements up to *now*."""
        return LinkSample(
            up=self._liveness.up,
            rtt_ms=min(_MAX_RTT_MS, self._prober.rtt * 1e3),
            jitter_ms=min(_MAX_RTT_MS, self._prober.jitter * 1e3),
            loss_out=self._fates.out.loss,
            loss_in=self._fates.back.loss,
            sent_packets=self._departures.sent_packets,
            received_packets=self._received_packets,
            available_kbps=self._outflow.available_kbps,
            used_kbps=self._outflow.used / 125,
            shed_kbps=self._outflow.shed_kbps,
            queue_ms=min(_MAX_RTT_MS, self._outflow.queue_ms),
            burst=self._fates.out.burst,
            residual_loss=self._sender.residual_loss,
        )

    def debug_state(self) -> dict[str, object]:
        """Everything that can change, without keys."""
        return {
            "peer": self.peer_index,
            **self._liveness.debug_state(),
            **self._keys.debug_state(),
            "echoes_queued": len(self._echoes),
            "events_queued": len(self._events),
            "sent_packets": self._departures.sent_packets,
            "received_packets": self._received_packets,
            "unknown_frames": self._intake.unknown_frames,
            "echoes_dropped": self._echoes_dropped,
            "conduct": self._conduct.debug_state(),
            "prober": self._prober.debug_state(),
            "fates": self._fates.debug_state(),
            "media_bytes": self._departures.media_bytes,
            "ack_bytes": self._ack_bytes,
            "repair": self._sender.debug_state(),
            "outflow": self._outflow.debug_state(),
            "control": self._control.debug_state(),
            "recovered": {**self._intake.receiver.debug_state(), "malformed": self._intake.malformed},
            "fragments": self._intake.fragments.debug_state(),
            "contexts": {**self._contexts.debug_state(), "unknown": self._intake.unknown_contexts.dropped},
        }


# Type → who acts on it (the routed frames that it recovered).
_LOCAL: dict[int, Callable[[Link, Any, float], _Recovered]] = {
    PROBE: Link._handle_probe,
    ECHO: Link._handle_echo,
    ACK: Link._handle_ack,
    REPAIR: Link._handle_repair,
    RETRANSMISSION: Link._handle_retransmission,
    CONTEXT_UNKNOWN: Link._handle_unknown,
    CONTROL: Link._handle_control,
    CONTROL_ACK: Link._handle_control,
    CONTROL_RESET: Link._handle_control,
}
