"""The queue that what was sent would make in a path as fast as it is taken to be. PURE.

A picture leaves faster than the path carries it, so that a queue grows behind the first of its packets though
the rate is well within the path. What is seen of delays is compared with this; what is beyond it is not ours.
"""

from __future__ import annotations


class ExpectedQueue:
    """One bottleneck, as it should be."""

    def __init__(self) -> None:
        self._bytes = 0.0
        self._at: float | None = None

    def add(self, sent_at: float, size_bytes: int, bps: float) -> float:
        """A packet left into a path of *bps*; seconds of queue that it finds. In the order of sending."""
        if self._at is not None and sent_at > self._at:
            self._bytes = max(0.0, self._bytes - (sent_at - self._at) * bps / 8)
        self._at = sent_at
        found = self._bytes * 8 / bps
        self._bytes += size_bytes
        return found
