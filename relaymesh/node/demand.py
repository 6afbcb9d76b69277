"""Demand: which edge wants which encodings and layers of a publication.

At the ingress a :class:`DemandBook` keeps what edges say in DEMAND frames, for a
time; only the edges that the controller admitted move anything. At an edge
:class:`Wishes` turns what its senders take into DEMAND frames: at once when that
changes, and again while it lasts. Neither knows links, sessions or a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from relaymesh.protocol.frames import MAX_WISHES, DemandFrame, Wish

DEMAND_INTERVAL = 1.0  # s between refreshes,
DEMAND_KEPT = 3.5  # s a demand holds: two refreshes may be lost
MAX_STRANGERS = 64  # edges kept that the controller has not admitted (yet)
_REORDERED = (
    64  # serials so little behind the newest are late or repeated; others come from an edge that restarted
)

EncodingKey = tuple[int, int]  # track, encoding


@dataclass(slots=True)
class _Asked:
    serial: int
    until: float  # s
    wishes: dict[EncodingKey, tuple[int, int]] = field(default_factory=dict)  # → (spatial, temporal)


class DemandBook:
    """What all edges want of one publication; kept at its ingress."""

    def __init__(self, admitted: int = 0) -> None:
        """*admitted*: bit set of the edges that may play it."""
        self._admitted = admitted
        self._by_edge: dict[int, _Asked] = {}
        self._sets: dict[tuple[int, int, int, int], int] = {}
        self._audiences: dict[EncodingKey, int] = {}

    @property
    def admitted(self) -> int:
        """Bit set of the edges that may play the publication."""
        return self._admitted

    def admit(self, edges: int) -> list[tuple[int, EncodingKey]]:
        """Replace the set of edges; (edge, encoding) for all that are wanted now and were not before."""
        added, self._admitted = edges & ~self._admitted, edges
        self._forget_sets()
        return [
            (edge, key) for edge, asked in self._by_edge.items() if added >> edge & 1 for key in asked.wishes
        ]

    def handle(
        self, frame: DemandFrame, encodings: Mapping[int, Iterable[int]], now: float
    ) -> list[tuple[int, EncodingKey]] | None:
        """Take an edge's demand; (edge, encoding) for what it wants now and did not; ``None``: refused.

        *encodings*: the publication's tracks, each with its encodings' numbers; others cannot be wanted.
        """
        edge = frame.edge
        asked = self._by_edge.get(edge)
        if (
            asked is not None
            and now < asked.until
            and (asked.serial - frame.serial) & 0xFFFFFFFF < _REORDERED
        ):
            return None
        if asked is None and not self._admitted >> edge & 1 and self._strangers() >= MAX_STRANGERS:
            return None
        wishes = {
            (wish.track, wish.encoding): (wish.spatial, wish.temporal)
            for wish in frame.wishes
            if wish.encoding in encodings.get(wish.track, ())
        }
        before = asked.wishes if asked is not None and now < asked.until else {}
        self._by_edge[edge] = _Asked(frame.serial, now + DEMAND_KEPT, wishes)
        if before != wishes:
            self._forget_sets()
        if not self._admitted >> edge & 1:
            return []
        return [(edge, key) for key in wishes if key not in before]

    def lapse(self, now: float) -> None:
        """Forget what was not refreshed."""
        over = [edge for edge, asked in self._by_edge.items() if asked.until <= now]
        for edge in over:
            del self._by_edge[edge]
        if over:
            self._forget_sets()

    def edges(self, track: int, encoding: int, spatial: int, temporal: int) -> int:
        """Bit set of the edges that want this layer of an encoding."""
        key = (track, encoding, spatial, temporal)
        found = self._sets.get(key)
        if found is None:
            found = self._sets[key] = sum(
                1 << edge
                for edge, (most_spatial, most_temporal) in self._wanting((track, encoding))
                if spatial <= most_spatial and temporal <= most_temporal
            )
        return found

    def audience(self, track: int, encoding: int) -> int:
        """Bit set of the edges that want any layer of an encoding."""
        key = (track, encoding)
        found = self._audiences.get(key)
        if found is None:
            found = self._audiences[key] = sum(1 << edge for edge, _ in self._wanting(key))
        return found

    def _wanting(self, key: EncodingKey) -> Iterator[tuple[int, tuple[int, int]]]:
        for edge, asked in self._by_edge.items():
            if self._admitted >> edge & 1 and key in asked.wishes:
                yield edge, asked.wishes[key]

    def _strangers(self) -> int:
        return sum(1 for edge in self._by_edge if not self._admitted >> edge & 1)

    def _forget_sets(self) -> None:
        self._sets.clear()
        self._audiences.clear()

    def debug_state(self) -> dict[str, object]:
        return {
            str(edge): {f"{track}/{encoding}": layers for (track, encoding), layers in asked.wishes.items()}
            for edge, asked in self._by_edge.items()
        }


class Wishes:
    """What this edge tells the ingress that it wants of one publication."""

    def __init__(self, first_serial: int = 0) -> None:
        self._serial = first_serial & 0xFFFFFFFF
        self._said: dict[EncodingKey, tuple[int, int]] | None = None
        self._next = inf
        self.said = 0

    def poll(
        self, wanted: dict[EncodingKey, tuple[int, int]], now: float
    ) -> tuple[int, tuple[Wish, ...]] | None:
        """(serial, wishes) of the DEMAND frame to send now; ``None`` when nothing need be said."""
        if self._said is None and not wanted:
            return None
        if wanted == self._said and now < self._next:
            return None
        self._said = dict(wanted)
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        self._next = now + DEMAND_INTERVAL if wanted else inf
        self.said += 1
        wishes = (Wish(track, number, *layers) for (track, number), layers in wanted.items())
        return self._serial, tuple(wishes)[:MAX_WISHES]

    def repeat(self) -> None:
        """Say it again with the next poll: the ingress may be another node now."""
        self._said = None if self._said == {} else self._said
        self._next = -inf

    def next_timeout(self) -> float | None:
        """When a refresh is due; ``None`` while nothing is wanted."""
        return None if self._next == inf else self._next
