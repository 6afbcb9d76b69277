"""The send queue of one link: its rate, its order, and the layers left out while the path is short.

    frames → layers (left out?) → pacer → (sealed by the link) → … → ACKs → rate

In: routed frames to send, frames of repair, what ACKs tell. Out: the frames whose turn it is.
While the path was never seen full nothing waits and nothing is left out: a frame goes
at once. Otherwise all that is sent counts, repair too. Of each picture that is left
out the peer is told by a SKIP frame, so that it does not look like loss further on.
Knows no keys and no addresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from relaymesh.protocol import frames
from relaymesh.protocol.acks import DELAY_UNKNOWN, TICK, Ack
from relaymesh.protocol.congestion import RateControl
from relaymesh.protocol.datagram import OVERHEAD_BYTES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.layers import Layers
from relaymesh.protocol.pacer import MEDIA_LANES, REPAIR_LANES, Pacer
from relaymesh.protocol.recovery import Sender
from relaymesh.protocol.seqnum import Extender

USE_WINDOW = 0.2  # seconds over which use is measured
SKIP_LANE = MEDIA_LANES[1]  # with keyframes: small, and many wait for it
CODE_LANE = REPAIR_LANES[2]  # erasure coding covers all classes; as repair of the base
RETRANSMISSION_HEAD = 8  # bytes of a RETRANSMISSION before the frames in it
MAX_SKIPS = 4096  # streams with a picture that is just left out
SKIP_AGE = 0.1  # seconds after which what is left out is told though nothing of the stream went since

_Waiting = tuple[bytes, int | None]  # (frame, the original if it is a retransmission)


@dataclass(slots=True)
class _Skip:
    frame: bytes  # one of those left out
    first: int  # u32
    since: float  # seconds
    packets: int = 0
    pictures: int = 0


class Outflow:
    """The sending side of one link, above its keys."""

    def __init__(self, sender: Sender, wholes: Callable[[bytes], list[bytes]]) -> None:
        """*wholes* gives the frames that were sent as a source."""
        self.rate = RateControl()
        self.used = 0.0  # bytes/s, all datagrams
        self._sender = sender
        self._wholes = wholes
        self._layers = Layers()
        self._pacer: Pacer[_Waiting] = Pacer()
        self._skips: dict[bytes, _Skip] = {}
        self.wanting: dict[bytes, None] = {}  # streams of which a keyframe would help, until they are taken
        self._sent_bytes = self._enhancement_bytes = 0
        self._use_from: tuple[float, int, int] = (-math.inf, 0, 0)  # when, and both of the above
        self._others = 0.0  # bytes/s, all but enhancement layers
        self._fillings = 0
        self._ticks = Extender(32)  # of the peer's clock

    @property
    def due(self) -> float:
        """The time at which :meth:`poll` has something."""
        pacer = self._pacer
        return min(self._sender.due, pacer.next_timeout()) if pacer.waiting_bytes else self._sender.due

    def admit(self, frame: bytes, priority: int, now: float) -> bytes | None:
        """Return the routed *frame* of a class as it is to be sent at once; None: it waits or is left out."""
        if frame[0] == frames.MEDIA and (self._layers.active or priority == frames.ENHANCEMENT):
            admitted = self._select(frame, now)
            if admitted is None:
                return None
            frame = admitted
        if self.rate.rate == math.inf and not self._pacer.waiting_bytes:
            return frame
        if not self._pacer and self._pacer.may_send(now):
            return frame
        self._push((frame, None), MEDIA_LANES[priority], len(frame) + OVERHEAD_BYTES, now)
        return None

    def _push(self, item: _Waiting, lane: int, size: int, now: float) -> None:
        self._pacer.push(item, lane, size, now)
        self._note_dropped()

    def note_sent(self, packet_id: int, frame: bytes, priority: int, size: int, now: float) -> None:
        """*frame* of a class is sent in a datagram of *size* bytes."""
        self._sender.note_sent(packet_id, frame, priority, size, now)
        self._sent_bytes += size
        if self.rate.rate != math.inf:
            self._pacer.spend(size)
        if priority == frames.ENHANCEMENT:
            self._enhancement_bytes += size

    def poll(self, now: float) -> list[_Waiting]:
        """Return the frames to send now; note each by :meth:`note_sent` before the next is taken."""
        limited = self.rate.limited
        due: list[_Waiting] = []
        for item in self._sender.poll(now):
            frame, original = item
            if not limited:
                due.append(item)
            elif original is None:
                self._push(item, CODE_LANE, len(frame) + OVERHEAD_BYTES, now)
            elif self._is_shed(original):
                self._sender.give_up(original, now)  # the room is for what goes
            else:
                lane = REPAIR_LANES[frames.priority_of(frame[RETRANSMISSION_HEAD:])]
                self._push(item, lane, len(frame) + OVERHEAD_BYTES, now)
        self._note_given_up(now)
        return due

    def pop(self, now: float) -> _Waiting | None:
        """The next that waited and may go now."""
        item = self._pacer.pop(now)
        self._note_dropped()
        return item

    # --- leaving out -----------------------------------------------------------------------------

    def _select(self, frame: bytes, now: float) -> bytes | None:
        """*frame*, as the end of its picture if all behind it is left out; None: it is left out."""
        tag = _tag_of(frame)
        if tag is None:
            return frame  # the far end will count it
        layers = self._layers
        if not layers.offer(tag, len(frame), now):
            self._leave_out(frame, tag, now)
            return None
        if tag.stream in self._skips:
            self._tell_skip(tag, now)  # before what closes up to it
        if layers.active and tag.end and not tag.marker and layers.ends_picture(tag):
            return frames.with_marker(frame)
        return frame

    def _leave_out(self, frame: bytes, tag: frames.MediaTag, now: float) -> None:
        skip = self._skips.get(tag.stream)
        if skip is not None and tag.sequence != (skip.first + skip.packets) & 0xFFFFFFFF:
            self._tell_skip(tag, now)
            skip = None
        if skip is None:
            if len(self._skips) >= MAX_SKIPS:
                self._tell_skip(frames.read_tag(next(iter(self._skips.values())).frame), now)
            skip = self._skips[tag.stream] = _Skip(frame, tag.sequence, now)
        skip.packets += 1
        skip.pictures += tag.end and tag.layers < 8  # the picture goes on without its upper spatial layers
        # One word for as much as can be, but soon where somebody is to act on it.
        ends = tag.marker and self._layers.wants_keyframe(tag)
        if ends or skip.packets == 255 or now - skip.since >= SKIP_AGE:
            self._tell_skip(tag, now)

    def _tell_skip(self, tag: frames.MediaTag, now: float) -> None:
        skip = self._skips.pop(tag.stream)
        keyframe = self._layers.wants_keyframe(tag)
        if keyframe:
            self.wanting[tag.stream] = None
        told = frames.skip_like(skip.frame, skip.first, skip.packets, skip.pictures, keyframe=keyframe)
        self._push((told, None), SKIP_LANE, len(told) + OVERHEAD_BYTES, now)

    def _is_shed(self, original: int) -> bool:
        """Whether a lost packet is of a layer that is left out now."""
        lost = self._sender.packets.lost.get(original)
        if lost is None or not frames.is_enhancement(lost.source):
            return False
        tags = [_tag_of(frame) for frame in self._wholes(lost.source)]
        return bool(tags) and all(tag is not None and self._layers.is_shed(tag) for tag in tags)

    def _note_given_up(self, now: float) -> None:
        # A path that was never full loses at random: only a player knows what that breaks.
        if self.rate.limited:
            for source in self._sender.take_given_up(now):
                self._note_broken(source)

    def _note_dropped(self) -> None:
        """Part of a picture did not go."""
        for frame, original in self._pacer.take_dropped():
            lost = None if original is None else self._sender.packets.lost.get(original)
            self._note_broken(frame if lost is None else lost.source)

    def _note_broken(self, source: bytes) -> None:
        """Nobody gets the frames of *source*: their streams need a keyframe."""
        for frame in self._wholes(source):
            tag = _tag_of(frame) if frame[0] == frames.MEDIA else None
            if tag is not None and self._layers.note_broken(tag):
                self.wanting[tag.stream] = None

    def take_wanting(self) -> list[bytes]:
        """Streams (their headers) of which a keyframe was found to help since the last call."""
        if not self.wanting:
            return []
        wanting = list(self.wanting)
        self.wanting.clear()
        return wanting

    # --- what comes back -------------------------------------------------------------------------

    def handle_ack(self, ack: Ack, now: float) -> None:
        """*ack* was read by the sender; what it tells of the path sets the rate."""
        packets = self._sender.packets
        delivered, lost = packets.take_fate_bytes()
        estimate, rate = packets.estimate, self.rate
        was_limited = rate.limited
        rebase = rate.handle_ack(
            delivered=delivered,
            lost=lost,
            arrival=None if ack.delay == DELAY_UNKNOWN else self._ticks.extend(ack.arrival) * TICK,
            queueing=estimate.queueing,
            rtt=estimate.rtt,
            needed=self._others,
            wanting=bool(self._pacer) or self._layers.shed_now > 0,
            now=now,
        )
        if rebase:
            estimate.rebase()
        if rate.draining:
            estimate.disown()
        elif not rate.queued:
            estimate.own()
        self._sender.full = rate.draining
        self._note_given_up(now)
        self._measure_use(now)
        if was_limited or rate.limited:
            self._pacer.set_rate(rate.rate, now)
            filled, self._fillings = rate.fillings != self._fillings, rate.fillings
            self._sender.waiting = self._waiting()
            self._layers.fit(rate.rate, self._others, rtt=estimate.rtt, filled=filled, now=now)

    def _measure_use(self, now: float) -> None:
        then, sent, enhancement = self._use_from
        passed = now - then
        if passed < USE_WINDOW:
            return
        if passed < 10 * USE_WINDOW:
            used = (self._sent_bytes - sent) / passed
            others = used - (self._enhancement_bytes - enhancement) / passed
            self.used += (used - self.used) / 2 if self.used else used
            self._others += (others - self._others) / 2 if self._others else others
        self._use_from = now, self._sent_bytes, self._enhancement_bytes

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        self.rate.forget()
        self._layers.forget()
        self._sender.waiting = 0.0
        self._sender.full = False
        self._pacer.set_rate(math.inf, 0.0)
        self._ticks = Extender(32)

    def take_waiting(self) -> list[bytes]:
        """The routed frames that wait; they do no more."""
        return [frame for frame, original in self._pacer.clear() if frame[0] >= frames.ROUTED_FIRST]

    @property
    def available_kbps(self) -> float:
        """Capacity of the path; 0 while it was never seen full."""
        return self.rate.rate / 125 if self.rate.limited else 0.0

    @property
    def shed_kbps(self) -> float:
        """Rate of the layers that are left out now."""
        return self._layers.shed_rate / 125

    @property
    def short(self) -> bool:
        """True while layers are left out or packets wait, because the path is full."""
        return self.rate.rate != math.inf and (self._layers.shed_now > 0 or self._pacer.waiting_bytes > 0)

    @property
    def queue_ms(self) -> float:
        """Queueing delay of a packet, here and in the path."""
        # What seems to be a queue while the path was not found full may be a longer way.
        return (self._waiting() + self.rate.queueing) * 1e3 if self.rate.limited else 0.0

    def _waiting(self) -> float:
        return self._pacer.waiting_bytes / self.rate.rate if self.rate.limited else 0.0

    def debug_state(self) -> dict[str, object]:
        return {
            "used_kbps": self.used / 125,
            "skips": len(self._skips),
            **self.rate.debug_state(),
            "pacer": self._pacer.debug_state(),
            "layers": self._layers.debug_state(),
        }


def _tag_of(frame: bytes) -> frames.MediaTag | None:
    """The tag of a whole MEDIA frame; ``None`` of one too short for it, which a neighbour may have sent."""
    try:
        return frames.read_tag(frame)
    except ProtocolError:
        return None
