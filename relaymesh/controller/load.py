"""Load: what a link costs more while there is no room on it.

In: accepted link reports, with the rate a link carries and the rate it could
carry, where nodes know them. Out: what is added to the cost of a directed link:
nothing below :data:`LEVELS`' first share, then in steep steps, so that a full
link is taken only where there is no other way. A level is entered when two
reports in a row say so, and left one step at a time, after the link was clearly
below it for :data:`RELEASE_S`: what moved away because a link was full must not come back at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relaymesh.controller.lsdb import Direction
from relaymesh.protocol.messages import LinkReport

# (share of what the link could carry from which on, milliseconds added)
LEVELS = ((0.85, 20.0), (0.95, 100.0), (1.05, 400.0))
RELEASE_BELOW = 0.15  # below a level's share by this much it may be left
RELEASE_S = 30.0
QUEUE_SHOWS_MS = 10.0  # a queue from which on the path may be short
QUEUE_FULL_MS = 100.0  # a queue as long as this is the last level, whatever the rates say


@dataclass(slots=True)
class _Gauge:
    level: int = 0
    seen: int = 0  # the level the last report spoke for
    below_since: float | None = None  # clearly below the level since then


class LoadGauges:
    """The level of every directed link about which anything is known."""

    def __init__(self, capacity_kbps: Callable[[Direction], float]) -> None:
        """*capacity_kbps*: what the operator says a link carries; 0 where nothing is said."""
        self._capacity_kbps = capacity_kbps
        self._gauges: dict[Direction, _Gauge] = {}

    def handle_report(self, sender: int, links: Iterable[LinkReport], now: float) -> list[Direction]:
        """Take in the reports of *sender* on its links; those whose load level changed."""
        changed: list[Direction] = []
        for link in links:
            direction = sender, link.peer
            share = self._share(direction, link)
            known = self._gauges.get(direction)
            if known is None and share < LEVELS[0][0]:
                continue
            gauge = self._gauges.setdefault(direction, _Gauge())
            if _update(gauge, share, now):
                changed.append(direction)
            if gauge.level == 0 and gauge.seen == 0:
                del self._gauges[direction]
        return changed

    def load_ms(self, direction: Direction) -> float:
        """Cost that load adds to *direction*, milliseconds."""
        gauge = self._gauges.get(direction)
        return 0.0 if gauge is None or not gauge.level else LEVELS[gauge.level - 1][1]

    def forget(self, index: int) -> None:
        """The node is gone for good."""
        self._gauges = {link: gauge for link, gauge in self._gauges.items() if index not in link}

    def debug_state(self) -> dict[str, object]:
        return {f"{a}>{b}": gauge.level for (a, b), gauge in sorted(self._gauges.items())}

    def _share(self, direction: Direction, link: LinkReport) -> float:
        # What is left out for want of room is wanted all the same.
        wanted = link.used_kbps + link.shed_kbps
        # What a sender takes for the rate of its path is a guess, which delays that vary can make too low:
        # it counts where the lack of room shows.
        shows = link.shed_kbps > 0 or link.queue_ms >= QUEUE_SHOWS_MS
        limits = (link.available_kbps if shows else 0.0, self._capacity_kbps(direction))
        known = [limit for limit in limits if limit > 0]  # 0 says that nothing is known
        if link.queue_ms >= QUEUE_FULL_MS:
            return LEVELS[-1][0]
        return wanted / min(known) if known else 0.0


def _update(gauge: _Gauge, share: float, now: float) -> bool:
    before = gauge.level
    speaks_for = sum(share >= least for least, _ in LEVELS)
    gauge.level = max(gauge.level, min(speaks_for, gauge.seen))
    gauge.seen = speaks_for
    if not gauge.level or share >= LEVELS[gauge.level - 1][0] - RELEASE_BELOW:
        gauge.below_since = None
    elif gauge.below_since is None:
        gauge.below_since = now
    elif now - gauge.below_since >= RELEASE_S:
        gauge.level, gauge.below_since = gauge.level - 1, now
    return gauge.level != before
