"""When to fill the estimate with padding, for peers whose own estimate follows what arrives.

In: the estimate, the rate that is wanted, ``now``. Out: clusters, one after another, that bring what is sent
up to the estimate.

A receiver that answers with REMB does not measure clusters of packets: its estimate grows by some 8 % per
second, and no further than 1.5 × what arrives (draft-ietf-rmcat-gcc-02 §5.5). Media of the lower layer alone
would never let it reach the next one, so the difference is sent as padding, as libwebrtc's sender does,
until the estimate suffices for what is wanted: by then the path has carried it. What grows no more, or falls,
is let be for a pause, twice as long each time, so that a path that is simply no wider is not kept full.
"""

from __future__ import annotations

import math

from relaymesh.webrtc.bwe.probing import ProbeCluster

DURATION = 0.2  # seconds of one cluster
PACKET_BYTES = 320  # on the wire: RTP padding is at most 255 bytes
GROWN = 1.02  # × the estimate before: less is noise
FALLEN = 0.95  # × the estimate before
START_PAUSE = 0.5  # seconds: what a player begins with goes first, and may all go at once
FUTILE = 5.0  # seconds without growth; aiortc says nothing in its first three
FIRST_PAUSE, MAX_PAUSE = 2.0, 12.0  # seconds after a rise that failed; bounds how late a free path is seen
DRAIN_PAUSE = 1.0  # seconds after a fall that media made: its queue has to go first


class Filler:
    """The rises of one session's estimate."""

    def __init__(self) -> None:
        self.rises = self.falls = 0
        self._next_id = 1
        self._next_at: float | None = None  # None: nothing was wanted yet
        self._pause = FIRST_PAUSE
        self._best: float | None = None  # of the estimates since the rise began; None: none is under way
        self._grown_at = -math.inf

    def next_timeout(self) -> float:
        """When :meth:`poll` may have something, where more is wanted than the estimate."""
        return -math.inf if self._next_at is None else self._next_at

    def poll(self, estimate_bps: float, wanted_bps: float, now: float) -> ProbeCluster | None:
        """The cluster to send now, if any."""
        if wanted_bps <= estimate_bps:
            if self._best is not None:
                self._best, self._pause = None, FIRST_PAUSE
            return None
        if self._next_at is None:
            self._next_at = now + START_PAUSE
        if now < self._next_at:
            return None
        if self._best is None:
            self.rises += 1
        if self._best is None or estimate_bps > GROWN * self._best:
            self._best, self._grown_at = estimate_bps, now
        elif now - self._grown_at >= FUTILE:
            self._rest(now)
            return None
        self._next_at = now + DURATION
        size = int(estimate_bps * DURATION / 8)
        cluster = ProbeCluster(self._next_id, estimate_bps, size, -(-size // PACKET_BYTES), DURATION)
        self._next_id += 1
        return cluster

    def on_change(self, before_bps: float, after_bps: float, now: float) -> None:
        """The estimate went from *before_bps* to *after_bps*."""
        if after_bps >= FALLEN * before_bps:
            return
        if self._best is not None:
            self._rest(now)
        else:
            self._next_at = max(self.next_timeout(), now + DRAIN_PAUSE)

    def _rest(self, now: float) -> None:
        self.falls += 1
        self._best = None
        self._next_at = now + self._pause
        self._pause = min(MAX_PAUSE, 2.0 * self._pause)

    def debug_state(self) -> dict[str, object]:
        return {
            "rising_from_bps": self._best,
            "rises": self.rises,
            "falls": self.falls,
            "pause": self._pause,
        }
