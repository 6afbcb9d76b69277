"""The frames that wait while a link is short: by class, at the rate the path carries.

In: items with a class and a size, the rate, ``now``. Out: the items whose turn it is.
Audio goes first, then keyframes and what has no class, then base layers, then the rest.
Where pictures are built on each other repair goes before media, since what was lost is the older
and nobody can show what comes after it; late audio, and what is left out soon, waits behind what is new.
What waited longer than its class bears
is dropped, from the lowest class first when room is short: nothing waits without bound, and
nothing is dropped while anything of a lower class waits.
Knows no frames; an item is whatever the caller hands in.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")

LANES = 8  # two of each class 0 … 3, in the order in which they go
MEDIA_LANES = (0, 3, 5, 6)  # by class
REPAIR_LANES = (1, 2, 4, 7)
MAX_BYTES = 1_000_000  # of all lanes
# Seconds an item of each lane may wait: what cannot be left out long enough for another route to be found.
PATIENCE = (1.0, 1.0, 1.0, 2.0, 1.0, 2.0, 0.15, 0.15)
BURST_S = 0.005  # of the rate may leave at once …
BURST_BYTES = 6_000.0  # … but at least so much


class Pacer(Generic[Item]):
    """The lanes of one link, and its allowance."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self.dropped = [0] * LANES  # items, by lane
        self._lanes: list[deque[tuple[Item, int, float]]] = [deque() for _ in range(LANES)]
        self._rate = math.inf
        self._just_dropped: list[Item] = []
        self._allowance = BURST_BYTES  # bytes; may be negative
        self._at = -math.inf

    def __bool__(self) -> bool:
        """True while anything waits."""
        return self.waiting_bytes > 0

    def set_rate(self, rate: float, now: float) -> None:
        """From *now* on so many bytes a second; infinite: all that waits may go."""
        self._refill(now)
        self._rate = rate

    def _refill(self, now: float) -> None:
        if self._rate == math.inf:
            self._allowance = BURST_BYTES
        elif now > self._at > -math.inf:
            most = max(BURST_BYTES, self._rate * BURST_S)
            self._allowance = min(most, self._allowance + (now - self._at) * self._rate)
        self._at = max(self._at, now)

    def spend(self, size: int) -> None:
        """*size* bytes were sent, whether they waited here or not."""
        self._allowance -= size

    def may_send(self, now: float) -> bool:
        """Tell whether the next item may go now."""
        self._refill(now)
        return self._allowance > 0.0

    def push(self, item: Item, lane: int, size: int, now: float) -> None:
        """*item* of *size* bytes waits in *lane*."""
        self._lanes[lane].append((item, size, now))
        self.waiting_bytes += size
        while self.waiting_bytes > MAX_BYTES:
            lowest = next(i for i in reversed(range(LANES)) if self._lanes[i])
            self._drop(lowest)

    def pop(self, now: float) -> Item | None:
        """The next item, if one may go now; its bytes are to be told by :meth:`spend` when it is sent."""
        if not self.waiting_bytes or not self.may_send(now):
            return None
        for index, lane in enumerate(self._lanes):
            while lane and lane[0][2] < now - PATIENCE[index]:
                self._drop_below(index)
                self._drop(index)
            if lane:
                item, size, _ = lane.popleft()
                self.waiting_bytes -= size
                return item
        return None

    def _drop_below(self, index: int) -> None:
        """Something of a class is about to be dropped: nothing of a lower one may outlive it."""
        for lower in reversed(range((index | 1) + 1, LANES)):
            while self._lanes[lower]:
                self._drop(lower)

    def _drop(self, index: int) -> None:
        item, size, _ = self._lanes[index].popleft()
        self.waiting_bytes -= size
        self.dropped[index] += 1
        self._just_dropped.append(item)

    def take_dropped(self) -> list[Item]:
        """What was dropped since the last call."""
        if not self._just_dropped:
            return self._just_dropped
        dropped, self._just_dropped = self._just_dropped, []
        return dropped

    def next_timeout(self) -> float:
        """The time at which something may go; infinite while nothing waits."""
        if not self.waiting_bytes:
            return math.inf
        if self._allowance > 0.0 or self._rate == math.inf:
            return self._at
        # One byte more than nothing, so that rounding does not call too early again and again.
        return self._at + (1.0 - self._allowance) / self._rate

    def clear(self) -> list[Item]:
        """All that waits, in the order of the lanes; nothing does any more."""
        items = [item for lane in self._lanes for item, _, _ in lane]
        for lane in self._lanes:
            lane.clear()
        self.waiting_bytes = 0
        return items

    def debug_state(self) -> dict[str, object]:
        return {
            "waiting_bytes": self.waiting_bytes,
            "waiting": [len(lane) for lane in self._lanes],
            "dropped": list(self.dropped),
        }
