"""A token bucket: how much one peer may ask of us. Given ``now``; knows no clock."""

from __future__ import annotations


class TokenBucket:
    """Allows *burst* at once and *rate* per second after that."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._fill(now)
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True

    def take_in_debt(self, now: float) -> float:
        """Take one in any case; the seconds to wait until the debt is paid (0: none)."""
        self._fill(now)
        self._level -= 1.0
        return max(0.0, -self._level / self._rate)

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
