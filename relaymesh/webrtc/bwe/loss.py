"""The bound that loss puts on the rate: the loss-based half of Google Congestion Control.

In: how many of the packets reported on were lost, what arrives, the rate in force. Out: a
bound in bit/s, infinite while loss means nothing.

draft-ietf-rmcat-gcc-02 §6: more than a tenth lost reduces, less than 2 % lets grow, between
them the rate stays. Two things differ. The tenth must be exceeded with confidence (two
standard deviations), because few packets make a share of any size. And loss that does not
shrink when the rate does is the path's own (a radio link): it becomes the floor above which
the tenth counts, as libwebrtc's "inherent loss". A policer's loss ends below its rate.
"""

from __future__ import annotations

import math
from collections import deque

HIGH = 0.10  # draft §6
LOW = 0.02  # draft §6
WEIGHT = 0.5  # the rate is reduced by half the loss (draft §6)
GROWTH = 1.08  # × per second, as the delay-based rate
CONFIDENCE = 2.0  # standard deviations
MIN_PACKETS = 20  # libwebrtc's kLimitNumPackets
WINDOW = 1.0  # seconds
PAUSE = 0.3  # seconds between reductions, and a round trip (libwebrtc's kBweDecreaseInterval)
UNMOVED = 0.8  # × the loss before: not less than that, and the reduction did not help
REDUCED_ENOUGH = 0.75  # × the rate before: so far it must have gone down to say so
FORGET = 0.02  # of the inherent loss per second in which less is lost
RELEASE = 2.0  # × the delay-based rate: a bound beyond it bounds nothing


class LossBound:
    """The loss of the last second, and what follows from it."""

    def __init__(self, min_bps: float) -> None:
        self.bound_bps = math.inf
        self.loss = 0.0  # fraction of the last window
        self.inherent = 0.0  # fraction that the path loses at any rate
        self.reductions = 0
        self._min = min_bps
        self._window: deque[tuple[float, int, int]] = deque()  # time, packets, of these lost
        self._total = self._gone = 0  # in the window
        self._reduced_at = -math.inf
        self._updated_at: float | None = None
        self._before: tuple[float, float] | None = None  # loss and rate when a row of reductions began

    def update(
        self, packets: int, lost: int, target_bps: float, acked_bps: float | None, rtt: float, now: float
    ) -> bool:
        """One feedback's packets; whether the bound was reduced. *target_bps* is the rate in force."""
        last, self._updated_at = self._updated_at, now
        self._window.append((now, packets, lost))
        self._total += packets
        self._gone += lost
        while self._window[0][0] <= now - WINDOW:
            _, old_packets, old_lost = self._window.popleft()
            self._total -= old_packets
            self._gone -= old_lost
        total, gone = self._total, self._gone
        if total < MIN_PACKETS:
            return False
        self.loss = max(0, gone) / total
        spread = CONFIDENCE * math.sqrt(self.loss * (1.0 - self.loss) / total)
        elapsed = 0.0 if last is None else min(now - last, 1.0)
        if self.loss - spread > self.inherent + HIGH:
            return self._reduce(target_bps, acked_bps, rtt, now)
        if self.loss < self.inherent:
            self.inherent = max(self.loss, self.inherent - FORGET * elapsed)
        if self.loss - spread < self.inherent + LOW:
            self._before = None
            self.bound_bps *= GROWTH**elapsed
            if self.bound_bps > RELEASE * target_bps:
                self.bound_bps = math.inf
        return False

    def _reduce(self, target_bps: float, acked_bps: float | None, rtt: float, now: float) -> bool:
        if now - self._reduced_at < PAUSE + rtt:
            return False
        rate = min(target_bps, self.bound_bps)
        if self._before is None:
            self._before = self.loss, rate
        elif rate < self._before[1] * REDUCED_ENOUGH:
            if self.loss > UNMOVED * self._before[0]:
                self.inherent = min(0.5, self.loss)
                self._before = None
                return False
            self._before = self.loss, rate
        bound = rate * (1.0 - WEIGHT * self.loss)
        if acked_bps is not None and self.loss > 0.3:
            bound = min(bound, max(acked_bps, 0.3 * rate))  # a policer: what passes is what it passes
        self.bound_bps = max(self._min, bound)
        self._reduced_at = now
        self.reductions += 1
        self._total = self._gone = 0
        self._window.clear()  # the next is about packets of the new rate
        return True

    def raise_to(self, bps: float) -> None:
        """A probe went through at *bps*."""
        if self.bound_bps < bps:
            self.bound_bps = bps

    def debug_state(self) -> dict[str, object]:
        return {
            "bound_bps": None if self.bound_bps == math.inf else round(self.bound_bps),
            "loss": round(self.loss, 4),
            "inherent": round(self.inherent, 4),
            "reductions": self.reductions,
        }
