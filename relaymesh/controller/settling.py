"""Settling after an outage: the wait for nodes to come back before anything is decided without them.

In: which members are connected, and what the reports say of neighbours. Out:
whether we still wait. Nodes that carry media come back to the controller one
by one, each in its own pause between tries. The wait is over when everybody
anybody still hears is back, and at the latest after ``longest_s``.
"""

from __future__ import annotations

from collections.abc import Iterable

from relaymesh.protocol.messages import Report


class Settling:
    """One wait at a time; none at first."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._until: float | None = None
        self._reported: set[int] = set()
        self._heard: dict[int, set[int]] = {}  # by whom: whom it heard at its last word

    @property
    def waiting(self) -> bool:
        return self._until is not None

    def begin(self, now: float) -> None:
        """Wait from *now*; a wait under way begins again."""
        self._until = now + self._longest_s
        self._reported.clear()
        self._heard.clear()

    def handle_join(self) -> None:
        """One more is back: what was said of its links before could not be believed, and is said again."""
        self._reported.clear()

    def handle_report(self, index: int, report: Report, connected: Iterable[int], now: float) -> None:
        """*index* says whom it hears; *connected* are all that came back so far."""
        if self._until is None:
            return
        self._reported.add(index)
        self._heard[index] = {link.peer for link in report.links if link.up}
        back = set(connected)
        if back <= self._reported and all(heard <= back for heard in self._heard.values()):
            self._until = min(self._until, now)

    def next_timeout(self) -> float | None:
        return self._until

    def handle_timeout(self, now: float) -> bool:
        """End the wait when it is due; True when it ended just now."""
        if self._until is None or now < self._until:
            return False
        self._until = None
        return True

    def debug_state(self) -> dict[str, object]:
        return {
            "until": self._until,
            "reported": sorted(self._reported),
            "heard": {index: sorted(heard) for index, heard in self._heard.items()},
        }
