"""The ways of hitless tracks that enter here: where their copies go beside, or in place of, the tables.

In: what the controller says, by generation; the edges a frame is for. Out: which of them the tables serve,
and the explicitly routed copies. While the ways of the active generation are not here yet, second copies go
by the last ones before: their lists of hops need no table, and the first copies go by the tables anyway.
"""

from __future__ import annotations

from typing import Literal

from relaymesh.node.tables import Part
from relaymesh.protocol.bitstring import decode_set
from relaymesh.protocol.messages import HitlessWays, Way

Hitless = Literal["none", "audio", "all"]  # which tracks of a publisher travel twice
GENERATIONS_KEPT = 4

_Ways = list[tuple[tuple[int, ...], int]]  # (path, bit set of destinations)


class WayTable:
    """The ways of the newest generations."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[_Ways, _Ways]] = {}  # generation → (second, first), in order of coming

    def install(self, message: HitlessWays) -> None:
        """Take over all ways of one generation."""
        self._held.pop(message.generation, None)
        self._held[message.generation] = _decode(message.second), _decode(message.first)
        if len(self._held) > GENERATIONS_KEPT:
            del self._held[next(iter(self._held))]

    def clear(self) -> None:
        """Our index is another: the ways began elsewhere."""
        self._held.clear()

    def split(self, destinations: int, generation: int) -> tuple[int, list[Part], list[Part]]:
        """(destinations left to the tables, first copies that go by a path, second copies)."""
        if not self._held:
            return destinations, [], []
        exact = self._held.get(generation)
        second, first = exact or self._before(generation)
        seconds = _parts(second, destinations)
        if exact is None or not first:
            return destinations, [], seconds
        firsts = _parts(first, destinations)
        for _, part, _ in firsts:
            destinations &= ~part
        return destinations, firsts, seconds

    def _before(self, generation: int) -> tuple[_Ways, _Ways]:
        older = [held for held in self._held if held < generation]
        return self._held[older[-1]] if older else ([], [])

    def debug_state(self) -> dict[str, object]:
        return {
            "generations": list(self._held),
            "second": sum(len(second) for second, _ in self._held.values()),
            "first": sum(len(first) for _, first in self._held.values()),
        }


def _decode(ways: tuple[Way, ...]) -> _Ways:
    """Each destination in one way only, whatever was said: none gets a third copy."""
    decoded: _Ways = []
    seen = 0
    for way in ways:
        if not way.path:
            continue  # leads nowhere
        mask = decode_set(way.destinations) & ~seen
        seen |= mask
        if mask:
            decoded.append((way.path, mask))
    return decoded


def _parts(ways: _Ways, destinations: int) -> list[Part]:
    return [(path[0], part, path[1:]) for path, mask in ways if (part := destinations & mask)]
