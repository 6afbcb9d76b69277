"""Pairs that may not be neighbours any more, while packets may still be under way between them.

In: pairs the operator forbade, which plans were made since, which one is active.
Out: which links no plan may be made with from now on,
and, a grace after such a plan is active, the pairs whose links may be taken
away. That order is what makes forbidding a pair cost no packet: make before break.
This module knows no keys, no messages and no policy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from relaymesh.controller.lsdb import Direction

# From the activation of a plan until no packet of an older one travels: the word to the
# farthest node (activation waits 0.5 s at most for its like), its last packet's way, and its repair.
GRACE_S = 2.0
_LOOK_S = 0.25

Pair = tuple[int, int]  # the lower index first


@dataclass(slots=True)
class _Entry:
    begun: bool = False  # a plan that avoids it is being made
    planned: int | None = None  # the first generation that avoids the pair; None: no such plan yet
    clear_since: float | None = None  # when that one, or a later one, was first seen active


class Retiring:
    """The pairs on their way out."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._entries: dict[Pair, _Entry] = {}
        self._next_look: float | None = None

    def begin(self, pairs: Iterable[Pair], now: float) -> None:
        """These may not be neighbours from now on."""
        for pair in pairs:
            self._entries.setdefault(pair, _Entry())
        if self._entries and self._next_look is None:
            self._next_look = now + _LOOK_S

    def keep_only(self, pairs: Collection[Pair]) -> None:
        """All others stay neighbours after all."""
        self._entries = {pair: entry for pair, entry in self._entries.items() if pair in pairs}

    def holds(self, link: Direction) -> bool:
        """True when *link* is on its way out: no plan may be made with it."""
        return bool(self._entries) and (min(link), max(link)) in self._entries

    @property
    def unplanned(self) -> bool:
        """True when there are pairs that no plan was made without yet."""
        return any(entry.planned is None for entry in self._entries.values())

    def handle_begun(self) -> None:
        """A plan is being made from costs without them."""
        for entry in self._entries.values():
            entry.begun = True

    def handle_planned(self, generation: int) -> None:
        """That plan is made. It says nothing of pairs that came while it was."""
        for entry in self._entries.values():
            if entry.begun and entry.planned is None:
                entry.planned = generation

    def next_timeout(self) -> float | None:
        return self._next_look

    def handle_timeout(self, active: int, may_go: Callable[[Pair], bool], now: float) -> list[Pair]:
        """The pairs whose links are to be taken away now; they are forgotten here.

        *active*: the generation packets are stamped with. *may_go*: whether both ends can be told.
        """
        if self._next_look is None or now < self._next_look:
            return []
        gone: list[Pair] = []
        for pair, entry in sorted(self._entries.items(), key=lambda item: item[0]):
            if entry.planned is None or active < entry.planned:
                continue
            if entry.clear_since is None:
                entry.clear_since = now
            if now >= entry.clear_since + self._grace_s and may_go(pair):
                gone.append(pair)
        for pair in gone:
            del self._entries[pair]
        self._next_look = now + _LOOK_S if self._entries else None
        return gone

    def debug_state(self) -> dict[str, object]:
        return {
            f"{low}-{high}": {"planned": entry.planned, "clear_since": entry.clear_since}
            for (low, high), entry in sorted(self._entries.items())
        }
