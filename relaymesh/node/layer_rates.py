"""Rates of an encoding's layers as its ingress measures them, and whether the encoding is live.

In: each packet's layers and size. Out: the cumulative rate up to each layer, as LAYERS frames tell it.
"""

from __future__ import annotations

from collections import deque
from math import inf

from relaymesh.protocol.frames import EncodingLayers

WINDOW = 2.0  # s over which rates are measured,
SLOT = 0.1  # s in steps of this; a keyframe's burst is spread over the window
SILENT_AFTER = 1.0  # s without a packet: the publisher stopped this encoding
MAX_LAYERS = 8
OVERHEAD_BYTES = 64  # around a payload on its way to a player: RTP with an extension, SRTP, UDP, IP


class LayerRates:
    """Counts one encoding."""

    __slots__ = ("_began_at", "_current", "_last", "_slots", "spatial", "temporal")

    def __init__(self) -> None:
        self.spatial = self.temporal = 1  # layers seen
        self._began_at = inf
        self._last = -inf
        self._slots: deque[tuple[float, dict[tuple[int, int], int]]] = deque()
        self._current: dict[tuple[int, int], int] = {}

    def note(self, spatial: int, temporal: int, size_bytes: int, now: float) -> None:
        """One packet of payload *size_bytes*."""
        if now - self._last > SILENT_AFTER:
            self._began_at = now
            self._slots.clear()
            self.spatial, self.temporal = spatial + 1, temporal + 1
        self._last = now
        if not self._slots or now - self._slots[-1][0] >= SLOT:
            self._current = {}
            self._slots.append((now, self._current))
            while now - self._slots[0][0] > WINDOW:
                self._slots.popleft()
        key = (spatial, temporal)
        self._current[key] = self._current.get(key, 0) + size_bytes + OVERHEAD_BYTES
        if spatial >= self.spatial:
            self.spatial = min(spatial + 1, MAX_LAYERS)
        if temporal >= self.temporal:
            self.temporal = min(temporal + 1, MAX_LAYERS)

    def live(self, now: float) -> bool:
        """Whether packets come."""
        return now - self._last <= SILENT_AFTER

    def layers(self, number: int, now: float) -> EncodingLayers:
        """The state of the encoding *number* as a LAYERS frame says it."""
        while self._slots and now - self._slots[0][0] > WINDOW:
            self._slots.popleft()
        seconds = min(WINDOW, max(now - self._began_at, 3 * SLOT))
        totals: dict[tuple[int, int], int] = {}
        for _, slot in self._slots:
            for key, size in slot.items():
                totals[key] = totals.get(key, 0) + size
        rates = tuple(
            min(
                0xFFFFFFFF,
                int(
                    8
                    * sum(size for (s, t), size in totals.items() if s <= spatial and t <= temporal)
                    / seconds
                ),
            )
            for spatial in range(self.spatial)
            for temporal in range(self.temporal)
        )
        return EncodingLayers(number, self.live(now), self.spatial, self.temporal, rates)
