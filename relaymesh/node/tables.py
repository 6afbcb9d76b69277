"""The forwarding tables a node holds: for each recent generation, next hop → destinations, and detours.

A packet is forwarded by the table of the generation it was stamped with, so
that it meets one consistent set of tables on its whole way. The last few
generations are kept for the packets still travelling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from relaymesh.protocol.bitstring import decode_set, encode_set, members
from relaymesh.protocol.messages import Delta, Detour, Route, Snapshot

GENERATIONS_KEPT = 8
SPLITS_KEPT = 1024  # sets of destinations whose parts are remembered: those of the streams that pass

Part = tuple[int, int, Sequence[int]]  # (neighbour to send to, destinations, hops after it)
Table = dict[int, int]  # next hop's index → bit set of destinations
Ways = dict[int, list[tuple[tuple[int, ...], int]]]  # failed neighbour → (hops, bit set of destinations)


class ForwardingTables:
    """All tables held, the newest, and the one new packets are stamped with."""

    def __init__(self) -> None:
        self._held: dict[int, Table] = {}  # in the order of installing
        self._detours: dict[int, Ways] = {}  # of the same generations
        self.newest = 0  # 0 = none yet
        self.active = 0
        self.unknown_generations = 0  # packets whose generation is not held
        self._splits: dict[tuple[int, int], tuple[list[Part], int]] = {}

    def install_snapshot(self, snapshot: Snapshot) -> None:
        table: Table = {}
        for route in snapshot.routes:
            table[route.next_hop] = table.get(route.next_hop, 0) | decode_set(route.destinations)
        self._install(snapshot.generation, table, _ways(snapshot.detours))

    def install_delta(self, delta: Delta) -> bool:
        """``False`` when the generation it builds on is not held: a snapshot is wanted."""
        base = self._held.get(delta.base)
        if base is None:
            return False
        gone = decode_set(delta.lost)
        moved: Table = {}
        for route in delta.moved:
            moved[route.next_hop] = moved.get(route.next_hop, 0) | decode_set(route.destinations)
            gone |= moved[route.next_hop]
        table = {hop: left for hop, mask in base.items() if (left := mask & ~gone)}
        for hop, mask in moved.items():
            table[hop] = table.get(hop, 0) | mask
        ways = self._detours[delta.base]
        redone = decode_set(delta.redone)
        if redone:
            ways = _merged(ways, redone, _ways(delta.detours or ()))
        elif delta.detours is not None:
            ways = _ways(delta.detours)
        self._install(delta.generation, table, ways)
        return True

    def _install(self, generation: int, table: Table, ways: Ways) -> None:
        self._splits.clear()
        self._held.pop(generation, None)
        self._held[generation] = table
        self._detours[generation] = ways
        self.newest = generation
        while len(self._held) > GENERATIONS_KEPT:
            # The active one stays, however old: packets are stamped with it.
            oldest = next(g for g in self._held if g != self.active)
            del self._held[oldest], self._detours[oldest]

    def activate(self, generation: int) -> bool:
        """Stamp with *generation* from now on; ``False`` when it is not held."""
        if generation not in self._held:
            return False
        self.active = generation
        return True

    def split(self, destinations: int, generation: int) -> tuple[list[Part], int]:
        """([a part of the destinations for each next hop], what has no route); not to be changed.

        A generation not held is forwarded by the newest table, and counted.
        """
        split = self._splits.get((destinations, generation))
        if split is not None:
            return split
        table = self._held.get(generation)
        if table is None:
            self.unknown_generations += 1
            return _split(destinations, self._held.get(self.newest, {}))
        if len(self._splits) >= SPLITS_KEPT:
            self._splits.clear()
        split = self._splits[destinations, generation] = _split(destinations, table)
        return split

    def resolve(self, generation: int) -> int:
        """The generation by which packets of *generation* are forwarded."""
        return generation if generation in self._held else self.newest

    def detours(self, failed: int, generation: int) -> Iterable[tuple[tuple[int, ...], int]]:
        """(hops, destinations) for packets of *generation* whose next hop is the *failed* neighbour."""
        return self._detours.get(self.resolve(generation), {}).get(failed, ())

    def next_hops(self) -> Collection[int]:
        """The neighbours that the active table uses."""
        return self._held.get(self.active, {}).keys()

    def next_hop(self, destination: int) -> int | None:
        """By the active table."""
        bit = 1 << destination
        return next((hop for hop, mask in self._held.get(self.active, {}).items() if mask & bit), None)

    def routes(self) -> tuple[Route, ...]:
        """The active table as it is written in messages."""
        return tuple(Route(hop, encode_set(mask)) for hop, mask in self._held.get(self.active, {}).items())

    def debug_state(self) -> dict[str, object]:
        return {
            "active": self.active,
            "newest": self.newest,
            "held": list(self._held),
            "unknown_generations": self.unknown_generations,
            "detours": {
                hop: [[list(path), members(mask)] for path, mask in ways]
                for hop, ways in self._detours.get(self.active, {}).items()
            },
            "routes": {hop: members(mask) for hop, mask in self._held.get(self.active, {}).items()},
        }


def _split(destinations: int, table: Table) -> tuple[list[Part], int]:
    parts: list[Part] = []
    for hop, mask in table.items():
        part = destinations & mask
        if part:
            parts.append((hop, part, ()))
            destinations &= ~part
    return parts, destinations


def _ways(detours: Iterable[Detour]) -> Ways:
    ways: Ways = {}
    for detour in detours:
        if not detour.path:
            continue  # leads nowhere
        ways.setdefault(detour.around, []).append((detour.path, decode_set(detour.destinations)))
    return ways


def _merged(base: Ways, redone: int, new: Ways) -> Ways:
    """*base* without what it has for the destinations *redone*, and the *new*."""
    ways: Ways = {}
    for failed, old in base.items():
        kept = [(path, left) for path, mask in old if (left := mask & ~redone)]
        if kept:
            ways[failed] = kept
    for failed, more in new.items():
        ways.setdefault(failed, []).extend(more)
    return ways
