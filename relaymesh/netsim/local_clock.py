"""A machine's own monotonic clock in virtual time: off by an offset, and too fast or too slow.

In: network time, seconds. Out: what the clock shows then, and when it will show something. It never goes
back and never jumps, as the monotonic clock of a real machine does not, which is the only one a node reads:
a clock that shall show something else gets there by going a little faster or slower (:data:`SLEW`). Only
before anybody has read it can it be set.
"""

from __future__ import annotations

from math import inf, nextafter, ulp

SLEW = 0.02  # seconds gained or lost in each second until a new offset is reached; kernels take 0.0005

Piece = tuple[float, float, float]  # since when (network time, s), what it showed then (s), its speed


class LocalClock:
    """Right at first; wrong from :meth:`set` or :meth:`slew` on."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = [(0.0, 0.0, 1.0)]  # the latest first; each holds until the next begins

    def set(self, now: float, offset: float, drift_ppm: float) -> None:
        """From *now* on it is *offset* seconds ahead, and gains *drift_ppm* microseconds in each second."""
        self._pieces = [(now, now + offset, 1.0 + drift_ppm * 1e-6)]

    def slew(self, now: float, offset: float, drift_ppm: float) -> None:
        """The same without a jump: it gains the drift at once, the offset by and by."""
        shown, speed = self.read(now), 1.0 + drift_ppm * 1e-6
        missing = now + offset - shown
        slewing = speed + (SLEW if missing > 0 else -SLEW)
        reached = now + abs(missing) / SLEW
        self._pieces = [(reached, shown + (reached - now) * slewing, speed), (now, shown, slewing)]

    def read(self, now: float) -> float:
        """What it shows at *now* (network time, not before the last change)."""
        for since, shown, speed in self._pieces:
            if now >= since:
                return shown + (now - since) * speed
        raise ValueError(f"{now} is before the clock's last change")

    def when(self, shown: float) -> float:
        """The network time from which on it shows *shown* or more; not before the last change."""
        for since, first, speed in self._pieces:
            if shown >= first:
                when = since + (shown - first) / speed
                while self.read(when) < shown:  # rounded down: a timer that fires then would fire for nothing
                    when = max(nextafter(when, inf), when + ulp(shown))
                return when
        return self._pieces[-1][0]
