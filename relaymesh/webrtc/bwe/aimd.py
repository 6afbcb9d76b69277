"""The rate that follows over- and underuse: additive or multiplicative increase, multiplicative decrease.

In: the detector's verdict, the rate that arrives, the round trip. Out: the delay-based rate in
bit/s. draft-ietf-rmcat-gcc-02 §5.5, with libwebrtc's estimate of the link's capacity: near what the
path carried when it last was full the rate grows by equal steps, so that flows come to share
it, and by a factor where it is far from that.
"""

from __future__ import annotations

import math

from relaymesh.webrtc.bwe.delay import Usage

BETA = 0.85  # × what arrives, on overuse (draft §5.5)
ETA = 1.08  # × per second, far from the capacity (draft §5.5)
AHEAD = 1.5  # × what arrives, and …
AHEAD_BPS = 10_000.0  # … so much more: further the rate does not run ahead (draft §5.5)
PACKET_BITS = 1200 * 8  # one packet more per response time is the additive step (draft §5.5)
RESPONSE_S = 0.1  # seconds for feedback and detection, besides the round trip (draft §5.5)
MIN_STEP_BPS = 4000.0  # per second (libwebrtc)
STEP_SHARE = 0.02  # of the rate per second, at least: many Mbit/s are not climbed by single packets
CAPACITY_ALPHA = 0.05  # of its running mean and deviation (libwebrtc)
DEVIATION_RANGE = (0.4, 2.5)  # normalised, kbit/s (libwebrtc)
DRAINED_AFTER = 0.5  # s after a reduction: what fills queues of 200 ms and more is sent no more by then
CAPACITY_KEPT = 7.0  # seconds; a freed path must be found again within ten
# Between two reductions lie a round trip and the time in which a queue is seen to go; libwebrtc waits for
# 10 … 200 ms of round trip alone, and reduces twice for one queue.
SETTLE_S = 0.2
MAX_RTT_S = 0.5


class LinkCapacity:
    """Mean and spread of what arrived whenever the path was found full."""

    def __init__(self) -> None:
        self.mean_kbps: float | None = None
        self._deviation = DEVIATION_RANGE[0]

    def note(self, acked_bps: float) -> None:
        """The path is full, and *acked_bps* arrive."""
        kbps = acked_bps / 1e3
        if self.mean_kbps is None:
            self.mean_kbps = kbps
        else:
            self.mean_kbps += CAPACITY_ALPHA * (kbps - self.mean_kbps)
        error = self.mean_kbps - kbps
        self._deviation += CAPACITY_ALPHA * (error * error / max(self.mean_kbps, 1.0) - self._deviation)
        self._deviation = min(DEVIATION_RANGE[1], max(DEVIATION_RANGE[0], self._deviation))

    def _spread_kbps(self) -> float:
        return 3.0 * math.sqrt(self._deviation * (self.mean_kbps or 0.0))

    def is_below(self, bps: float) -> bool:
        """Whether *bps* is more than this path ever carried when full."""
        return self.mean_kbps is not None and bps / 1e3 > self.mean_kbps + self._spread_kbps()

    def is_above(self, bps: float) -> bool:
        """Whether *bps* is far less than it carried."""
        return self.mean_kbps is not None and bps / 1e3 < self.mean_kbps - self._spread_kbps()

    def reset(self) -> None:
        self.mean_kbps = None
        self._deviation = DEVIATION_RANGE[0]


class AimdRate:
    """The delay-based rate."""

    def __init__(self, start_bps: float, min_bps: float, max_bps: float) -> None:
        self.rate_bps = start_bps
        self.reductions = 0
        self._min, self._max = min_bps, max_bps
        self._capacity = LinkCapacity()
        self._changed_at: float | None = None  # the last step up, or a pause in them
        self._reduced_at = -math.inf

    def update(
        self, usage: Usage, acked_bps: float | None, arriving_bps: float | None, rtt: float, now: float
    ) -> bool:
        """One feedback's verdict; whether the rate was reduced.

        *acked_bps* arrive over half a second, *arriving_bps* over the last moments, or since it is full.
        """
        if usage is Usage.OVER:
            return self._reduce(arriving_bps or acked_bps, rtt, now)
        if usage is Usage.UNDER or acked_bps is None:
            self._changed_at = now  # the queue empties: wait
            return False
        self._increase(acked_bps, rtt, now)
        return False

    def _reduce(self, acked_bps: float | None, rtt: float, now: float) -> bool:
        self._changed_at = now
        since = now - self._reduced_at
        # What is seen now was sent before the last reduction, unless a round trip has passed.
        if since < min(MAX_RTT_S, rtt) + SETTLE_S and not (
            acked_bps is not None and acked_bps < 0.5 * self.rate_bps
        ):
            return False
        target = BETA * acked_bps if acked_bps is not None else 0.5 * self.rate_bps
        if acked_bps is not None:
            if self._capacity.is_above(acked_bps):
                self._capacity.reset()
            self._capacity.note(acked_bps)
        if target >= self.rate_bps:
            # More arrives than the rate is: a queue drains, or an earlier reduction was enough.
            return False
        self._reduced_at = now
        self.reductions += 1
        self.rate_bps = max(self._min, target)
        return True

    def _increase(self, acked_bps: float, rtt: float, now: float) -> None:
        last, self._changed_at = self._changed_at, now
        if last is None:
            return
        if self._capacity.is_below(acked_bps):
            self._capacity.reset()
        elapsed = min(now - last, 1.0)
        if self._capacity.mean_kbps is not None or self.was_full(now):
            step = max(MIN_STEP_BPS, PACKET_BITS / (rtt + RESPONSE_S), STEP_SHARE * self.rate_bps)
            grown = self.rate_bps + step * elapsed
        else:
            grown = self.rate_bps * ETA**elapsed + 1000.0 * elapsed
        # A sender that offers less than the rate proves nothing of it: it neither grows nor decays.
        limit = max(self.rate_bps, AHEAD * acked_bps + AHEAD_BPS)
        self.rate_bps = min(grown, limit, self._max)

    def was_full(self, now: float) -> bool:
        """Whether the path was found full a short time ago."""
        return now - self._reduced_at < CAPACITY_KEPT

    def drains(self, now: float) -> bool:
        """Whether the queue that a reduction answered may still stand."""
        return now - self._reduced_at < DRAINED_AFTER

    def set_rate(self, bps: float, now: float) -> None:
        """A probe measured *bps*, or feedback stopped."""
        self._changed_at = now
        self.rate_bps = min(self._max, max(self._min, bps))
        if self._capacity.is_below(bps):
            self._capacity.reset()

    def debug_state(self) -> dict[str, object]:
        capacity = self._capacity.mean_kbps
        return {
            "rate_bps": round(self.rate_bps),
            "capacity_kbps": None if capacity is None else round(capacity),
            "reductions": self.reductions,
        }
