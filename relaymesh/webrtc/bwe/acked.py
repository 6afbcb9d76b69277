"""The rate that arrives, by the times on the peer's clock.

In: sizes and arrival times. Out: bit/s over a window that ends with the newest arrival.
"""

from __future__ import annotations

from bisect import bisect_right

WINDOW = 0.5  # seconds: fifteen frames of video; libwebrtc's first window
SHORT_WINDOW = 0.25  # seconds: a fall shows sooner; libwebrtc's later one (0.15) is of four frames, and jumpy
LEAST_WINDOW = 0.06  # seconds of arrivals from a path that is full make its rate: four feedbacks at the most
MIN_PACKETS = 5  # fewer make no rate
MAX_PACKETS = 4096  # in the window; beyond 80 Mbit/s it just gets shorter
CLOCK_JUMP = 2.0  # seconds an arrival may be before the newest; beyond, the peer's clock was set


class AckedRate:
    """Acknowledged bytes over the last half second."""

    def __init__(self) -> None:
        # Rising: what was overtaken counts as come with what overtook it. Of the bytes the sum so far, so
        # that a rate needs no walk.
        self._times: list[float] = []
        self._sums: list[int] = []
        self._sum = 0
        self._head = 0  # of both lists: what is before is not in the window any more
        self._started: float | None = None  # first arrival since the last reset

    @property
    def _newest(self) -> float | None:
        return self._times[-1] if self._times else None

    def add(self, arrived_at: float, size_bytes: int) -> None:
        """*size_bytes* arrived at *arrived_at*, peer's clock."""
        times = self._times
        newest = times[-1] if times else None
        if newest is None or not -CLOCK_JUMP <= arrived_at - newest <= CLOCK_JUMP:
            times.clear()
            self._sums.clear()
            self._sum = self._head = 0
            self._started = newest = arrived_at
        self._sum += size_bytes
        times.append(max(arrived_at, newest))
        self._sums.append(self._sum)
        if arrived_at > newest:
            head, last = self._head, len(times) - 1
            while times[head] <= arrived_at - WINDOW or last - head >= MAX_PACKETS:
                head += 1
            self._head = head
            if head >= MAX_PACKETS:
                del times[:head], self._sums[:head]
                self._head = 0

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

    def _bytes_from(self, index: int) -> int:
        return self._sum - (self._sums[index - 1] if index else 0)

    def rate_since(self, arrived_at: float) -> float | None:
        """Bit/s that arrived after *arrived_at*; None while that is too little to tell."""
        newest = self._newest
        if newest is None or newest - arrived_at < LEAST_WINDOW:
            return None
        first = bisect_right(self._times, arrived_at, self._head)
        if len(self._times) - first < MIN_PACKETS:
            return None
        return self._bytes_from(first) * 8 / (newest - max(arrived_at, newest - WINDOW))

    def rate_bps(self, window: float = WINDOW) -> float | None:
        """Bit/s over the last *window* seconds; None while too little is known."""
        newest, started, times = self._newest, self._started, self._times
        if newest is None or started is None or len(times) - self._head < MIN_PACKETS:
            return None
        window = min(window, WINDOW)
        if newest - started < window:
            window = newest - started
            if window < SHORT_WINDOW * 0.9:
                return None
        first = min(bisect_right(times, newest - window, self._head), len(times) - MIN_PACKETS)
        if first > self._head:  # from the arrival of the one before them
            window = newest - times[first - 1]
        return self._bytes_from(first) * 8 / window
