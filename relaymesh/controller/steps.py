"""Steps and noise: when what is measured of a link moves the cost that the planner uses.

In: the cost of each directed link by its latest measurement. Out: the planned
cost, which moves in steps. All measurements of a while must agree that there is a
step, and then it is taken by the least of them. How long the while is depends
on what speaks for it:

- a rise that is clear in latency and loss (jitter is a busy host's, or noise) counts almost at once:
  the node has made sure of it already, over several probes or losses, before it reported;
- a smaller one takes three reports;
- a fall, which is only good news, takes longer, and the longer the more often the link got worse lately.

Loss is known less well than latency: it takes half as much again, or half as much, to move its part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from relaymesh.controller.lsdb import Direction

HYSTERESIS_MS = 2.0
HYSTERESIS_FRACTION = 0.10
HYSTERESIS_LOSS = 0.5  # of what loss costs, planned or now
CLEAR_MS = 8.0  # a rise of more than this …
CLEAR_FRACTION = 0.2  # … and of more than this part of the planned cost …
CLEAR_CONFIRM_S = 0.1  # … needs no second report, only that none says otherwise
CONFIRM_S = 2.5  # three reports
BETTER_CONFIRM_S = 5.0  # a fall; twice as long after each rise of late …
MAX_BETTER_CONFIRM_S = 60.0  # … at most
RISE_MEMORY_S = 60.0  # a link that made no step for so long begins anew


@dataclass(frozen=True, slots=True)
class Measured:
    """What one directed link costs by its latest report; milliseconds."""

    total_ms: float
    loss_ms: float  # of it: for loss
    jitter_ms: float  # of it: for jitter


@dataclass(slots=True)
class _Departure:
    """What may become a step: measurements beside the planned cost, all to one side."""

    since: float  # seconds
    least: Measured  # the one nearest to what is planned
    due: float  # seconds: when it is confirmed


@dataclass(slots=True)
class _Link:
    planned: Measured
    latest: Measured
    departure: _Departure | None = None
    rises: int = 0  # of late
    moved_at: float = 0.0  # seconds: the last step


class Steps:
    """The planned costs of all links that are up."""

    def __init__(self) -> None:
        self._links: dict[Direction, _Link] = {}
        self._departing: dict[Direction, _Link] = {}  # those of them with a departure: few of many

    def forget(self, direction: Direction) -> bool:
        """The link is down or gone; whether it was planned with."""
        self._departing.pop(direction, None)
        return self._links.pop(direction, None) is not None

    def update(self, direction: Direction, measured: Measured, now: float) -> bool:
        """*direction* costs this now; whether the planned cost moved at once (a link that is new)."""
        link = self._links.get(direction)
        if link is None:
            self._links[direction] = _Link(measured, measured)
            return True
        link.latest = measured
        _compare(link, now)
        if link.departure is None:
            self._departing.pop(direction, None)
        else:
            self._departing[direction] = link
        return False

    def shift(self, direction: Direction, by_ms: float) -> None:
        """All that is known of *direction* costs so much more: a decision, no measurement."""
        link = self._links[direction]
        link.planned = replace(link.planned, total_ms=link.planned.total_ms + by_ms)
        link.latest = replace(link.latest, total_ms=link.latest.total_ms + by_ms)
        if link.departure is not None:
            least = link.departure.least
            link.departure.least = replace(least, total_ms=least.total_ms + by_ms)

    def next_timeout(self) -> float | None:
        """When the next departure is old enough to be a step."""
        dues = (link.departure.due for link in self._departing.values() if link.departure is not None)
        return min(dues, default=None)

    def handle_timeout(self, now: float) -> list[Direction]:
        """Take the steps that are confirmed; whose they were."""
        moved: list[Direction] = []
        for direction, link in list(self._departing.items()):
            departure = link.departure
            if departure is None or now < departure.due:
                continue
            moved.append(direction)
            if departure.least.total_ms > link.planned.total_ms:
                link.rises = 1 if now - link.moved_at > RISE_MEMORY_S else link.rises + 1
            link.moved_at = now
            link.planned, link.departure = departure.least, None
            # It may have moved on since, and be still now: nothing would say so again.
            _compare(link, now)
            if link.departure is None:
                del self._departing[direction]
        return moved

    def planned(self) -> dict[Direction, float]:
        """Milliseconds per direction that is up; a copy."""
        return {direction: link.planned.total_ms for direction, link in self._links.items()}

    def planned_ms(self, direction: Direction) -> float | None:
        """What is planned with for *direction*; None when it is down."""
        link = self._links.get(direction)
        return None if link is None else link.planned.total_ms


def _compare(link: _Link, now: float) -> None:
    planned, latest, departure = link.planned, link.latest, link.departure
    difference = latest.total_ms - planned.total_ms
    tolerated = max(
        HYSTERESIS_MS,
        HYSTERESIS_FRACTION * planned.total_ms,
        HYSTERESIS_LOSS * max(planned.loss_ms, latest.loss_ms) if planned.loss_ms else 0.0,
    )
    if abs(difference) <= tolerated:
        link.departure = None
    elif departure is None or (departure.least.total_ms > planned.total_ms) != (difference > 0):
        link.departure = _Departure(now, latest, now + _confirm_s(link, latest, now))
    else:
        if abs(difference) < abs(departure.least.total_ms - planned.total_ms):
            departure.least = latest
        # A small rise that becomes a clear one waits no longer than a clear one does; nothing waits anew.
        departure.due = min(departure.due, now + _confirm_s(link, departure.least, now))


def _confirm_s(link: _Link, measured: Measured, now: float) -> float:
    planned = link.planned
    if measured.total_ms < planned.total_ms:
        often = link.rises if now - link.moved_at <= RISE_MEMORY_S else 0
        return min(MAX_BETTER_CONFIRM_S, BETTER_CONFIRM_S * 2.0 ** min(often, 10))
    steady = measured.total_ms - measured.jitter_ms - (planned.total_ms - planned.jitter_ms)
    clear = steady > max(CLEAR_MS, CLEAR_FRACTION * planned.total_ms)
    return CLEAR_CONFIRM_S if clear else CONFIRM_S
