"""The receiving side of acknowledgements: what came, what is missing, and when to tell.

In: packet numbers as they arrive under one key, and ``now``; out: ACK frames, at a bounded rate. A hole
is told only when it is older than the reordering that was seen lately. Knows no frames of media, no
keys, and repairs nothing.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

from relaymesh.protocol.acks import DELAY_UNKNOWN, MAX_COVERED, MAX_REPAIRED, MAX_RUNS, MAX_TIMED, TICK, Ack

ACK_INTERVAL = 0.05  # seconds between ACKs while nothing is missing …
ACK_INTERVAL_LOSSY = 0.005  # … while something is
ACK_INTERVAL_MIN = 0.005  # … and for the first word of a new hole
ACK_PACKETS = 256  # so many new ones are told earlier
OVERLAP_ACKS = 64  # an ACK repeats what this many before it told: some bursts lose dozens in a row
REORDERING_MIN, REORDERING_MAX = 0.003, 0.1  # seconds a hole may stay open before it is told
REORDERING_MEMORY = 10.0  # seconds in which the tolerance forgets
MAX_JUMP = 1024  # more missing at once is an outage: nothing of it is asked for
MAX_HOLES = 4096
HOLE_KEPT = 2.0  # seconds
_U32 = 0xFFFFFFFF


class ArrivalTracker:
    """The packets that arrived under one receive key, those missing, and the time of the next ACK.

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
        """Note that *number* was recovered; true if it was missing until now."""
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
