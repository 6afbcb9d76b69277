"""When each of many things is to be called next, and which of them is first.

In: a key and its time, set anew as often as it changes; out: the earliest time, and
the keys whose time has come. Costs follow what is touched, not how many keys there are. A
time that moves later, as each packet does to a link's, is found out when its old one has come: until
then nothing is done for it. Knows no clock, and not what is called.
"""

from __future__ import annotations

import heapq
from math import inf

_SPARE = 64  # entries of the heap that may be out of date, beside as many as there are keys


class Dues:
    """A time in seconds for each key; ``inf``: it waits for nothing."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._first = inf  # the earliest time; −∞: to be found
        self._posted: dict[int, float] = {}  # the earliest entry in the heap of each key that has one

    def set(self, key: int, at: float) -> None:
        """*key* is to be called at the time *at*, and no longer when was said before."""
        before = self._due.get(key, inf)
        if at == before:
            return
        self._due[key] = at
        if at < self._first:
            self._first = at
        elif before == self._first:
            self._first = -inf
        if at < self._posted.get(key, inf):
            self._post(key, at)

    def forget(self, key: int) -> None:
        """*key* is not to be called any more."""
        self._due.pop(key, None)
        self._first = -inf

    def at(self, key: int) -> float:
        """When *key* is to be called; ``inf``: it waits for nothing."""
        return self._due.get(key, inf)

    def clear(self) -> None:
        """Forget every key."""
        self._first = inf
        self._due.clear()
        self._posted.clear()
        self._heap.clear()

    def first(self) -> float:
        """The earliest time of all; ``inf`` while there is none."""
        if self._first == -inf:
            self._first = self._find_first()
        return self._first

    def _find_first(self) -> float:
        heap, due, posted = self._heap, self._due, self._posted
        while heap:
            at, key = heap[0]
            current = due.get(key, inf)
            if posted.get(key) == at:
                if current == at:
                    return at
                del posted[key]
                heapq.heappop(heap)
                if current < inf:
                    self._post(key, current)
            else:
                heapq.heappop(heap)  # an earlier entry has told already
        return inf

    def take(self, now: float) -> list[int]:
        """The keys whose time has come by *now*, rising; their times are ``inf`` until they are set again."""
        taken: list[int] = []
        if self._first > now:
            return taken
        while self._find_first() <= now:
            key = self._heap[0][1]
            self._due[key] = inf
            taken.append(key)
        self._first = -inf
        taken.sort()
        return taken

    def _post(self, key: int, at: float) -> None:
        self._posted[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._due) + _SPARE:
            self._posted = {key: at for key, at in self._due.items() if at < inf}
            self._heap = [(at, key) for key, at in self._posted.items()]
            heapq.heapify(self._heap)
