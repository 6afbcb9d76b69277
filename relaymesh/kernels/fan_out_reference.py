"""One packet in, N subscribers out: renumbered, sealed and sent. The reference, in plain Python.

In: a packet of one encoding, the table of streams that follow it, ``now``. Out: an RTP packet for each,
under its own numbers and keys, at once or by :meth:`FanOut.pop`. Numbers are assigned when a packet is
pushed, and it is sealed when the batch goes. What a session makes itself joins the others by
:meth:`FanOut.put`, so that all it sends leaves in the order of its numbers.

Knows no layers but their numbers, no estimates and no sessions: what a stream cannot take as it comes (a
layer above its own, or while something waits in its session's pacer) is refused, and its owner sees to it.
"""

from __future__ import annotations

import socket
from collections import deque
from struct import Struct
from typing import Protocol

BURST_S = 0.005  # seconds of a path's rate may leave at once
DEBT_S = 2.0  # seconds' worth that may be sent ahead of the rate, by what does not wait
LOG_PACKETS = 8192  # kept of what a path sent, until it is taken
TOP_SPATIAL = 7

Address = tuple[str, int]

_HEADER = Struct("!BBHII")  # RFC 3550 §5.1
_NUMBER = Struct("!H")


class Sealer(Protocol):
    """What turns an RTP packet into an SRTP one, or fails with :class:`ValueError`."""

    def protect_rtp(self, packet: bytes) -> bytes:
        """RTP → SRTP."""


class Path:
    """One session's way out: keys, address, transport-wide numbers, and what may leave now.

    The numbers and the allowance are shared with whatever else the session sends.
    """

    __slots__ = (
        "_sent", "address", "allowance", "at", "dropped", "gated", "is_behind", "is_open", "least_burst",
        "number", "rate", "sender",
    )  # fmt: skip

    def __init__(self, sender: Sealer | None = None) -> None:
        """Without a *sender* packets stay plain, as emulated networks have them."""
        self.sender = sender
        self.address: Address | None = None
        self.is_open = False  # else nothing is sent, and `dropped` counts
        self.dropped = 0
        self.number = 0  # the last transport-wide sequence number, 16 bits
        self.gated = False  # the allowance counts, and what is sent is logged
        self.is_behind = False  # something waits elsewhere: only what is urgent goes
        self.allowance = 0.0  # bytes; negative: sent ahead
        self.rate = 0.0  # bytes/s
        self.least_burst = 0.0  # bytes
        self.at = 0.0  # s; the allowance is as of then
        self._sent: deque[tuple[int | None, int, float]] = deque(maxlen=LOG_PACKETS)

    def refill(self, now: float) -> None:
        """What the rate allows more by *now*, up to a burst."""
        if now > self.at:
            most = max(self.least_burst, self.rate * BURST_S)
            self.allowance = max(self.allowance, min(most, self.allowance + (now - self.at) * self.rate))
            self.at = now

    def take_sent(self) -> list[tuple[int | None, int, float]]:
        """(transport-wide number, bytes on the wire, when) of what was sent since the last call."""
        if not self._sent:
            return []
        sent = list(self._sent)
        self._sent.clear()
        return sent

    def _note_sent(self, number: int | None, size: int, now: float) -> None:
        self.allowance = max(self.allowance - size, -self.rate * DEBT_S)
        self._sent.append((number, size, now))


class Stream:
    """One copy of an encoding: what its packets are called on their path."""

    __slots__ = (
        "has_number", "owner", "path", "payload_type", "profile", "sequence_offset", "spatial", "ssrc",
        "temporal", "timestamp_offset", "urgent",
    )  # fmt: skip

    def __init__(
        self,
        path: Path,
        owner: object,
        *,
        ssrc: int,
        payload_type: int,
        profile: int,
        has_number: bool,
        urgent: bool,
        sequence_offset: int,
        timestamp_offset: int,
        spatial: int,
        temporal: int,
    ) -> None:
        """*profile*: which of the header extension blocks of a packet it gets; *urgent*: it never waits.

        *sequence_offset* and *timestamp_offset* are added to the numbers of the encoding, modulo 2¹⁶ and 2³².
        """
        self.path = path
        self.owner = owner
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.profile = profile
        self.has_number = has_number
        self.urgent = urgent
        self.sequence_offset = sequence_offset
        self.timestamp_offset = timestamp_offset
        self.spatial, self.temporal = spatial, temporal  # the highest layers it takes


class FanOut:
    """The packets of a node that are assigned and not sent yet."""

    def __init__(self, size_overhead: int) -> None:
        """*size_overhead*: bytes around an RTP packet on the wire, for the allowances."""
        self.unsealed = 0  # packets that were too long to be sealed
        self.size_overhead = size_overhead
        self.waiting: list[tuple[Sealer | None, Address, bytes]] = []

    def __len__(self) -> int:
        return len(self.waiting)

    def group(self) -> Group:
        """A table of streams, empty."""
        return Group(self)

    def put(self, path: Path, packet: bytes) -> None:
        """Let a whole RTP packet go on *path*, behind what waits."""
        if path.is_open and path.address is not None:
            self.waiting.append((path.sender, path.address, packet))
        else:
            path.dropped += 1

    def pop(self) -> list[tuple[bytes, Address]]:
        """All of them sealed, in order, each with where it goes."""
        waiting, self.waiting = self.waiting, []
        sealed: list[tuple[bytes, Address]] = []
        for sender, address, packet in waiting:
            try:
                sealed.append((packet if sender is None else sender.protect_rtp(packet), address))
            except ValueError:
                self.unsealed += 1
        return sealed

    def send(self, sock: socket.socket) -> int:
        """Seal and send all of them by the UDP socket *sock*, which does not block; how many did not go."""
        failures = 0
        sendto = sock.sendto
        for packet, address in self.pop():
            try:
                sendto(packet, address)
            except (OSError, TypeError, ValueError):
                failures += 1
        return failures


class Group:
    """The streams that follow one encoding."""

    def __init__(self, fan_out: FanOut) -> None:
        self._fan_out = fan_out
        self._streams: dict[Stream, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._streams

    def add(self, stream: Stream) -> None:
        """*stream* gets every packet from now on."""
        self._streams[stream] = None

    def remove(self, stream: Stream) -> None:
        """It gets no more."""
        del self._streams[stream]

    def push(
        self,
        sequence: int,
        timestamp: int,
        marker: bool,
        layer_end: bool,
        spatial: int,
        temporal: int,
        payload: bytes,
        blocks: list[tuple[bytes, int]],
        now: float,
    ) -> list[object]:
        """Assign a packet to every stream; the owners of those that do not take it, in order.

        *blocks*: for each profile the header extension as it is sent, and where in it the transport-wide
        number goes (−1: nowhere). What ends a spatial layer ends the picture of who takes none above it.
        """
        refused: list[object] = []
        waiting, overhead = self._fan_out.waiting, self._fan_out.size_overhead
        for stream in self._streams:
            if spatial > stream.spatial or temporal > stream.temporal:
                refused.append(stream.owner)
                continue
            path = stream.path
            if path.gated:
                path.refill(now)
                if not stream.urgent and (path.is_behind or path.allowance <= 0.0):
                    refused.append(stream.owner)
                    continue
            block, hole = blocks[stream.profile]
            number: int | None = None
            if stream.has_number:
                path.number = number = (path.number + 1) & 0xFFFF
                block = block[:hole] + _NUMBER.pack(number) + block[hole + 2 :]
            if path.gated:
                path._note_sent(number, 12 + len(block) + len(payload) + overhead, now)
            if not path.is_open or path.address is None:
                path.dropped += 1
                continue
            ends = marker or (layer_end and spatial == stream.spatial and spatial + 1 < TOP_SPATIAL)
            header = _HEADER.pack(
                0x90 if block else 0x80,
                (0x80 if ends else 0) | stream.payload_type,
                (sequence + stream.sequence_offset) & 0xFFFF,
                (timestamp + stream.timestamp_offset) & 0xFFFFFFFF,
                stream.ssrc,
            )
            waiting.append((path.sender, path.address, header + block + payload))
        return refused
