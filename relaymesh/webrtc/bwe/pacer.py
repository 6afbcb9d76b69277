"""The packets of one session on their way out: in order of kind, at a multiple of the estimate.

In: items with size and kind, the estimate, probe clusters, ``now``. Out: the items whose turn it is, all
that are due in one call; and how many bytes of probe are due.

Audio goes at once, whatever else waits and whatever was sent. Then retransmissions,
video, padding. The rate is :data:`FACTOR` × the estimate, so that a keyframe, several frames large,
is through in a fraction of its duration and what is within the estimate hardly waits; after a pause
a burst goes at once (of 5 ms; libwebrtc's burst interval is 5 – 40 ms). While a queue drains that was
too much for the path, the rate is the estimate and nothing goes in bursts, lest the keyframe of something
cheaper finds no room. What
waits is bounded: beyond :data:`DRAIN_S` seconds' worth the rate is raised until it is gone in that
time, and what is too old or too much is dropped, the least kind first, and audio never while anything
else waits. Knows no packets' bytes; an item is whatever the caller hands in. Unlike the pacer of mesh
links it has a probe to pace and nothing to shed by layers, so the two share no code.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from relaymesh.kernels.fan_out import DEBT_S, Path
from relaymesh.webrtc.bwe.probing import ProbeCluster

Item = TypeVar("Item")

FACTOR = 2.5  # × the estimate (libwebrtc's kDefaultPaceMultiplier)
BURST_BYTES = 2400.0  # may leave at once whatever the rate: two packets
START_BYTES = (
    14_600.0  # the first of all may be so much: TCP's initial window (RFC 6928), most of a small keyframe
)
DRAIN_S = DEBT_S  # seconds in which all that waits is to be gone (libwebrtc's queue time limit)
MAX_BYTES = 2_000_000  # of all kinds: the largest keyframes and what follows within DRAIN_S
PROBE_TICK_BYTES = 1  # a probe packet is due as soon as its first byte is


class Kind(enum.IntEnum):
    """What an item is, in the order of sending."""

    AUDIO = 0
    RETRANSMISSION = 1
    VIDEO = 2
    PADDING = 3


# Seconds an item may wait: a retransmission is late for the decoder then, padding has lost its purpose.
PATIENCE = {Kind.AUDIO: 1.0, Kind.RETRANSMISSION: 0.5, Kind.VIDEO: DRAIN_S + 1.0, Kind.PADDING: 0.1}


class SessionPacer(Generic[Item]):
    """The queues of one session."""

    def __init__(self, estimate_bps: float, now: float, path: Path | None = None) -> None:
        """*path*: where rows may leave without waiting here, by the same allowance."""
        self.waiting_bytes = 0
        self.dropped = dict.fromkeys(Kind, 0)  # items
        self._queues: dict[Kind, deque[tuple[Item, int, float]]] = {kind: deque() for kind in Kind}
        self._path = path if path is not None else Path()
        self._path.rate = FACTOR * estimate_bps / 8
        self._path.least_burst = BURST_BYTES
        self._path.allowance = START_BYTES
        self._path.at = now
        self._cluster: ProbeCluster | None = None
        self._cluster_began = now
        self._cluster_sent = 0  # bytes, media too

    @property
    def probe(self) -> int | None:
        """The id of the cluster that is being sent: what leaves now belongs to it."""
        return None if self._cluster is None else self._cluster.id

    @property
    def wait_s(self) -> float:
        """Seconds in which all that waits now has left."""
        return (self.waiting_bytes - min(0.0, self._path.allowance)) / self._current_rate()

    def set_estimate(self, bps: float, now: float, *, draining: bool = False) -> None:
        """From *now* on the path is taken to carry *bps*; *draining*: a queue still stands in it."""
        self._refill(now)
        self._path.rate = (1.0 if draining else FACTOR) * bps / 8
        self._path.least_burst = 1.0 if draining else BURST_BYTES
        if draining:
            self._path.allowance = min(self._path.allowance, self._path.least_burst)

    def begin_probe(self, cluster: ProbeCluster, now: float) -> None:
        """Send *cluster* from now on; one that was not complete ends."""
        self._cluster, self._cluster_began, self._cluster_sent = cluster, now, 0
        self._note_behind()

    def enqueue(self, item: Item, size_bytes: int, kind: Kind, now: float) -> None:
        """*item* waits for its turn."""
        self._queues[kind].append((item, size_bytes, now))
        self.waiting_bytes += size_bytes
        while self.waiting_bytes > MAX_BYTES:
            self._drop(next(k for k in reversed(Kind) if self._queues[k]))
        self._note_behind()

    def discard(self, matches: Callable[[Item], bool]) -> int:
        """Take back what waits and *matches*; how many items that were."""
        discarded = 0
        for kind, queue in self._queues.items():
            kept = deque(entry for entry in queue if not matches(entry[0]))
            if len(kept) != len(queue):
                discarded += len(queue) - len(kept)
                self.waiting_bytes -= sum(e[1] for e in queue) - sum(e[1] for e in kept)
                self._queues[kind] = kept
        self._note_behind()
        return discarded

    def _drop_all_but_audio(self) -> None:
        for kind in (k for k in reversed(Kind) if k is not Kind.AUDIO):
            while self._queues[kind]:
                self._drop(kind)

    def _drop(self, kind: Kind) -> None:
        _, size_bytes, _ = self._queues[kind].popleft()
        self.waiting_bytes -= size_bytes
        self.dropped[kind] += 1

    def _current_rate(self) -> float:
        rate = max(self._path.rate, self.waiting_bytes / DRAIN_S)
        if self._cluster is not None:
            rate = max(rate, self._cluster.target_bps / 8)
        return rate

    def _refill(self, now: float) -> None:
        path = self._path
        own, path.rate = path.rate, self._current_rate()
        path.refill(now)
        path.rate = own

    def _note_behind(self) -> None:
        self._path.is_behind = self.waiting_bytes > 0 or self._cluster is not None

    def poll(self, now: float) -> list[Item]:
        """The items to be sent now, in order."""
        self._refill(now)
        items: list[Item] = []
        for kind, queue in self._queues.items():
            while queue and queue[0][2] < now - PATIENCE[kind]:
                if kind is Kind.AUDIO:
                    self._drop_all_but_audio()
                self._drop(kind)
            while queue and (kind is Kind.AUDIO or self._path.allowance > 0.0):
                item, size_bytes, _ = queue.popleft()
                self.waiting_bytes -= size_bytes
                self._spend(size_bytes, now)
                items.append(item)
        self._note_behind()
        return items

    def _spend(self, size_bytes: int, now: float) -> None:
        self._path.allowance = max(self._path.allowance - size_bytes, -self._current_rate() * DRAIN_S)
        if self._cluster is not None:
            self._cluster_sent += size_bytes

    def poll_probe(self, now: float) -> int:
        """Bytes of probe that are due now, besides the media just polled; 0: none.

        Ends the cluster when all of it is sent, or when nobody sent it in time.
        """
        cluster = self._cluster
        if cluster is None:
            return 0
        left = cluster.size_bytes - self._cluster_sent
        # The last packet's time of sending ends what is measured, so it must go behind the others.
        if left <= 0 or now > self._cluster_began + 4.0 * cluster.duration + 0.1:
            self._cluster = None
            self._note_behind()
            return 0
        elapsed = now - self._cluster_began
        packet = cluster.size_bytes / cluster.packets
        due = cluster.target_bps / 8 * elapsed + packet - self._cluster_sent
        return min(left, math.ceil(packet)) if due >= PROBE_TICK_BYTES and left > 0 else 0

    def on_probe_sent(self, size_bytes: int, now: float) -> None:
        """A packet made for the cluster left."""
        self._refill(now)
        self._spend(size_bytes, now)

    def next_timeout(self) -> float | None:
        """When something may go; None while nothing waits."""
        due = math.inf
        if self.waiting_bytes:
            due = self._path.at
            if self._path.allowance <= 0.0 and not self._queues[Kind.AUDIO]:
                # One byte more than nothing, so that rounding does not call too early again and again.
                due += (1.0 - self._path.allowance) / self._current_rate()
        cluster = self._cluster
        if cluster is not None:
            packet = cluster.size_bytes / cluster.packets
            ahead = self._cluster_sent + 1.0 - packet
            due = min(due, max(self._cluster_began + ahead * 8 / cluster.target_bps, self._path.at))
        return None if due == math.inf else due

    def debug_state(self) -> dict[str, object]:
        return {
            "waiting_bytes": self.waiting_bytes,
            "waiting": {kind.name.lower(): len(queue) for kind, queue in self._queues.items()},
            "dropped": {kind.name.lower(): count for kind, count in self.dropped.items()},
            "rate_bps": round(self._path.rate * 8),
            "probe": self.probe,
        }
