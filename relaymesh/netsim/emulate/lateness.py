"""How late an emulator is, counted so cheaply that every packet can be."""

from __future__ import annotations

BUCKET_S = 10e-6  # seconds
BUCKETS = 10_000  # up to 100 ms; what is later counts in the last one
VALID_P99_S = 1e-3
"""Above this 99th percentile of lateness (seconds) a run says nothing about the links it emulates."""


class Lateness:
    """A histogram of seconds, and their maximum."""

    def __init__(self) -> None:
        self.counts = [0] * (BUCKETS + 1)
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[min(int(seconds / BUCKET_S), BUCKETS)] += 1
        if seconds > self.maximum:
            self.maximum = seconds

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float:
        """Seconds that *fraction* of all were not later than, rounded up to a bucket; 0 without any."""
        wanted = fraction * self.total
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min((index + 1) * BUCKET_S, self.maximum)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Milliseconds: median, 99th and 99.9th percentile, maximum; and the count."""
        named = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        result = {name: round(self.quantile(at) * 1000, 3) for name, at in named.items()}
        return {**result, "max": round(self.maximum * 1000, 3), "packets": self.total}
