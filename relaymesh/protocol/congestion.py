"""The send rate of one link: an estimate of its path's capacity, from the peer's acknowledgements.

In: for each ACK how many bytes arrived and were lost, when the newest arrived (on
the peer's clock, by differences only), the queueing delay on the way, ``now``. Out:
a rate in bytes per second, infinite while the path was never seen full.

A path is *full* when packets wait in it: the least queueing delay of the last
:data:`WATCH` seconds is above :data:`TARGET` (CoDel's test, RFC 8289, which jitter
does not pass) and has grown since, or goes with loss; or when it loses far more than it used
to, as behind a policer. Then what arrives *is* the capacity: the rate goes below it
until the queue is gone, and grows again, by equal steps near the capacity (so that
two links that share a bottleneck come to share it fairly, as AIMD does) and by a
factor where the path has long carried more. A step of the delay alone is none of
this: nothing grows. Random loss is none either; it is repaired.

Whatever a peer claims, the rate stays above :data:`MIN_RATE`; what it can spoil is its own link.
Knows no frames, keys or classes.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

TARGET = 0.015  # seconds of standing queue that are too many
WATCH = 0.12  # seconds for which it must stand
GROWTH = 0.005  # seconds it must have grown since it began, at least; …
GROWTH_SHARE = 0.25  # … as a share of what it began with, which may be a step of the delay; …
WOBBLES = 3.0  # … and in changes from look to look as jitter makes them
BURST_GROWTH = 0.02  # seconds it must have grown to be full at once, where it goes with loss
FLAT_S = 1.5  # seconds after which a delay that never grew is the way's own
RATE_WINDOW = 0.15  # seconds of arrivals that make a delivery rate
LOSS_FULL = 0.1  # fraction lost that, with a queue, means full …
LOSS_ALONE = 0.35  # … and without one, when it lasts
LOSS_LASTS = 0.4  # seconds
DRAIN = 0.7  # × capacity while the queue empties …
DRAIN_LONG, LONG_QUEUE = 0.5, 0.05  # … and while it is longer than so many seconds
DRAINS_MOST = 3  # in a row; a queue that stays is not ours, or none
HOLD = 0.92  # × capacity afterwards
NEAR = 1.1  # × capacity: up to here by equal steps
STEP = 30_000.0  # bytes/s per second, for every link alike; and a share of the capacity
STEP_SHARE = 0.03
NEAR_LASTS = 1.5  # seconds since the path was full: longer, and it carries more than it did
GROW = 2.0  # × per second beyond
HEADROOM = 1.5  # × what is delivered: further the rate does not run ahead
CLOCK_STEP = 1.0  # seconds between two clocks from ACK to ACK: more than a queue does
MIN_RATE = 16_000.0  # bytes/s: audio goes on
CALM = 10.0  # seconds without a full path after which a limit far above the need is none


class _Sample(NamedTuple):
    arrival: float  # seconds, the peer's clock
    delivered: int  # bytes, ever
    lost: int  # bytes, ever
    queueing: float  # seconds
    at: float  # seconds, ours


class RateControl:
    """One direction of one link."""

    def __init__(self) -> None:
        self.fillings = 0  # how often the path was found full
        self._reset()

    def _reset(self) -> None:
        """Nothing is known of the path."""
        self.rate = math.inf  # bytes/s
        self.capacity = 0.0  # bytes/s that the path carried when it last was full; 0: it never was
        self.delivered_rate = 0.0  # bytes/s, recently
        self.queueing = 0.0  # seconds, recent minimum
        self.full_at = -math.inf  # when the path was last found full
        self._samples: deque[_Sample] = deque()
        self._delivered = self._lost = 0
        self._draining_since: float | None = None
        self._drains = 0  # in a row
        self._queue_then = 0.0  # seconds, when draining began
        self._lossy_since: float | None = None
        self._standing: _Sample | None = None  # the first look at the queue that is there since
        self._wobble = 0.0  # seconds from look to look, while there is no queue
        self._needed = 0.0
        self._grown_at = 0.0
        self._span = RATE_WINDOW  # seconds that samples cover

    @property
    def queued(self) -> bool:
        """True while packets wait in the path, as far as the last looks tell."""
        return self._standing is not None

    @property
    def draining(self) -> bool:
        """True from when the path was found full until its queue is gone."""
        return self._draining_since is not None

    @property
    def limited(self) -> bool:
        """True once a limit is known."""
        return self.rate != math.inf

    def handle_ack(
        self,
        *,
        delivered: int,
        lost: int,
        arrival: float | None,
        queueing: float,
        rtt: float,
        wanting: bool,
        needed: float,
        now: float,
    ) -> bool:
        """Bytes whose fate an ACK told; whether the queueing base is to be measured anew.

        *arrival*: of the newest, None where the ACK tells of none. *wanting*: a higher rate would be used.
        *needed*: bytes/s of what cannot be left out.
        """
        self._delivered += delivered
        self._lost += lost
        self._needed = needed
        if arrival is None:
            return False
        samples = self._samples
        if samples and abs(arrival - samples[-1].arrival - (now - samples[-1].at)) > CLOCK_STEP:
            samples.clear()  # a clock was set: nothing before can be compared
        samples.append(_Sample(arrival, self._delivered, self._lost, queueing, now))
        self._span = window = max(RATE_WINDOW, min(rtt, 0.3))
        while len(samples) > 2 and (samples[1].at <= now - window or len(samples) > 512):
            samples.popleft()
        self._measure(now)
        self._watch_standing()
        if self._draining_since is not None:
            return self._drain(rtt, now)
        if self._is_full(now):
            self._fill(now)
        elif self._is_another_path(now):
            self._standing = None
            return True
        elif self.limited:
            self._grow(wanting, now)
        return False

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        self._reset()

    # --- what is seen ----------------------------------------------------------------------------

    def _measure(self, now: float) -> None:
        first, last = self._samples[0], self._samples[-1]
        passed = last.arrival - first.arrival
        if passed >= RATE_WINDOW / 3:
            self.delivered_rate = (last.delivered - first.delivered) / passed
        self.queueing = min(s.queueing for s in self._samples if s.at >= now - WATCH)

    def _loss(self) -> float:
        first, last = self._samples[0], self._samples[-1]
        lost, came = last.lost - first.lost, last.delivered - first.delivered
        return lost / (lost + came) if lost else 0.0

    def _is_full(self, now: float) -> bool:
        samples = self._samples
        if now - samples[0].at < WATCH * 0.75 or len(samples) < 3:
            return False
        loss = self._loss()
        if loss < LOSS_ALONE:
            self._lossy_since = None
        elif self._lossy_since is None:
            self._lossy_since = now
        if self._lossy_since is not None and now - self._lossy_since >= LOSS_LASTS:
            return True
        standing = self._standing
        if standing is None:
            return False
        if now - standing.at < WATCH * 0.75:
            # Too early for a queue alone. One that grows much while much is lost is a path that got narrow.
            grown = samples[-1].queueing - standing.queueing
            enough = max(BURST_GROWTH, GROWTH_SHARE * standing.queueing, WOBBLES * self._wobble)
            return not self.limited and loss >= LOSS_FULL and grown >= enough
        if self.limited:  # it was full before: less is enough
            recent = [s.queueing for s in samples if s.at >= now - WATCH]
            return recent[-1] - recent[0] >= GROWTH or loss >= LOSS_FULL
        newest = min(samples[-1].queueing, samples[-2].queueing)
        enough = max(GROWTH, GROWTH_SHARE * standing.queueing, WOBBLES * self._wobble)
        return newest - standing.queueing >= enough or loss >= LOSS_FULL

    def _watch_standing(self) -> None:
        """Since when there was a queue at every look, and how it began."""
        sample = self._samples[-1]
        if len(self._samples) > 1 and self._standing is None:
            change = min(TARGET, abs(sample.queueing - self._samples[-2].queueing))
            self._wobble += (change - self._wobble) / 16
        if sample.queueing < TARGET:
            self._standing = None
        elif self._standing is None:
            self._standing = sample

    def _is_another_path(self, now: float) -> bool:
        """Tell whether a delay that has long stood, and never grew, is the path's own and no queue."""
        standing = self._standing
        return standing is not None and now - standing.at >= FLAT_S and self._loss() < LOSS_FULL / 2

    def _rate_while_full(self) -> float:
        """Bytes per second that arrived while packets waited; before that it was what was sent."""
        standing, last = self._standing, self._samples[-1]
        if standing is not None and last.arrival - standing.arrival < self._span:
            passed = last.arrival - standing.arrival
            if passed >= RATE_WINDOW / 5:
                return (last.delivered - standing.delivered) / passed
        return self.delivered_rate

    # --- what is done ----------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        self.fillings += 1
        self._drains += 1
        self.full_at = now
        self.capacity = max(MIN_RATE, self._rate_while_full())
        self._queue_then = self._samples[-1].queueing
        share = DRAIN if self._queue_then < LONG_QUEUE else DRAIN_LONG
        # Slower than what cannot be left out, the queue would only move from the path to us.
        self.rate = max(MIN_RATE, min(HOLD * self.capacity, max(share * self.capacity, self._needed)))
        self._draining_since = now
        self._lossy_since = None
        self._standing = self._samples[-1]

    def _drain(self, rtt: float, now: float) -> bool:
        """Below the capacity until the queue is gone; True: it does not go, so it is none of ours."""
        since = self._draining_since
        assert since is not None, "called while draining"
        queueing = self._samples[-1].queueing
        passed = now - since
        if queueing < TARGET / 2 and passed > rtt:
            return self._end_drain(now)
        if passed > rtt + WATCH and self._is_full(now):
            self._fill(now)  # narrower still
        elif passed > 2 * rtt + 0.3 + self._queue_then / (1.0 - min(0.95, self.rate / self.capacity)):
            if self._drains < DRAINS_MOST or queueing < 0.8 * self._queue_then:
                self._fill(now)  # the capacity was taken for more than it is
                return False
            self._end_drain(now)
            return True
        return False

    def _end_drain(self, now: float) -> bool:
        self._draining_since = None
        self._drains = 0
        self.rate = max(MIN_RATE, HOLD * self.capacity)
        self.full_at = self._grown_at = now
        return False

    def _grow(self, wanting: bool, now: float) -> None:
        passed, self._grown_at = min(0.1, now - self._grown_at), now
        if not wanting:
            if now - self.full_at > CALM and self.rate > 2 * self.delivered_rate:
                self.rate = math.inf
            elif now - self.full_at < CALM:
                return
        if self.rate < NEAR * self.capacity and now - self.full_at < NEAR_LASTS:
            self.rate += (STEP + STEP_SHARE * self.capacity) * passed
        else:
            self.rate *= GROW**passed
        ahead = HEADROOM * self.delivered_rate + STEP
        if wanting and self.rate > ahead > HOLD * self.capacity:
            self.rate = ahead

    def debug_state(self) -> dict[str, object]:
        return {
            "rate_kbps": None if not self.limited else self.rate / 125,
            "capacity_kbps": self.capacity / 125,
            "delivered_kbps": self.delivered_rate / 125,
            "queueing_ms": self.queueing * 1e3,
            "draining": self.draining,
            "fillings": self.fillings,
        }
