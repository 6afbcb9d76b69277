"""The ACK frame: what came of a range of packet numbers, and when.

In: :class:`Ack`; out: bytes, and back. Run lengths say what came; ranges of successive ACKs
overlap, so that lost ACKs cost nothing. ``arrivals`` knows when one is due; ``arq`` and
``path_estimate`` what the sender learns of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import ACK
from relaymesh.protocol.frames.kinds import FRAME

TICK = 0.00025  # seconds: the unit of times in an ACK
MAX_COVERED = 4096  # packet numbers in one ACK
MAX_RUNS = 255
MAX_TIMED = 300  # arrival times in one ACK: it fits a datagram together with all runs
MAX_REPAIRED = 100  # packets told to be repaired in one ACK
DELAY_UNKNOWN = 0xFFFF  # of an ACK that tells of no new arrival
_U32 = 0xFFFFFFFF

# epoch, first number, delay since the newest arrival, its time, then how many runs, times and repaired follow
_ACK = struct.Struct("!BIHIBHB")


@dataclass(frozen=True, slots=True)
class Ack:
    """The fates of the packet numbers from ``base`` on, under one key."""

    epoch: int  # u8
    base: int  # u32, the first packet number covered
    runs: tuple[int, ...]  # u16 lengths: received, missing, received, …; only the first may be 0
    delay: int  # u16 ticks from the newest covered packet's arrival to this ACK; DELAY_UNKNOWN: none is new
    arrival: int  # u32 ticks of the receiver's clock: when the newest covered packet arrived
    deltas: tuple[int, ...] = ()  # i16 ticks between arrivals of the newest received, by number
    repaired: tuple[int, ...] = ()  # u16 from base: reported missing, but recovered since

    @property
    def covered(self) -> int:
        """The number of packet numbers told of."""
        return sum(self.runs)

    def arrivals(self) -> list[int]:
        """Arrival times of the newest ``len(deltas) + 1`` received: ticks, as differences to the newest."""
        times = [0, *accumulate(self.deltas)]
        return [time - times[-1] for time in times]


def encode_ack(ack: Ack) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    runs, deltas, repaired = ack.runs, ack.deltas, ack.repaired
    try:
        body = _ACK.pack(
            ack.epoch, ack.base, ack.delay, ack.arrival, len(runs), len(deltas), len(repaired)
        ) + struct.pack(f"!{len(runs)}H{len(deltas)}h{len(repaired)}H", *runs, *deltas, *repaired)
    except struct.error as error:
        raise ValueError(f"ack: {error}") from None
    return FRAME.pack(ACK, len(body)) + body


def decode_ack(body: bytes) -> Ack:
    """The acknowledgement in *body*; bytes after it are ignored.

    Raises:
        ProtocolError: truncated, or invalid (runs, times or repaired packets that cannot be).
    """
    if len(body) < _ACK.size:
        raise ProtocolError("truncated", "ack")
    epoch, base, delay, arrival, r, d, c = _ACK.unpack_from(body)
    if len(body) < _ACK.size + 2 * (r + d + c):
        raise ProtocolError("truncated", "ack")
    values = struct.unpack_from(f"!{r}H{d}h{c}H", body, _ACK.size)
    runs, deltas, repaired = values[:r], values[r : r + d], values[r + d :]
    covered = sum(runs)
    if not 0 < covered <= MAX_COVERED or 0 in runs[1:] or base + covered - 1 > _U32:
        raise ProtocolError("invalid", "runs of an ack")
    if d and d >= sum(runs[::2]):
        raise ProtocolError("invalid", "more times than packets in an ack")
    if c and (repaired[-1] >= covered or any(a >= b for a, b in pairwise(repaired))):
        raise ProtocolError("invalid", "repaired packets of an ack")
    return Ack(epoch, base, runs, delay, arrival, deltas, repaired)
