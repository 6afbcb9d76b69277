"""The two halves of an emulated stream without its socket: what is sent, and what has come.

In: bytes to send, segments that arrived, the delays of packets. Out: numbered
segments, bytes in order, how much may be sent, and when to send again what was
lost (RFC 6298). It knows no network, task or clock; the socket around it is
:class:`~relaymesh.netsim.streams.StreamSocket`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SEGMENT_BYTES = 1448  # 1500 - IPv4 20 - TCP 20 - timestamps 12
WINDOW_BYTES = 1 << 20  # sent and not yet read by the peer; then sending waits
LEAST_RTO_S = 0.2  # as Linux has it
FIRST_RTO_S = 1.0  # before a round trip was seen: RFC 6298 §2.1
LONGEST_RTO_S = 120.0
HANDSHAKE_TRIES = 7  # the first and net.ipv4.tcp_syn_retries (6) more: gives up after 127 s
SEGMENT_TRIES = 16  # the first and net.ipv4.tcp_retries2 (15) more: gives up after about 15 minutes
SMOOTHING = 1 / 8  # RFC 6298 §2.3


@dataclass(slots=True)
class Packet:
    """One packet under way until it is acknowledged."""

    size: int  # bytes of payload
    act: Callable[..., bool]  # called at the other end; whether it acknowledges
    arguments: tuple[Any, ...]
    tries: int
    tried: int = 0
    sent_at: float = 0.0  # s, the last time

    def retry_at(self, rto: float) -> float:
        """When it is sent again, seconds; each time twice as long after the last."""
        return self.sent_at + min(rto * (1 << self.tried), LONGEST_RTO_S)


@dataclass(slots=True)
class Outgoing:
    """The sending half: numbers, the window, and the delay one way."""

    finished: bool = False  # nothing more is sent
    delay: float | None = None  # s, one way, smoothed
    next_number: int = 0
    unread: int = 0  # bytes

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return WINDOW_BYTES - self.unread

    def split(self, data: bytes) -> list[bytes]:
        """*data*, which fits the window, in segments; it counts as sent."""
        self.unread += len(data)
        return [data[start : start + SEGMENT_BYTES] for start in range(0, len(data), SEGMENT_BYTES)]

    def number(self) -> int:
        """The number of the next segment."""
        number = self.next_number
        self.next_number += 1
        return number

    def note_delay(self, delay: float) -> None:
        """A packet takes *delay* seconds."""
        self.delay = delay if self.delay is None else self.delay + SMOOTHING * (delay - self.delay)

    def rto(self, back: float | None) -> float:
        """The retransmission timeout; *back*: what the other direction takes, seconds."""
        if self.delay is None or back is None:
            return FIRST_RTO_S
        return max(LEAST_RTO_S, 2 * (self.delay + back))


@dataclass(slots=True)
class Incoming:
    """The receiving half: segments put in order, bytes until they are read."""

    at_end: bool = False
    inbox: deque[bytes] = field(default_factory=deque)
    _expected: int = 0  # number of the next segment
    _ahead: dict[int, bytes] = field(default_factory=dict)  # came before those they follow
    _untold: int = 0  # bytes read and not yet told to the sender

    def take(self, number: int, data: bytes) -> bool:
        """A segment came (an empty one is the end); whether there is more to read now."""
        if number >= self._expected:
            self._ahead[number] = data
        more = False
        while (ready := self._ahead.pop(self._expected, None)) is not None:
            self._expected += 1
            more = True
            if ready:
                self.inbox.append(ready)
            else:
                self.at_end = True
        return more

    def read(self, max_bytes: int) -> bytes:
        """At most *max_bytes* of what is there."""
        taken, room, inbox = [], max_bytes, self.inbox
        while inbox and room > 0:
            data = inbox.popleft()
            if len(data) > room:
                inbox.appendleft(data[room:])
                data = data[:room]
            taken.append(data)
            room -= len(data)
        self._untold += max_bytes - room
        return b"".join(taken)

    def to_tell(self) -> int:
        """Bytes read that the sender should be told of now; 0: not yet."""
        if self._untold < WINDOW_BYTES // 4:
            return 0
        told, self._untold = self._untold, 0
        return told
