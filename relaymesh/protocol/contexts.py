"""What the headers of a stream were told to be, once: the contexts of one link, on both sides.

    whole MEDIA → SentContexts → ANNOUNCE, COMPACT, or MEDIA as it is → … → ContextTable → whole MEDIA

Sending: a stream's second packet announces its context, under a number of its own, and so does one every
:data:`REFRESH` seconds. The link's acknowledgement of that datagram is the acknowledgement of the
context; until then, and after the peer said that it does not know it, packets go whole. A context never
changes: another announcement has another number, so that what is repaired late still says what it
said. What was announced under a key is known under that key only: a peer that restarted, which always
comes with new keys, is told anew.

Receiving: a bounded table for each key. A number that is not known costs the packet, and the peer is told.

All of this is about one link: beyond it frames are whole. Knows keys by identity only.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from relaymesh.protocol.acks import Ack
from relaymesh.protocol.contents import read_contents
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fragments import FragmentFrame
from relaymesh.protocol.frames.compact import (
    ANNOUNCE_EXTRA_BYTES,
    MAX_STRIDE,
    MAX_UNKNOWN,
    MEDIA_PREFIX_END,
    MEDIA_TAIL_BYTES,
    Context,
    ContextUnknown,
    context_of,
    encode_announce,
    encode_compact,
    encode_unknown,
)
from relaymesh.protocol.frames.kinds import HEAD_BYTES
from relaymesh.protocol.frames.routed import BITS_LENGTH_OFFSET

if TYPE_CHECKING:
    from relaymesh.protocol.keyring import Key

HELD = 2048  # numbers, by their remainder; a table of them has less than 2 MB
MAX_STREAMS = 512  # of one sender: at one announcement each 2 s a number is overwritten after 8 s
REFRESH = 2.0  # seconds from one announcement of a stream to the next
ANSWERED_WITHIN = 1.0  # seconds until an announcement of which nothing was heard is made again
IDLE = 4.0  # seconds without a packet after which a stream may make room
UNKNOWN_INTERVAL = 0.02  # seconds between two words of unknown numbers
_U32 = 0xFFFFFFFF


class ContextTable:
    """The newest context for each remainder of numbers by :data:`HELD`."""

    __slots__ = ("_held", "_numbers", "get")

    def __init__(self) -> None:
        self._held: dict[int, Context] = {}  # by number
        self._numbers: dict[int, int] = {}  # remainder → the number held
        # The context of a number, if it is held; on the packet path, so no method of ours.
        self.get = self._held.get

    def __len__(self) -> int:
        return len(self._held)

    def put(self, number: int, context: Context) -> None:
        """*number* was announced. An announcement that comes late does not replace a newer one."""
        held = self._numbers.get(number % HELD)
        if held is not None:
            if number - held & 0xFFFF >= 0x8000:
                return
            del self._held[held]
        self._held[number] = context
        self._numbers[number % HELD] = number


class _Stream:
    """The contexts of one prefix: the one in use, and the one that waits for its acknowledgement."""

    __slots__ = ("announced", "announced_at", "context", "due", "number", "sequence", "stride", "timestamp")

    def __init__(self, first: Context, now: float) -> None:
        self.context: Context | None = None  # acknowledged
        self.number = 0  # of it
        self.announced: tuple[int, int, Context] | None = None  # (packet id, number, context)
        self.announced_at = now
        self.due = -math.inf  # when the next packet is to announce
        self.sequence, self.timestamp = first.sequence, first.timestamp  # the last that was looked at
        self.stride = 0


class SentContexts:
    """The sending side of one link."""

    def __init__(self) -> None:
        self.announcements = 0
        self.refused = 0  # of them, those that the peer says it does not know
        self._key: Key | None = None
        self._streams: dict[bytes, _Stream] = {}
        self._next = 0  # number
        self._table = ContextTable()  # what the numbers stand for, for what is sent another way
        self._pending: dict[int, list[_Stream]] = {}  # packet id → the streams that it announced
        self._announcing: list[tuple[_Stream, int, Context]] = []  # in the datagram that is being made
        self._swept_at = -math.inf

    def compact(self, frame: bytes, key: Key, longest: int, now: float) -> bytes:
        """What is sent under *key* for a whole MEDIA *frame*: COMPACT, ANNOUNCE or the frame itself.

        An ANNOUNCE has at most *longest* bytes, and its packet id is to be told by :meth:`note_announced`.
        """
        at = MEDIA_PREFIX_END + frame[BITS_LENGTH_OFFSET]
        if len(frame) < at + MEDIA_TAIL_BYTES:
            return frame  # the far end will count it
        if key is not self._key:
            self.void()
            self._key = key
        prefix = frame[HEAD_BYTES:at]
        stream = self._streams.get(prefix)
        if stream is None:
            if len(self._streams) < MAX_STREAMS or self._sweep(now):
                self._streams[prefix] = _Stream(context_of(frame, 0), now)
            return frame
        if now >= stream.due and len(frame) + ANNOUNCE_EXTRA_BYTES <= longest:
            return self._announce(stream, frame, now)
        context = stream.context
        if context is None:
            return frame
        compact = encode_compact(frame, stream.number, context)
        if compact is None:
            stream.due = -math.inf
            return frame
        return compact

    def _announce(self, stream: _Stream, frame: bytes, now: float) -> bytes:
        context = context_of(frame, 0)
        ahead = context.sequence - stream.sequence & _U32
        if 0 < ahead <= 0xFFFF:
            stride, rest = divmod(context.timestamp - stream.timestamp & _U32, ahead)
            if not rest and stride <= MAX_STRIDE:
                stream.stride = stride
        context = context._replace(stride=stream.stride)
        stream.sequence, stream.timestamp = context.sequence, context.timestamp
        stream.announced_at, stream.due = now, now + ANSWERED_WITHIN
        self._withdraw(stream)
        number, self._next = self._next, self._next + 1 & 0xFFFF
        if stream.context is not None and number - stream.number & 0xFFFF >= HELD:
            stream.context = None  # the peer has given its place away
        self._table.put(number, context)
        self._announcing.append((stream, number, context))
        self.announcements += 1
        return encode_announce(number, stream.stride, frame)

    def note_announced(self, packet_id: int) -> None:
        """The ANNOUNCEs that :meth:`compact` gave since the last call travel as *packet_id*."""
        for stream, number, context in self._announcing:
            stream.announced = packet_id, number, context
            self._pending.setdefault(packet_id, []).append(stream)
        self._announcing.clear()

    def _sweep(self, now: float) -> bool:
        """Drop the streams that nothing was sent of lately; true if there is room now."""
        if now < self._swept_at + IDLE / 4:
            return False
        self._swept_at = now
        for prefix, stream in list(self._streams.items()):
            # While it is in use it is announced again and again.
            if stream.announced_at < now - IDLE:
                del self._streams[prefix]
                self._withdraw(stream)
        return len(self._streams) < MAX_STREAMS

    def _withdraw(self, stream: _Stream) -> None:
        """Wait no more for the acknowledgement of its announcement."""
        if stream.announced is None:
            return
        packet_id = stream.announced[0]
        stream.announced = None
        waiting = self._pending.get(packet_id, [])
        if stream in waiting:
            waiting.remove(stream)
        if not waiting:
            self._pending.pop(packet_id, None)

    def handle_ack(self, ack: Ack, prefix: int) -> None:
        """*ack* tells of packets of the key whose part of packet ids is *prefix*."""
        if not self._pending:
            return
        ends = list(accumulate(ack.runs, initial=ack.base))[1:]
        for packet_id, streams in list(self._pending.items()):
            number = packet_id - prefix
            if not ack.base <= number < ends[-1]:
                continue
            del self._pending[packet_id]
            lost = bisect_right(ends, number) & 1 and number - ack.base not in ack.repaired
            for stream in streams:
                announced, stream.announced = stream.announced, None
                assert announced is not None, "it was pending"
                if lost:
                    stream.due = -math.inf  # the next packet announces instead
                    continue
                _, stream.number, stream.context = announced
                stream.due = stream.announced_at + REFRESH

    def handle_unknown(self, unknown: ContextUnknown) -> None:
        """The peer does not know some numbers."""
        if self._key is None or unknown.epoch != self._key.epoch:
            return
        for number in unknown.numbers:
            context = self._table.get(number)
            stream = self._streams.get(context.prefix) if context is not None else None
            if stream is not None and stream.context is not None and stream.number == number:
                stream.context = None
                self.refused += 1
                if stream.announced is None:
                    stream.due = -math.inf

    def void(self) -> None:
        """The peer may know nothing any more: a new key, or the link went down."""
        self._streams.clear()
        self._pending.clear()
        self._announcing.clear()

    def wholes(self, source: bytes) -> list[bytes]:
        """The routed frames, whole, that were sent as *source*: of a fragment, the frame it is of."""
        if isinstance(source, FragmentFrame):
            return [source.whole]
        try:
            return read_contents(source, self._table).routed
        except ProtocolError:
            return []

    def all_wholes(self, sources: list[bytes]) -> list[bytes]:
        """The frames of several *sources*, in order; one that travelled in two fragments is there once."""
        found: list[bytes] = []
        seen: set[int] = set()
        for source in sources:
            if isinstance(source, FragmentFrame):
                if id(source.whole) in seen:
                    continue
                seen.add(id(source.whole))
            found += self.wholes(source)
        return found

    def debug_state(self) -> dict[str, object]:
        return {
            "streams": len(self._streams),
            "pending": sum(map(len, self._pending.values())),
            "announcements": self.announcements,
            "refused": self.refused,
        }


class UnknownContexts:
    """The receiving side's complaints: numbers that the peer named and nobody knows here."""

    def __init__(self) -> None:
        self.dropped = 0  # frames
        self.due = math.inf  # when :meth:`poll` has something
        self._numbers: dict[int, None] = {}
        self._epoch = 0
        self._told_at = -math.inf

    def note(self, epoch: int, numbers: list[int], now: float) -> None:
        """Frames of these *numbers*, under the key of *epoch*, could not be restored."""
        self.dropped += len(numbers)
        if epoch != self._epoch:
            self._numbers.clear()
            self._epoch = epoch
        for number in numbers:
            if len(self._numbers) < MAX_UNKNOWN:
                self._numbers[number] = None
        self.due = max(now, self._told_at + UNKNOWN_INTERVAL)

    def poll(self, now: float) -> list[bytes]:
        """The frame to send now, if one is due."""
        if now < self.due:
            return []
        numbers = list(self._numbers)
        self._numbers.clear()
        self.due, self._told_at = math.inf, now
        return [encode_unknown(self._epoch, numbers)]
