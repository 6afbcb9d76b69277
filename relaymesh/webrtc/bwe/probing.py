"""When to send more than the media for a moment, to learn whether the path carries more.

In: the rate that is wanted, the estimate, the verdict of the detector, and each probe
packet's fate. Out: clusters (so many bytes at such a rate) and what each measured. Which
bytes are sent is the session's choice.

A cluster tells by how it arrives: a path that carries its rate keeps the spacing, one
that does not stretches it to the path's own. Each step at most doubles the estimate (triples at the
start), and goes on at once when the one before came through; a step that did not is followed by a pause,
twice as long each time. One cluster is :data:`DURATION` long, so that a failed one
leaves a queue of at most as much. libwebrtc sends 15 ms and at least five packets of any size,
which on a path of 150 kbit/s is a third of a second of queue; small packets avoid that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

DURATION = (
    0.04  # seconds: longer than the time between frames (33 ms), in whose gaps others' traffic does not show
)
MIN_PACKETS = 5  # libwebrtc
MIN_PACKET_BYTES, MAX_PACKET_BYTES = 150, 1200
FIRST_FACTOR = 3.0  # × the start rate (libwebrtc)
FACTOR = 2.0  # × the estimate (libwebrtc) …
FACTOR_FILLED = 1.5  # … and where media fills it, so that the queue is short which a failed probe leaves
MARGIN = 1.1  # × what is wanted: a measured rate is a little below the one sent
CAME_THROUGH = 0.9  # received per sent rate (libwebrtc's kMinRatioForUnsaturatedLink)
STRETCHED = 0.8  # … still, where what arrived is as fast as was meant
UTILISATION = 0.95  # of a rate that was measured with the path full (libwebrtc's kTargetUtilizationFraction)
CONFIRM = 0.85  # × what a failed step measured: sent next, to see whether it is ours or taken from others
CONFIRM_PAUSE = 0.3  # seconds for the failed step's queue to go
WORTH = 1.1  # × the estimate, at least, for that
MIN_SHARE = 0.75  # of the cluster's packets must have arrived (libwebrtc: 0.8, with larger clusters)
MAX_RATIO = 2.0  # received per sent: more is a burst that some queue made (libwebrtc's kMaxValidRatio)
RESULT_WAIT = 1.0  # seconds after the cluster, and a round trip
FIRST_PAUSE, MAX_PAUSE = (
    1.5,
    5.0,
)  # seconds after a failed step; the longest bounds how late a free path is seen
DROP_PAUSE = 1.0  # seconds after an overuse: its queue has to go first
FILLED_PAUSE = 4.0  # … where media fills the estimate: it grows by itself (libwebrtc never probes there)


@dataclass(frozen=True, slots=True)
class ProbeCluster:
    """Bytes to be sent at a rate, in all (media sent meanwhile counts)."""

    id: int
    target_bps: float
    size_bytes: int
    packets: int  # at least so many
    duration: float  # seconds


@dataclass(slots=True)
class _Run:
    """What became of a cluster."""

    cluster: ProbeCluster
    expires: float
    sent: list[tuple[float, int]] = field(default_factory=list)  # time, size
    arrived: list[tuple[float, float, int]] = field(default_factory=list)  # sent, arrived, size
    sent_bytes: int = 0
    lost: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all was sent and the fate of all is known."""
        all_sent = self.sent_bytes >= self.cluster.size_bytes
        return all_sent and len(self.arrived) + self.lost >= len(self.sent)

    def measure(self) -> tuple[float, bool] | None:
        """The bit/s that the path carried, and whether all came through; None: too little is known."""
        if len(self.sent) < MIN_PACKETS - 1 or len(self.arrived) < max(3, MIN_SHARE * len(self.sent)):
            return None
        sent_rate = _rate([(at, size) for at, size in self.sent], first=False)
        came = sorted(self.arrived)
        out = _rate([(at, size) for at, _, size in came], first=False)
        back = _rate(sorted((at, size) for _, at, size in came), first=True)
        if sent_rate is None or out is None:
            return None
        ratio = back / out if back is not None else 1.0
        if ratio > MAX_RATIO:
            return None
        # Media among the probe's packets may make the whole faster than it was meant to be.
        hurried = ratio >= STRETCHED and sent_rate * ratio >= self.cluster.target_bps
        if ratio >= CAME_THROUGH or hurried:
            return sent_rate * min(1.0, ratio), True
        return sent_rate * ratio * UTILISATION, False


def _rate(events: list[tuple[float, int]], *, first: bool) -> float | None:
    """Bit/s between the first and the last of *events*; the *first* or the last one's bytes do not count."""
    span = events[-1][0] - events[0][0]
    size = sum(size for _, size in events) - (events[0][1] if first else events[-1][1])
    return size * 8 / span if span > 0.0 and size > 0 else None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a cluster measured."""

    rate_bps: float
    came_through: bool  # the path carried all of it
    target_bps: float


class ProbeController:
    """The clusters of one session: one at a time."""

    def __init__(self, start_bps: float, max_bps: float) -> None:
        self.wanted_bps: float | None = None  # None: nobody has said, so as much as there is
        self.paused = False  # something is not sent at all for want of room: no media finds out about it
        self.sent_clusters = self.failed_clusters = 0
        self._max = max_bps
        self._start = start_bps
        self._run: _Run | None = None
        self._next_id = 1
        self._next_at = -math.inf
        self._pause = FIRST_PAUSE
        self._is_first = True  # nothing was measured yet
        self._climbing = False  # the last step came through
        self._confirm_bps: float | None = None  # the next target, after a failed step

    def next_timeout(self) -> float:
        """When :meth:`poll` may have something; infinite while nothing is wanted."""
        if self._run is not None:
            return self._run.expires
        return self._next_at

    def poll(
        self, estimate_bps: float, *, may_probe: bool, filled: bool, rtt: float, now: float
    ) -> ProbeCluster | None:
        """The cluster to send now, if any. *filled*: media is about as much as the estimate."""
        run = self._run
        if run is not None:
            if now < run.expires:
                return None
            self._fail(now)
        wanted = self._max if self.wanted_bps is None else min(self.wanted_bps, self._max)
        if not may_probe or now < self._next_at or (wanted <= estimate_bps and not self._is_first):
            return None
        target = self._target(
            estimate_bps, wanted, FACTOR_FILLED if filled and not self._climbing else FACTOR
        )
        size = max(int(target * DURATION / 8), MIN_PACKETS * MIN_PACKET_BYTES)
        packet = min(MAX_PACKET_BYTES, max(MIN_PACKET_BYTES, size // MIN_PACKETS))
        cluster = ProbeCluster(self._next_id, target, size, -(-size // packet), size * 8 / target)
        self._next_id += 1
        self.sent_clusters += 1
        self._run = _Run(cluster, now + cluster.duration + RESULT_WAIT + rtt)
        return cluster

    def _target(self, estimate_bps: float, wanted: float, factor: float) -> float:
        if self._is_first:
            return min(FIRST_FACTOR * estimate_bps, self._max)
        if self._confirm_bps is not None:
            return min(self._confirm_bps, MARGIN * wanted)
        return min(factor * estimate_bps, self._max, MARGIN * wanted)

    def on_sent(self, probe: int, size_bytes: int, now: float) -> bool:
        """A packet left while *probe* was sent; whether it is part of it, which is over when complete."""
        run = self._run
        if run is None or run.cluster.id != probe or run.sent_bytes >= run.cluster.size_bytes:
            return False
        run.sent.append((now, size_bytes))
        run.sent_bytes += size_bytes
        return True

    def on_result(self, probe: int, sent_at: float, size_bytes: int, arrived_at: float | None) -> None:
        """A probe packet's fate."""
        run = self._run
        if run is None or run.cluster.id != probe:
            return
        if arrived_at is None:
            run.lost += 1
        else:
            run.arrived.append((sent_at, arrived_at, size_bytes))

    def poll_result(self, estimate_bps: float, now: float) -> ProbeResult | None:
        """What the cluster measured, once all of it is known."""
        run = self._run
        if run is None or not run.is_complete:
            return None
        measured = run.measure()
        if measured is None:
            self._fail(now)
            return None
        rate, came_through = measured
        if came_through:
            self._run, self._is_first, self._confirm_bps = None, False, None
            self._climbing = True
            self._pause, self._next_at = FIRST_PAUSE, now
        else:
            was_confirming = self._confirm_bps is not None
            self._fail(now)
            confirm = CONFIRM / UTILISATION * rate
            if not was_confirming and confirm >= WORTH * estimate_bps:
                self._confirm_bps, self._next_at = confirm, now + CONFIRM_PAUSE
        rate = min(rate, run.cluster.target_bps)  # a burst of media among them proves no more
        return ProbeResult(rate, came_through, run.cluster.target_bps)

    def _fail(self, now: float) -> None:
        self._run = self._confirm_bps = None
        self._is_first = self._climbing = False
        self.failed_clusters += 1
        self._next_at = now + self._pause
        self._pause = min(MAX_PAUSE, 2.0 * self._pause)

    def on_overuse(self, rtt: float, now: float, *, filled: bool) -> None:
        """The path is full, *filled* by media alone: a running cluster measures nothing, the next waits."""
        if self._run is not None:
            self._fail(now)
        self._is_first = False
        self._next_at = max(
            self._next_at, now + (FILLED_PAUSE if filled and not self.paused else DROP_PAUSE) + rtt
        )

    def on_drop(self, now: float) -> None:
        """The estimate fell far: look soon whether it was for long."""
        self._pause = FIRST_PAUSE
        self._next_at = min(self._next_at, now + FIRST_PAUSE)

    def set_wanted(self, bps: float, now: float, *, paused: bool = False) -> None:
        """*bps* in all could be used; a higher wish is looked at soon, and what is *paused* is waited for."""
        if paused and not self.paused:
            self._pause = FIRST_PAUSE
            self._next_at = min(self._next_at, now + DROP_PAUSE)
        self.paused = paused
        if self.wanted_bps is not None and bps > 1.2 * self.wanted_bps:
            self._pause = FIRST_PAUSE
            self._next_at = min(self._next_at, now + FIRST_PAUSE)
        self.wanted_bps = bps

    def debug_state(self) -> dict[str, object]:
        return {
            "wanted_bps": self.wanted_bps,
            "running": None if self._run is None else self._run.cluster.target_bps,
            "sent": self.sent_clusters,
            "failed": self.failed_clusters,
            "pause": self._pause,
        }
