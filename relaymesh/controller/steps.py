"""Steps and noise: when what is measured of a link moves the cost that the planner uses.

In: the cost of each directed link by its latest measurement. Out: the planned
cost, which moves in steps. All measurements of a while must agree that there is a
step, and then it is taken by the least of them. How long the while is depends
on what speaks for it:

- a rise that is clear in latency and loss (jitter is a busy host's, or noise) counts almost at once:
  the node has made sure of it already, over several probes or losses, before it reported;
- a smaller one takes three reports, and one by jitter alone half a minute;
- a fall, which is only good news, takes longer, and the longer the more often the link got worse lately.

A link that is new is planned with at once, by its first report, which knows little of its jitter. That first
impression is put right once, some seconds later, by the middle one of the reports since
(the lower of two). Until then loss is not clear, however high: its node learns only now how late packets
may be there, and may have told the first late ones as lost.

Loss is known less well than latency: it takes half as much again, or half as much, to move its part.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from itertools import islice

from relaymesh.controller.lsdb import Direction

HYSTERESIS_MS = 2.0
HYSTERESIS_FRACTION = 0.10
HYSTERESIS_LOSS = 0.5  # of what loss costs, planned or now
CLEAR_MS = 8.0  # a rise of more than this …
CLEAR_FRACTION = 0.2  # … and of more than this part of the planned cost …
CLEAR_LOSS_MS = 4.0  # or a rise of this much for loss alone, which is 1 % …
CLEAR_CONFIRM_S = 0.1  # … needs no second report, only that none says otherwise
CONFIRM_S = 2.5  # three reports
# Where jitter alone speaks for it. It is that of two seconds: three reports in a row are one opinion.
JITTER_CONFIRM_S = 30.0
BETTER_CONFIRM_S = 5.0  # a fall; twice as long after each recent rise …
MAX_BETTER_CONFIRM_S = 60.0  # … at most
RISE_MEMORY_S = 60.0  # a link that made no step for so long begins anew
IMPRESSION_S = 5.0  # after its first report
IMPRESSION_MS = 1.0  # what a first impression may be wrong by …
IMPRESSION_FRACTION = 0.05  # … or by this part of it
_IMPRESSIONS = 256  # put right in one call: half a millisecond


@dataclass(frozen=True, slots=True)
class Measured:
    """Cost of one directed link by its latest report; milliseconds."""

    total_ms: float
    loss_ms: float  # of it: for loss
    jitter_ms: float  # of it: for jitter


@dataclass(slots=True)
class _Departure:
    """A candidate for a step: measurements beside the planned cost, all to one side."""

    since: float  # seconds
    least: Measured  # the one nearest to what is planned
    due: float  # seconds: when it is confirmed


@dataclass(slots=True)
class _Impression:
    """Measurements of a link since its first report."""

    due: float  # seconds
    reports: list[Measured] = field(default_factory=list)


@dataclass(slots=True)
class _Link:
    planned: Measured
    latest: Measured
    departure: _Departure | None = None
    rises: int = 0  # recent ones
    moved_at: float = 0.0  # seconds: the last step


class Steps:
    """The planned costs of all links that are up."""

    def __init__(self) -> None:
        self._links: dict[Direction, _Link] = {}
        self._departing: dict[Direction, _Link] = {}  # those of them with a departure: few of many
        # The oldest first. A plain dict would walk over all that went before to find its first.
        self._new: OrderedDict[Direction, _Impression] = OrderedDict()
        self._next: float | None = None  # when the first departure is confirmed, if …
        self._next_known = True

    def forget(self, direction: Direction) -> bool:
        """The link is down or gone; whether it was planned with."""
        if self._departing.pop(direction, None) is not None:
            self._next_known = False
        self._new.pop(direction, None)
        return self._links.pop(direction, None) is not None

    def update(self, direction: Direction, measured: Measured, now: float) -> bool:
        """*direction* costs this now; whether the planned cost moved at once (a link that is new)."""
        link = self._links.get(direction)
        if link is None:
            self._links[direction] = _Link(measured, measured)
            self._new[direction] = _Impression(now + IMPRESSION_S)
            return True
        link.latest = measured
        if direction in self._new:
            self._new[direction].reports.append(measured)
        self._recompare(direction, link, now)
        return False

    def shift(self, direction: Direction, by_ms: float) -> None:
        """All that is known of *direction* costs so much more: a decision, no measurement."""
        link = self._links[direction]
        link.planned = replace(link.planned, total_ms=link.planned.total_ms + by_ms)
        link.latest = replace(link.latest, total_ms=link.latest.total_ms + by_ms)
        if link.departure is not None:
            least = link.departure.least
            link.departure.least = replace(least, total_ms=least.total_ms + by_ms)
        if direction in self._new:
            impression = self._new[direction]
            impression.reports = [replace(one, total_ms=one.total_ms + by_ms) for one in impression.reports]

    def next_timeout(self) -> float | None:
        """Time at which a departure is old enough to be a step, or a first impression to be put right."""
        if not self._next_known:
            dues = (link.departure.due for link in self._departing.values() if link.departure is not None)
            self._next, self._next_known = min(dues, default=None), True
        first = next(iter(self._new.values()), None)
        if first is None or self._next is None:
            return self._next if first is None else first.due
        return min(first.due, self._next)

    def handle_timeout(self, now: float) -> list[Direction]:
        """Take the steps that are confirmed; whose they were."""
        moved = self._put_right(now)
        for direction, link in list(self._departing.items()):
            departure = link.departure
            if departure is None or now < departure.due:
                continue
            moved.append(direction)
            self._new.pop(direction, None)  # a step is no impression any more
            if departure.least.total_ms > link.planned.total_ms:
                link.rises = 1 if now - link.moved_at > RISE_MEMORY_S else link.rises + 1
            link.moved_at = now
            link.planned, link.departure = departure.least, None
            # It may have moved on since, and be still now: nothing would say so again.
            self._recompare(direction, link, now)
        return moved

    def _put_right(self, now: float) -> list[Direction]:
        moved: list[Direction] = []
        for direction, impression in list(islice(self._new.items(), _IMPRESSIONS)):
            if now < impression.due:
                break
            del self._new[direction]
            link = self._links[direction]
            if not impression.reports:
                continue
            rising = sorted(impression.reports, key=lambda one: one.total_ms)
            middle = rising[(len(rising) - 1) // 2]
            wrong = abs(middle.total_ms - link.planned.total_ms)
            if wrong > max(IMPRESSION_MS, IMPRESSION_FRACTION * link.planned.total_ms):
                link.planned, link.departure = middle, None
                moved.append(direction)
                self._recompare(direction, link, now)
        return moved

    def _recompare(self, direction: Direction, link: _Link, now: float) -> None:
        _compare(link, now, is_new=direction in self._new)
        if link.departure is not None:
            self._departing[direction] = link
        elif self._departing.pop(direction, None) is None:
            return
        self._next_known = False

    def planned(self) -> dict[Direction, float]:
        """Milliseconds per direction that is up; a copy."""
        return {direction: link.planned.total_ms for direction, link in self._links.items()}

    def planned_ms(self, direction: Direction) -> float | None:
        """Planned cost of *direction*; None when it is down."""
        link = self._links.get(direction)
        return None if link is None else link.planned.total_ms


def _compare(link: _Link, now: float, is_new: bool) -> None:
    planned, latest, departure = link.planned, link.latest, link.departure
    difference = latest.total_ms - planned.total_ms
    if abs(difference) <= _tolerated_ms(planned, latest):
        link.departure = None
    elif departure is None or (departure.least.total_ms > planned.total_ms) != (difference > 0):
        link.departure = _Departure(now, latest, now + _confirm_s(link, latest, now, is_new))
    else:
        if abs(difference) < abs(departure.least.total_ms - planned.total_ms):
            departure.least = latest
        # A small rise that becomes a clear one waits no longer than a clear one does; nothing waits anew.
        departure.due = min(departure.due, now + _confirm_s(link, departure.least, now, is_new))


def _confirm_s(link: _Link, measured: Measured, now: float, is_new: bool) -> float:
    planned = link.planned
    steady = measured.total_ms - measured.jitter_ms - (planned.total_ms - planned.jitter_ms)
    by_jitter = abs(steady) <= _tolerated_ms(planned, measured)
    if measured.total_ms < planned.total_ms:
        often = link.rises if now - link.moved_at <= RISE_MEMORY_S else 0
        better_s = min(MAX_BETTER_CONFIRM_S, BETTER_CONFIRM_S * 2.0 ** min(often, 10))
        return max(better_s, JITTER_CONFIRM_S) if by_jitter else better_s
    by_loss = measured.loss_ms - planned.loss_ms
    by_latency = steady - by_loss if is_new else steady
    if by_latency > max(CLEAR_MS, CLEAR_FRACTION * planned.total_ms) or (
        by_loss > CLEAR_LOSS_MS and not is_new
    ):
        return CLEAR_CONFIRM_S
    return JITTER_CONFIRM_S if by_jitter else CONFIRM_S


def _tolerated_ms(planned: Measured, latest: Measured) -> float:
    """Tolerance within which two costs count as the same."""
    return max(
        HYSTERESIS_MS,
        HYSTERESIS_FRACTION * planned.total_ms,
        HYSTERESIS_LOSS * max(planned.loss_ms, latest.loss_ms) if planned.loss_ms else 0.0,
    )
