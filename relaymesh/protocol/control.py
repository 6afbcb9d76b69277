"""Reliable control: small messages over one link, in order and exactly once, on numbered channels.

In: messages to send, CONTROL, CONTROL_ACK and CONTROL_RESET frames of the peer, the round-trip time, whether
the link is up, ``now``. Out: such frames, and :class:`ControlMessage` and :class:`ControlReset` events.
A direction of a channel is a *stream* with a random token. What is not acknowledged is sent again until it
is; a link that goes down and comes back goes on where it was. A stream starts over when the peer lost its
state (it restarted) or broke the rules: then both sides are told, and what was not acknowledged may be lost.
This module knows no keys, datagrams or sockets, and not what messages mean.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import CONTROL, CONTROL_ACK, CONTROL_RESET

if TYPE_CHECKING:
    from random import Random

CHANNELS = 16
MAX_MESSAGE_BYTES = 1024
WINDOW = 32  # messages of a stream on their way, and held at the receiver until those before them came
QUEUE = 256  # messages of a channel that wait to be sent, those on their way included
FLYING_BYTES = 32_000  # of messages on their way, all channels together: what a burst may be
ENDED_KEPT = 8  # tokens of a channel's former streams: their late frames start nothing over
RETRY_MARGIN = 0.025  # s; beyond 1.25 × RTT, for a peer that is late
RETRY_LONGEST = 1.0  # s; pauses double up to this
REORDERING = 0.003  # s; the least a message may be overtaken by before it counts as lost
_MAX_SEQUENCE = 0xFFFFFFFE  # what is expected after it must still fit an acknowledgement

_FRAME = struct.Struct("!BH")
_CONTROL = struct.Struct("!BIIB")  # channel, token, sequence, distance to the first unacknowledged
_ACK = struct.Struct("!BIII")  # channel, token, next expected, bits of those after it
_RESET = struct.Struct("!BI")  # channel, token


class ChannelFull(Exception):
    """Our own side sends more than the link takes: the message was not accepted."""


@dataclass(frozen=True, slots=True)
class Control:
    """One message of a stream."""

    channel: int
    token: int
    sequence: int  # 0 is the first of a stream
    distance: int  # how many sequence numbers back the first unacknowledged message is
    data: bytes


@dataclass(frozen=True, slots=True)
class ControlAck:
    """The part of a stream that has arrived."""

    channel: int
    token: int
    next: int  # all before it arrived
    later: int  # bit i: next + 1 + i arrived too


@dataclass(frozen=True, slots=True)
class ControlResetFrame:
    """The stream cannot go on: its receiver does not know it, or it broke the rules."""

    channel: int
    token: int


ControlFrame = Control | ControlAck | ControlResetFrame


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """A message of the peer."""

    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ControlReset:
    """A stream started over. *sending*: ours; *lost* of our messages may or may not have arrived."""

    channel: int
    sending: bool
    lost: int = 0


ControlEvent = ControlMessage | ControlReset


# --- frames --------------------------------------------------------------------------------------


def encode_control(frame: Control) -> bytes:
    """The whole frame, with type and length."""
    head = _CONTROL.pack(frame.channel, frame.token, frame.sequence, frame.distance)
    return _FRAME.pack(CONTROL, len(head) + len(frame.data)) + head + frame.data


def decode_control(body: bytes) -> Control:
    """Raises :class:`ProtocolError`: truncated; invalid: channel, length or distance out of range."""
    if len(body) < _CONTROL.size:
        raise ProtocolError("truncated", "control")
    channel, token, sequence, distance = _CONTROL.unpack_from(body)
    data = body[_CONTROL.size :]
    if channel >= CHANNELS or len(data) > MAX_MESSAGE_BYTES or distance >= WINDOW or distance > sequence:
        raise ProtocolError("invalid", "control")
    return Control(channel, token, sequence, distance, data)


def encode_control_ack(ack: ControlAck) -> bytes:
    """The whole frame, with type and length."""
    body = _ACK.pack(ack.channel, ack.token, ack.next, ack.later)
    return _FRAME.pack(CONTROL_ACK, len(body)) + body


def decode_control_ack(body: bytes) -> ControlAck:
    """Bytes after it are ignored. Raises :class:`ProtocolError`: truncated; invalid: no such channel."""
    if len(body) < _ACK.size:
        raise ProtocolError("truncated", "control ack")
    ack = ControlAck(*_ACK.unpack_from(body))
    if ack.channel >= CHANNELS:
        raise ProtocolError("invalid", "control ack")
    return ack


def encode_control_reset(reset: ControlResetFrame) -> bytes:
    """The whole frame, with type and length."""
    body = _RESET.pack(reset.channel, reset.token)
    return _FRAME.pack(CONTROL_RESET, len(body)) + body


def decode_control_reset(body: bytes) -> ControlResetFrame:
    """Bytes after it are ignored. Raises :class:`ProtocolError`: truncated; invalid: no such channel."""
    if len(body) < _RESET.size:
        raise ProtocolError("truncated", "control reset")
    reset = ControlResetFrame(*_RESET.unpack_from(body))
    if reset.channel >= CHANNELS:
        raise ProtocolError("invalid", "control reset")
    return reset


# --- one channel, sending ------------------------------------------------------------------------


class _Flight:
    """A message on its way."""

    __slots__ = ("data", "due", "sent_at", "tries")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.due = -inf  # when it is sent (again)
        self.sent_at = -inf
        self.tries = 0


class _Sending:
    """Our stream of one channel."""

    __slots__ = ("base", "flights", "next", "queue", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.base = 0  # the first unacknowledged
        self.next = 0
        self.flights: dict[int, _Flight] = {}  # by sequence, rising
        self.queue: deque[bytes] = deque()

    def fill(self) -> None:
        """Put what the window takes on its way."""
        while self.queue and self.next < self.base + WINDOW and self.next <= _MAX_SEQUENCE:
            self.flights[self.next] = _Flight(self.queue.popleft())
            self.next += 1

    def acknowledge(self, ack: ControlAck, rtt: float, now: float) -> bool:
        """``False`` when it acknowledges what was never sent."""
        if ack.next > self.next or (ack.later and ack.next + 1 + ack.later.bit_length() > self.next):
            return False
        newest = -inf
        for sequence in list(self.flights):
            distance = sequence - ack.next
            if distance < 0 or (distance > 0 and ack.later >> (distance - 1) & 1):
                newest = max(newest, self.flights.pop(sequence).sent_at)
        self.base = max(self.base, ack.next)
        for flight in self.flights.values():
            if flight.sent_at < newest:  # it was overtaken
                flight.due = min(flight.due, max(now, flight.sent_at + rtt + max(REORDERING, rtt / 8)))
        return True

    @property
    def used_up(self) -> bool:
        """There are no sequence numbers left."""
        return self.next > _MAX_SEQUENCE and not self.flights


# --- one channel, receiving ----------------------------------------------------------------------


class _Receiving:
    """The peer's stream of one channel."""

    __slots__ = ("held", "next", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.next = 0
        self.held: dict[int, bytes] = {}  # came before those before them

    def take(self, frame: Control) -> list[bytes] | None:
        """Return the messages that are complete now, in order; None when the peer broke the rules."""
        if frame.sequence >= self.next + WINDOW or frame.sequence - frame.distance > self.next:
            return None
        if frame.sequence >= self.next:
            self.held.setdefault(frame.sequence, frame.data)
        complete = []
        while self.next in self.held:
            complete.append(self.held.pop(self.next))
            self.next += 1
        return complete

    def ack(self, channel: int) -> ControlAck:
        later = 0
        for sequence in self.held:
            later |= 1 << (sequence - self.next - 1)
        return ControlAck(channel, self.token, self.next, later)


# --- all channels --------------------------------------------------------------------------------


class ControlChannels:
    """Both directions of all channels of one link. *rng* gives tokens; nothing secret comes from it."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._sending: dict[int, _Sending] = {}
        self._receiving: dict[int, _Receiving] = {}
        self._ended: dict[int, deque[int]] = {}  # channel → tokens of the peer's streams that are over
        self._acks: set[int] = set()  # channels whose stream must be acknowledged
        self._resets: dict[int, int] = {}  # channel → token of the peer's stream that cannot go on
        self.told: list[ControlEvent] = []  # since :meth:`poll_events`
        self._up = False
        self.due = inf  # when poll_frames has something
        self.counters: Counter[str] = Counter()

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue a message.

        Raises:
            ChannelFull: too many wait; nothing was queued.
            ValueError: no such channel, or the message is too long.
        """
        if not 0 <= channel < CHANNELS or len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"control message of {len(data)} bytes on channel {channel}")
        stream = self._sending.get(channel)
        if stream is None:
            stream = self._sending[channel] = _Sending(self._rng.getrandbits(32))
        if len(stream.queue) + len(stream.flights) >= QUEUE:
            self.counters["refused_full"] += 1
            raise ChannelFull(f"{QUEUE} messages wait on channel {channel}")
        stream.queue.append(bytes(data))
        self._advance(channel, stream)
        self._set_due(now)

    def handle_link(self, up: bool, now: float) -> None:
        """The link came up or went down. What waits goes out at once when it is up."""
        self._up = up
        for stream in self._sending.values():
            for flight in stream.flights.values():
                flight.due, flight.tries = now, 0
        self._set_due(now)

    def handle_frame(self, frame: ControlFrame, rtt: float, now: float) -> None:
        """A frame of the peer; *rtt* is the link's, in seconds."""
        if isinstance(frame, Control):
            self._on_control(frame)
        elif isinstance(frame, ControlAck):
            stream = self._sending.get(frame.channel)
            if stream is None or stream.token != frame.token:
                self.counters["stale_acks"] += 1
            elif not stream.acknowledge(frame, rtt, now):
                self.counters["false_acks"] += 1
            else:
                self._advance(frame.channel, stream)
        else:
            stream = self._sending.get(frame.channel)
            if stream is not None and stream.token == frame.token:
                self._start_over(frame.channel, stream)
        self._set_due(now)

    def _on_control(self, frame: Control) -> None:
        channel = frame.channel
        stream = self._receiving.get(channel)
        if stream is None or stream.token != frame.token:
            stream = self._begin(frame, stream)
            if stream is None:
                return
        complete = stream.take(frame)
        if complete is None:
            self.counters["violations"] += 1
            self._end(channel, stream)
            self._resets[channel] = stream.token
            self.told.append(ControlReset(channel, sending=False))
            return
        if not complete and frame.sequence not in stream.held:
            self.counters["repeated"] += 1
        self.counters["received"] += len(complete)
        self.told += [ControlMessage(channel, data) for data in complete]
        self._acks.add(channel)

    def _begin(self, frame: Control, before: _Receiving | None) -> _Receiving | None:
        """The peer's new stream, if this can be one; a stream that is unknown and not new is refused."""
        if frame.token in self._ended.get(frame.channel, ()):
            self.counters["stale"] += 1
            self._resets[frame.channel] = frame.token  # who does not know yet is told again
            return None
        if frame.distance != frame.sequence:
            self.counters["unknown_streams"] += 1
            self._resets[frame.channel] = frame.token
            return None
        if before is not None:
            self._end(frame.channel, before)
            self.told.append(ControlReset(frame.channel, sending=False))
        stream = self._receiving[frame.channel] = _Receiving(frame.token)
        return stream

    def _end(self, channel: int, stream: _Receiving) -> None:
        self._ended.setdefault(channel, deque(maxlen=ENDED_KEPT)).append(stream.token)
        self._receiving.pop(channel, None)
        self._acks.discard(channel)

    def _advance(self, channel: int, stream: _Sending) -> None:
        if stream.used_up:
            self._start_over(channel, stream)
        else:
            stream.fill()

    def _start_over(self, channel: int, stream: _Sending) -> None:
        """A new stream; what was on its way is given up, what only waited is not."""
        self.counters["resets"] += 1
        self.told.append(ControlReset(channel, sending=True, lost=len(stream.flights)))
        fresh = self._sending[channel] = _Sending(self._rng.getrandbits(32))
        fresh.queue = stream.queue
        fresh.fill()

    # --- out -------------------------------------------------------------------------------------

    def poll_frames(self, rtt: float, now: float) -> list[bytes]:
        """Frames to send now, encoded. Messages wait while the link is down, answers do not."""
        frames = [encode_control_reset(ControlResetFrame(*reset)) for reset in self._resets.items()]
        frames += [
            encode_control_ack(self._receiving[channel].ack(channel)) for channel in sorted(self._acks)
        ]
        self._resets.clear()
        self._acks.clear()
        if self._up:
            flying = self._flying_bytes()
            for channel, stream in self._sending.items():
                for sequence, flight in stream.flights.items():
                    if flight.due <= now and (flight.tries or flying < FLYING_BYTES):
                        flying += 0 if flight.tries else len(flight.data)
                        frames.append(self._emit(channel, stream, sequence, flight, rtt, now))
        self._set_due(now)
        return frames

    def _flying_bytes(self) -> int:
        return sum(len(f.data) for s in self._sending.values() for f in s.flights.values() if f.tries)

    def _emit(
        self, channel: int, stream: _Sending, sequence: int, flight: _Flight, rtt: float, now: float
    ) -> bytes:
        self.counters["sent" if flight.sent_at == -inf else "sent_again"] += 1
        pause = (1.25 * rtt + RETRY_MARGIN) * 2.0 ** min(flight.tries, 10)
        flight.sent_at, flight.due = now, now + min(pause, max(RETRY_LONGEST, 1.25 * rtt + RETRY_MARGIN))
        flight.tries += 1
        return encode_control(Control(channel, stream.token, sequence, sequence - stream.base, flight.data))

    def poll_events(self) -> list[ControlEvent]:
        """Return the events since the last call, in order."""
        events, self.told = self.told, []
        return events

    def _set_due(self, now: float) -> None:
        if self._acks or self._resets:
            self.due = now
        elif self._up:
            flights = [flight for stream in self._sending.values() for flight in stream.flights.values()]
            room = sum(len(flight.data) for flight in flights if flight.tries) < FLYING_BYTES
            self.due = min((flight.due for flight in flights if room or flight.tries), default=inf)
        else:
            self.due = inf

    def debug_state(self) -> dict[str, object]:
        return {
            "sending": {
                channel: {"next": s.next, "on_the_way": len(s.flights), "waiting": len(s.queue)}
                for channel, s in self._sending.items()
            },
            "receiving": {c: {"next": r.next, "held": len(r.held)} for c, r in self._receiving.items()},
            "counters": dict(self.counters),
        }
