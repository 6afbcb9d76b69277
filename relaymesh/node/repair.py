"""Local repair: which neighbours frames go around at this moment, and by which way.

In: links that went down and came up, the tables' generations. Out: for a next
hop, where its frames really go. A neighbour is gone around from the moment its
link goes down; when the link is up again, only a plan newer than its return
takes it back, so that a link that comes and goes moves nothing here. What has no
detour goes to the neighbour as before: it may live, and nothing is lost by that.
"""

from __future__ import annotations

from relaymesh.node.tables import ForwardingTables, Part
from relaymesh.protocol.bitstring import members, set_of


class LocalRepair:
    """The neighbours gone around."""

    def __init__(self, tables: ForwardingTables) -> None:
        self._tables = tables
        self._down: set[int] = set()
        self._removed: set[int] = set()  # of those
        self._returned: dict[int, int] = {}  # link up again: the newest generation held when it returned
        self.active = False  # whether anything is gone around

    def handle_down(self, peer: int) -> None:
        """The link to *peer* is down."""
        self._returned.pop(peer, None)
        self._down.add(peer)
        self.active = True

    def handle_removed(self, peer: int) -> None:
        """The link to *peer* was taken away; tables may name it until the next plan."""
        self.handle_down(peer)
        self._removed.add(peer)

    def handle_up(self, peer: int) -> None:
        """The link to *peer* works (again)."""
        if peer in self._down:
            self._down.remove(peer)
            self._removed.discard(peer)
            self._returned[peer] = self._tables.newest

    def handle_activate(self) -> None:
        """Packets are stamped with another generation now: it may take links back."""
        active, used = self._tables.active, self._tables.next_hops()
        forgotten = {peer for peer in self._removed if peer not in used}
        self._removed -= forgotten
        self._down -= forgotten
        self._returned = {peer: until for peer, until in self._returned.items() if until >= active}
        self.active = bool(self._down or self._returned)

    def clear(self) -> None:
        """All links are new."""
        self._down.clear()
        self._removed.clear()
        self._returned.clear()
        self.active = False

    def ways(self, hop: int, destinations: int, generation: int) -> list[Part]:
        """Where frames of *generation* go whose next hop is *hop*; each destination is in one part."""
        if not self._goes_around(hop, generation):
            return [(hop, destinations, ())]
        parts: list[Part] = []
        for path, mask in self._tables.detours(hop, generation):
            part = destinations & mask
            # With both gone, the neighbour that is back is the better bet.
            if part and not (path[0] in self._down and hop not in self._down):
                parts.append((path[0], part, path[1:]))
                destinations &= ~part
        if destinations:
            parts.append((hop, destinations, ()))
        return parts

    def _goes_around(self, hop: int, generation: int) -> bool:
        if hop in self._down:
            return True
        until = self._returned.get(hop)
        return until is not None and self._tables.resolve(generation) <= until

    def waiting(self) -> int:
        """The neighbours, as a set, that could be used again if only a newer plan said so."""
        used = self._tables.next_hops()
        return set_of(peer for peer in self._returned if peer in used)

    def debug_state(self) -> dict[str, object]:
        return {
            "down": sorted(self._down),
            "returned": dict(self._returned),
            "waiting": members(self.waiting()),
        }
