"""The way to the peer by its ACKs: loss, the length of its bursts, RTT, delay variation, queueing.

In: fates and times of the packets that were acknowledged; out: estimates. Clocks of two ends are never
compared: arrival times serve by their differences only.
"""

from __future__ import annotations

import math

from relaymesh.protocol.acks import TICK, Ack

DELAY_PERIOD = 10.0  # seconds
CLOCK_STEP = 0.5  # seconds


class Delay:
    """The excess of a delay over its recent minimum; seconds."""

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
        """Take the last delay as the new minimum."""
        self._least_before, self._least = math.inf, self._last
        self.above = 0.0


class PathEstimate:
    """Loss, bursts, RTT and delay variation on the path to the peer, from its ACKs."""

    MEMORY = 2000.0  # packets after which what was measured weighs 1/e

    def __init__(self) -> None:
        self._total = self._lost = self._bursts = 0.0  # packets, packets, runs; decaying
        self._own = (0.0, 0.0, 0.0)  # the same, when the path last had no queue
        self.fates = self.fates_lost = self.fates_bursts = 0  # the same, ever
        self.rtt = 0.0  # seconds, smoothed (RFC 6298); 0 before the first
        self.rtt_variation = 0.0  # seconds, mean deviation
        self._one_way = Delay()  # of arrival less departure, on two clocks
        self._round_trip = Delay()
        self.queueing = 0.0  # seconds of one-way delay above its recent minimum

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

    def own(self) -> None:
        """No queue stands: what is lost is lost by the path itself."""
        self._own = self._total, self._lost, self._bursts

    def disown(self) -> None:
        """The path was full: what was lost since its queue began was the queue's, and ends with it."""
        self._total, self._lost, self._bursts = self._own

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
        """Take the present delay as the new minimum: what seemed to be a queue is the path itself."""
        self._one_way.rebase()
        self._round_trip.rebase()
        self.queueing = 0.0

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        self._own = (0.0, 0.0, 0.0)
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
