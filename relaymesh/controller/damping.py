"""Damping: a link that comes back is used with care, and one that flaps with more.

In: links that go down and come up. Out: what is added to the cost of a link on
probation, so that it is used only where there is no other way. Probation begins
when a link is up again. After one death it is short (:data:`HOLD_S`); a link that
dies again flaps, and waits for :data:`FLAP_HOLD_S`, twice as long each time,
:data:`MAX_HOLD_S` at most: so that whatever its rhythm, paths change at most once a minute for it. A
link that stayed up for :data:`FORGIVE_S` beyond it begins anew. A link that was
never down has none: a new node is used at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def hold_s(deaths: int) -> float:
    """How long the probation after so many deaths lasts, seconds."""
    return HOLD_S if deaths <= 1 else min(FLAP_HOLD_S * 2.0 ** (min(deaths, 16) - 2), MAX_HOLD_S)


class Damping:
    """Who is on probation, and until when."""

    def __init__(self) -> None:
        self._records: dict[Pair, _Record] = {}

    def handle_down(self, directions: Iterable[Direction], now: float) -> None:
        """These links were up until now."""
        for pair in {_pair(direction) for direction in directions}:
            record = self._records.get(pair)
            if record is None or (record.until is not None and now >= record.until + FORGIVE_S):
                record = self._records[pair] = _Record()
            if record.until is not None or not record.deaths:
                record.deaths += 1
                record.until = None

    def handle_up(self, directions: Iterable[Direction], now: float) -> None:
        """These links are up from now on."""
        for pair in {_pair(direction) for direction in directions}:
            record = self._records.get(pair)
            if record is not None and record.until is None:
                record.until = now + hold_s(record.deaths)

    def forget(self, index: int) -> None:
        """The node is gone for good."""
        self._records = {pair: record for pair, record in self._records.items() if index not in pair}

    def forget_pair(self, one: int, other: int) -> None:
        """The two are no neighbours any more, by no fault of their link."""
        self._records.pop(_pair((one, other)), None)

    def weigh(self, costs_ms: Mapping[Direction, float], now: float) -> dict[Direction, float]:
        """*costs_ms* with what probation adds."""
        weighed = dict(costs_ms)
        for (low, high), record in self._records.items():
            if record.until is None or now < record.until:
                for direction in ((low, high), (high, low)):
                    if direction in weighed:
                        weighed[direction] += PROBATION_MS
        return weighed

    def on_probation(self, now: float) -> frozenset[Direction]:
        """The links that :meth:`weigh` adds to now, and those that are down."""
        held = [p for p, r in self._records.items() if r.until is None or now < r.until]
        return frozenset((*held, *((high, low) for low, high in held)))

    def next_timeout(self, now: float) -> float | None:
        """When the next probation after *now* ends."""
        return min(
            (r.until for r in self._records.values() if r.until is not None and r.until > now), default=None
        )

    def debug_state(self) -> dict[str, object]:
        return {
            f"{low}-{high}": {"deaths": record.deaths, "until": record.until}
            for (low, high), record in sorted(self._records.items())
        }


def _pair(direction: Direction) -> Pair:
    one, other = direction
    return (one, other) if one < other else (other, one)
