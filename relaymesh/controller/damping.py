"""Damping: a link that comes back is used with care, and one that flaps with more.

In: links that go down and come up, and time. Out: what is added to the cost of a link on
probation, so that it is used only where there is no other way. Probation begins
when a link is up again. After one death it is short (:data:`HOLD_S`); a link that
dies again flaps, and waits for :data:`FLAP_HOLD_S`, twice as long each time,
:data:`MAX_HOLD_S` at most: so that whatever its rhythm, paths change at most once a minute for it. A
link that stayed up for :data:`FORGIVE_S` beyond it begins anew. A link that was
never down has none: a new node is used at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relaymesh.controller.lsdb import Direction

HOLD_S = 4.0
FLAP_HOLD_S = 60.0
MAX_HOLD_S = 240.0
FORGIVE_S = 120.0  # with it, a death and a return need two minutes
PROBATION_MS = 10_000.0  # more than any path that is up costs

Pair = tuple[int, int]  # the lower index first


@dataclass(slots=True)
class _Record:
    deaths: int = 0
    until: float | None = None  # of the probation; None while down

    def holds(self, now: float) -> bool:
        return self.until is None or now < self.until


def hold_s(deaths: int) -> float:
    """Duration of the probation after so many deaths, seconds."""
    return HOLD_S if deaths <= 1 else min(FLAP_HOLD_S * 2.0 ** (min(deaths, 16) - 2), MAX_HOLD_S)


class Damping:
    """Links on probation, and the end of each probation."""

    def __init__(self) -> None:
        self._records: dict[Pair, _Record] = {}
        self._ends: dict[Pair, float] = {}  # of probations under way

    def handle_down(self, directions: Iterable[Direction], now: float) -> None:
        """These links were up until now."""
        for pair in {_pair(direction) for direction in directions}:
            record = self._records.get(pair)
            if record is None or (record.until is not None and now >= record.until + FORGIVE_S):
                record = self._records[pair] = _Record()
            if record.until is not None or not record.deaths:
                record.deaths += 1
                record.until = None
                self._ends.pop(pair, None)

    def handle_up(self, directions: Iterable[Direction], now: float) -> None:
        """These links are up from now on."""
        for pair in {_pair(direction) for direction in directions}:
            record = self._records.get(pair)
            if record is not None and record.until is None:
                self._ends[pair] = record.until = now + hold_s(record.deaths)

    def forget(self, index: int) -> None:
        """The node is gone for good."""
        for pair in [pair for pair in self._records if index in pair]:
            self.forget_pair(*pair)

    def forget_pair(self, one: int, other: int) -> None:
        """The two are no neighbours any more, by no fault of their link."""
        self._records.pop(_pair((one, other)), None)
        self._ends.pop(_pair((one, other)), None)

    def added_ms(self, direction: Direction, now: float) -> float:
        """Cost that probation adds to *direction*, milliseconds."""
        record = self._records.get(_pair(direction))
        return PROBATION_MS if record is not None and record.holds(now) else 0.0

    def on_probation(self, now: float) -> frozenset[Direction]:
        """The links whose cost is added to now, and those that are down."""
        held = [pair for pair, record in self._records.items() if record.holds(now)]
        return frozenset(_both_ways(held))

    def next_timeout(self) -> float | None:
        """End of the next probation."""
        return min(self._ends.values(), default=None)

    def handle_timeout(self, now: float) -> list[Direction]:
        """The links whose probation has ended since the last call."""
        ended = [pair for pair, end in self._ends.items() if now >= end]
        for pair in ended:
            del self._ends[pair]
        return _both_ways(ended)

    def debug_state(self) -> dict[str, object]:
        return {
            f"{low}-{high}": {"deaths": record.deaths, "until": record.until}
            for (low, high), record in sorted(self._records.items())
        }


def _pair(direction: Direction) -> Pair:
    one, other = direction
    return (one, other) if one < other else (other, one)


def _both_ways(pairs: Iterable[Pair]) -> list[Direction]:
    return [direction for low, high in pairs for direction in ((low, high), (high, low))]
