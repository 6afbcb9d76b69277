"""The rate of what was sent. In: sizes and ``now``. Out: bit/s over the last whole second."""

from __future__ import annotations

from collections import deque


class SentRate:
    """What was sent in the last second, in tenths."""

    def __init__(self) -> None:
        self._bins: deque[tuple[int, int]] = deque()  # (tenth of a second, bytes)

    def add(self, size_bytes: int, now: float) -> None:
        """*size_bytes* left at *now*."""
        tenth = int(now * 10)
        if self._bins and self._bins[-1][0] == tenth:
            self._bins[-1] = tenth, self._bins[-1][1] + size_bytes
        else:
            self._bins.append((tenth, size_bytes))
            while self._bins[0][0] < tenth - 10:
                self._bins.popleft()

    def bps(self, now: float) -> float:
        """Bit/s over the last whole second."""
        tenth = int(now * 10)
        return sum(size for at, size in self._bins if tenth - 10 <= at < tenth) * 8.0
