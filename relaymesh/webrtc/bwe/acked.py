"""The rate that arrives, by the times on the peer's clock.

In: sizes and arrival times. Out: bit/s over a window that ends with the newest arrival.
"""

from __future__ import annotations

from collections import deque

WINDOW = 0.5  # seconds: fifteen frames of video; libwebrtc's first window
SHORT_WINDOW = 0.25  # seconds: a fall shows sooner; libwebrtc's later one (0.15) is of four frames, and jumpy
LEAST_WINDOW = 0.06  # seconds of arrivals from a path that is full make its rate: four feedbacks at the most
MIN_PACKETS = 5  # fewer make no rate
MAX_PACKETS = 4096  # in the window; beyond 80 Mbit/s it just gets shorter
CLOCK_JUMP = 2.0  # seconds an arrival may be before the newest; beyond, the peer's clock was set


class AckedRate:
    """Acknowledged bytes over the last half second."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=MAX_PACKETS)
        self._newest: float | None = None
        self._started: float | None = None  # first arrival since the last reset

    def add(self, arrived_at: float, size_bytes: int) -> None:
        """*size_bytes* arrived at *arrived_at*, peer's clock."""
        newest = self._newest
        if newest is None or arrived_at < newest - CLOCK_JUMP or arrived_at > newest + CLOCK_JUMP:
            self._arrivals.clear()
            self._newest = self._started = newest = arrived_at
        self._arrivals.append((arrived_at, size_bytes))
        if arrived_at > newest:
            self._newest = arrived_at
            while self._arrivals[0][0] <= arrived_at - WINDOW:
                self._arrivals.popleft()

    def add_unreported(self, size_bytes: int, until: float) -> None:
        """Bytes whose feedback was lost are taken to have arrived evenly before *until*."""
        newest = self._newest
        if newest is None or not newest < until < newest + CLOCK_JUMP:
            return
        for step in range(1, 5):
            self.add(newest + (until - newest) * step / 5, size_bytes // 4)

    def covers(self, arrived_at: float, seconds: float) -> bool:
        """Whether so much time passed from *arrived_at* to the newest arrival."""
        return self._newest is not None and self._newest - arrived_at >= seconds

    def rate_since(self, arrived_at: float) -> float | None:
        """Bit/s that arrived after *arrived_at*; None while that is too little to tell."""
        newest = self._newest
        if newest is None or newest - arrived_at < LEAST_WINDOW:
            return None
        sizes = [size_bytes for at, size_bytes in self._arrivals if at > arrived_at]
        if len(sizes) < MIN_PACKETS:
            return None
        return sum(sizes) * 8 / (newest - max(arrived_at, newest - WINDOW))

    def rate_bps(self, window: float = WINDOW) -> float | None:
        """Bit/s over the last *window* seconds; None while too little is known."""
        newest, started = self._newest, self._started
        if newest is None or started is None or len(self._arrivals) < MIN_PACKETS:
            return None
        window = min(window, WINDOW)
        if newest - started < window:
            window = newest - started
            if window < SHORT_WINDOW * 0.9:
                return None
        size = 0
        for packets, (at, size_bytes) in enumerate(reversed(self._arrivals)):
            if at <= newest - window and packets >= MIN_PACKETS:
                window = max(window, newest - at)
                break
            size += size_bytes
        return size * 8 / window
