"""Acknowledgements of a link: what came and when, told at a bounded rate, and what the sender learns from it.

In: packet numbers as they arrive and ``now``; out: ACK frames, and from those of
the peer which packets were lost, the loss, the length of its bursts, RTT and
delay variation. An ACK covers a range of packet numbers by run lengths; ranges
of successive ACKs overlap, so that lost ACKs cost nothing. A hole is told only
when it is older than the reordering that was seen lately.

Knows no frames of media, no keys, and repairs nothing. Clocks of two ends are
never compared: arrival times serve by their differences only.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass
from itertools import accumulate, pairwise

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import ACK

TICK = 0.00025  # seconds: the unit of times in an ACK
MAX_COVERED = 4096  # packet numbers in one ACK
MAX_RUNS = 255
MAX_TIMED = 300  # arrival times in one ACK: it fits a datagram together with all runs
MAX_REPAIRED = 100  # packets told to be repaired in one ACK
DELAY_UNKNOWN = 0xFFFF  # of an ACK that tells of no new arrival
ACK_INTERVAL = 0.05  # seconds between ACKs while nothing is missing …
ACK_INTERVAL_LOSSY = 0.005  # … while something is
ACK_INTERVAL_MIN = 0.005  # … and for the first word of a new hole
ACK_PACKETS = 256  # so many new ones are told earlier
OVERLAP_ACKS = 64  # an ACK repeats what this many before it told: some bursts lose dozens in a row
REORDERING_MIN, REORDERING_MAX = 0.003, 0.1  # seconds a hole may stay open before it is told
DELAY_PERIOD = 10.0  # seconds
CLOCK_STEP = 0.5  # seconds
REORDERING_MEMORY = 10.0  # seconds in which the tolerance forgets
MAX_JUMP = 1024  # more missing at once is an outage: nothing of it is asked for
MAX_HOLES = 4096
HOLE_KEPT = 2.0  # seconds
_U32 = 0xFFFFFFFF

_FRAME = struct.Struct("!BH")
# epoch, first number, delay since the newest arrival, its time, then how many runs, times and repaired follow
_ACK = struct.Struct("!BIHIBHB")


@dataclass(frozen=True, slots=True)
class Ack:
    """What came of the packet numbers from ``base`` on, under one key."""

    epoch: int  # u8
    base: int  # u32, the first packet number covered
    runs: tuple[int, ...]  # u16 lengths: received, missing, received, …; only the first may be 0
    delay: (
        int  # u16 ticks from the arrival of the newest covered packet to this ACK; DELAY_UNKNOWN: none is new
    )
    arrival: int  # u32 ticks of the receiver's clock: when the newest covered packet arrived
    deltas: tuple[int, ...] = ()  # i16 ticks between arrivals of the newest received, by number
    repaired: tuple[int, ...] = ()  # u16 from base: reported missing, but recovered since

    @property
    def covered(self) -> int:
        """How many packet numbers."""
        return sum(self.runs)

    def arrivals(self) -> list[int]:
        """When the newest ``len(deltas) + 1`` received arrived: ticks, as differences to the newest."""
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
    return _FRAME.pack(ACK, len(body)) + body


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


# --- the receiving side ----------------------------------------------------------------------------


class ArrivalTracker:
    """What arrived under one receive key, what is missing, and when to tell.

    ``holes`` are the packet numbers that are missing and still wanted; whoever
    gets such a packet another way says so by :meth:`repair`.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.top = 0  # the highest number that arrived; 0 before the first
        self.holes: dict[int, float] = {}  # missing and wanted: packet number → when it was found missing
        self.due = math.inf  # when the next ACK is due
        self.reordering = REORDERING_MIN  # seconds
        self.reordered = 0  # packets that came after a later one
        self.outages = 0  # jumps too far to ask for
        self._told = 0  # every number up to here was told in an ACK
        self._floor = 0  # what became of the numbers up to here is forgotten
        self._times: list[float | None] = []  # arrival of the numbers from _told + 1 on; None = not yet
        self._young: deque[tuple[float, int]] = deque()  # holes that may be reordering: (found at, number)
        self._repaired: dict[int, None] = {}  # missing numbers that were recovered, oldest first
        self._bases: deque[int] = deque(maxlen=OVERLAP_ACKS)  # where earlier ACKs had told up to
        self._fresh = 0  # packets worth an ACK since the last
        self._acked_at = -math.inf

    def note(self, number: int, now: float, eliciting: bool) -> None:
        """*number*, never seen before, arrived; *eliciting*: it carried more than probes and ACKs."""
        if number == self.top + 1:
            self.top = number
            self._times.append(now)
        elif number > self.top:
            self._jump(number, now)
        else:
            self._late(number, now)
        if eliciting:
            fresh = self._fresh = self._fresh + 1
            if fresh == 1:
                interval = ACK_INTERVAL_LOSSY if self.holes else ACK_INTERVAL
                self.due = min(self.due, max(now, self._acked_at + interval))
            elif fresh == ACK_PACKETS:
                self.due = min(self.due, max(now, self._acked_at + ACK_INTERVAL_MIN))
        elif len(self._times) > MAX_COVERED:  # no ACK takes them away
            self._forget_times()

    def repair(self, number: int, now: float) -> bool:
        """Whether *number* was missing; it was recovered now and is so no longer."""
        ahead = number - self.top
        if 0 < ahead <= MAX_JUMP:  # the end of what was sent under an older key
            self._open(number + 1, now)
            self.top = number
        if self.holes.pop(number, None) is None:
            return False
        self._repaired[number] = None
        if len(self._repaired) > MAX_REPAIRED:
            self._floor = max(self._floor, next(iter(self._repaired)))
            del self._repaired[next(iter(self._repaired))]
        return True

    def _jump(self, number: int, now: float) -> None:
        if number - self.top - 1 > MAX_JUMP or (not self.top and number > MAX_JUMP // 16):
            self.outages += self.top != 0
            self.holes.clear()
            self._young.clear()
            self._repaired.clear()
            self._bases.clear()
            self._times = [now]
            self._told = number - 1
        else:
            self._open(number, now)
            self._times.append(now)
        self.top = number

    def _open(self, end: int, now: float) -> None:
        """The numbers from the top to *end* (not included) are missing."""
        for missing in range(self.top + 1, end):
            self.holes[missing] = now
            self._young.append((now, missing))
            self._times.append(None)
        while len(self.holes) > MAX_HOLES:
            self._give_up(next(iter(self.holes)))
        self.due = min(self.due, max(now + self.reordering, self._acked_at + ACK_INTERVAL_MIN))

    def _late(self, number: int, now: float) -> None:
        found_at = self.holes.pop(number, None)
        if number > self._told:
            self._times[number - self._told - 1] = now
        if found_at is not None:
            self.reordered += 1
            lateness = now - found_at
            self.reordering = min(REORDERING_MAX, max(self.reordering, 1.25 * lateness + 0.001))

    def poll(self, now: float) -> Ack | None:
        """The ACK that is due, if one is."""
        if now < self.due:
            return None
        self._ripen(now)
        young = self._young
        settled = young[0][1] - 1 if young else self.top
        self.due = young[0][0] + self.reordering if young else math.inf
        if settled == self._told and not self._repaired:
            return None  # what is new may still be reordering
        self.due = max(self.due, now + ACK_INTERVAL_MIN)
        if self._acked_at > -math.inf:
            passed = min(now - self._acked_at, REORDERING_MEMORY)
            self.reordering -= (self.reordering - REORDERING_MIN) * passed / REORDERING_MEMORY
        self._acked_at = now
        self._fresh = 0
        ack = self._build(settled, now)
        if settled > self._told:
            self._bases.append(self._told)
            del self._times[: settled - self._told]
            self._told = settled
        return ack

    def _ripen(self, now: float) -> None:
        young, holes = self._young, self.holes
        while young and (young[0][1] not in holes or young[0][0] + self.reordering <= now):
            young.popleft()
        for number, found_at in list(holes.items()):
            if found_at > now - HOLE_KEPT:
                break
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        del self.holes[number]
        self._floor = max(self._floor, number)

    def _build(self, settled: int, now: float) -> Ack | None:
        base = self._bases[0] if self._bases else self._told
        base = max(base, settled - MAX_COVERED, self._floor) + 1
        missing = sorted(n for n in (*self.holes, *self._repaired) if base <= n <= settled)
        if len(missing) > MAX_RUNS // 2:  # each may begin a run of its own
            base = missing[-(MAX_RUNS // 2)]
            missing = missing[-(MAX_RUNS // 2) :]
        if settled < base:
            return None
        fresh = [time for time in self._times[: settled - self._told] if time is not None]
        ticks = [int(time / TICK) for time in fresh[-MAX_TIMED - 1 :]]
        deltas = [max(-0x8000, min(0x7FFF, after - before)) for before, after in pairwise(ticks)]
        runs = _runs(base, settled, missing)
        received = sum(runs[::2])
        for number in [n for n in self._repaired if n < base]:
            del self._repaired[number]
        return Ack(
            self.epoch,
            base,
            runs,
            max(0, min(DELAY_UNKNOWN - 1, round((now - fresh[-1]) / TICK))) if fresh else DELAY_UNKNOWN,
            ticks[-1] & _U32 if fresh else 0,
            tuple(deltas[max(0, len(deltas) - received + 1) :]) if received > 1 else (),
            tuple(sorted(n - base for n in self._repaired if n <= settled)),
        )

    def forget(self) -> None:
        """Ask for nothing that is missing, and tell nothing of what came."""
        self.holes.clear()
        self._young.clear()
        self._repaired.clear()
        self._bases.clear()
        self._times.clear()
        self._told = self._floor = self.top
        self._fresh = 0
        self.due = math.inf

    def _forget_times(self) -> None:
        # Nothing but probes and ACKs came for long: nobody asked when.
        drop = len(self._times) // 2
        del self._times[:drop]
        self._told += drop
        while self._young and self._young[0][1] <= self._told:
            self._young.popleft()

    def debug_state(self) -> dict[str, object]:
        return {
            "top": self.top,
            "told": self._told,
            "holes": len(self.holes),
            "reordering_ms": self.reordering * 1e3,
            "reordered": self.reordered,
            "outages": self.outages,
        }


def _runs(base: int, end: int, missing: list[int]) -> tuple[int, ...]:
    runs, at, in_hole = [], base, False
    length = 0
    for number in missing:
        if number == at and in_hole:
            length += 1
        else:
            if in_hole:
                runs.append(length)
            runs.append(number - at)
            length, in_hole = 1, True
        at = number + 1
    if in_hole:
        runs.append(length)
    if at <= end:
        runs.append(end - at + 1)
    return tuple(runs)


# --- the sending side ------------------------------------------------------------------------------


class Delay:
    """How far a delay is above its least of late; seconds."""

    __slots__ = ("_at", "_last", "_least", "_least_before", "_period_at", "above")

    def __init__(self) -> None:
        self.above = 0.0
        self._last = 0.0
        self._at = -math.inf  # when that was noted
        self._least = self._least_before = math.inf  # of this period, of the one before
        self._period_at = -math.inf

    def note(self, delay: float, now: float) -> None:
        """One more measurement."""
        if abs(delay - self._last) > now - self._at + CLOCK_STEP:
            # No queue fills or empties faster than time passes: a clock was set.
            self._least = self._least_before = math.inf
        # Never all forgotten at once, and nothing kept for good, since clocks drift.
        if now - self._period_at > DELAY_PERIOD:
            self._period_at, self._least_before, self._least = now, self._least, math.inf
        self._least = min(self._least, delay)
        self._last, self._at = delay, now
        self.above = delay - min(self._least, self._least_before)

    def rebase(self) -> None:
        """The least is what it is now."""
        self._least_before, self._least = math.inf, self._last
        self.above = 0.0


class PathEstimate:
    """What the ACKs of the peer say of the way to it: loss, bursts, RTT, delay variation."""

    MEMORY = 2000.0  # packets after which what was measured weighs 1/e

    def __init__(self) -> None:
        self._total = self._lost = self._bursts = 0.0  # packets, packets, runs; decaying
        self.fates = self.fates_lost = self.fates_bursts = 0  # the same, ever
        self.rtt = 0.0  # seconds, smoothed (RFC 6298); 0 before the first
        self.rtt_variation = 0.0  # seconds, mean deviation
        self._one_way = Delay()  # of arrival less departure, on two clocks
        self._round_trip = Delay()
        self.queueing = 0.0  # seconds of one-way delay above the least of the last seconds

    @property
    def loss(self) -> float:
        """Fraction of the datagrams lost."""
        return self._lost / self._total if self._total else 0.0

    @property
    def burst(self) -> float:
        """Mean length of a run of lost packets; 1 while nothing was lost."""
        return max(1.0, self._lost / self._bursts) if self._bursts > 1e-6 else 1.0

    def note_fate(self, total: int, lost: int, bursts: int) -> None:
        """Of *total* packets *lost* were lost, in so many *bursts*; negative: late after all."""
        self.fates += total
        self.fates_lost += lost
        self.fates_bursts += bursts
        keep = math.exp(-total / self.MEMORY)
        self._total = self._total * keep + total
        self._lost = max(0.0, self._lost * keep + lost)
        self._bursts = max(0.0, self._bursts * keep + bursts)

    def note_newest(self, sent_at: float, ack: Ack, now: float) -> None:
        """The newest packet of *ack* was sent at *sent_at*."""
        sample = max(0.0, now - sent_at - ack.delay * TICK)
        if self.rtt:
            self.rtt_variation += (abs(sample - self.rtt) - self.rtt_variation) / 4
            self.rtt += (sample - self.rtt) / 8
        else:
            self.rtt, self.rtt_variation = sample, sample / 2
        self._note_transit(ack.arrival * TICK - sent_at, sample, now)

    def _note_transit(self, transit: float, rtt: float, now: float) -> None:
        # A queue shows in both: in one-way delays, which compare clocks by differences only, and in round
        # trips, which a clock that runs wrong does not change but the way back does.
        self._one_way.note(transit, now)
        self._round_trip.note(rtt, now)
        self.queueing = min(60.0, self._one_way.above, self._round_trip.above)

    def rebase(self) -> None:
        """What seemed to be a queue is none: the way takes that long."""
        self._one_way.rebase()
        self._round_trip.rebase()
        self.queueing = 0.0

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        self._total = self._lost = self._bursts = self.rtt = self.rtt_variation = self.queueing = 0.0
        self._one_way, self._round_trip = Delay(), Delay()

    def debug_state(self) -> dict[str, object]:
        return {
            "loss": self.loss,
            "burst": self.burst,
            "rtt_ms": self.rtt * 1e3,
            "rtt_variation_ms": self.rtt_variation * 1e3,
            "queueing_ms": self.queueing * 1e3,
        }
