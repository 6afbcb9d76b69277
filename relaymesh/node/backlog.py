"""Kept packets of an encoding on their way to a player whose path is short, and live ones behind them.

In: what is kept since a keyframe, what comes after it, a rate, ``now``. Out: packets and what was left out
among them, in order, no faster than the rate; for each picture the time to add to its timestamp.

Who must step down to an encoding whose publisher makes no keyframe for anybody can begin it only in the
past. All of that at once would be more than the path carries, and what of it is lost costs the picture until
the next keyframe. So it is shown faster than it was filmed, as fast as the path allows, until it
has caught up; its timestamps follow the time at which it is sent, not the one at which it was filmed, so
that a jitter buffer sees no delay in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from relaymesh.node.encodings import Skip
from relaymesh.protocol.frames import MediaFrame

Entry: TypeAlias = MediaFrame | Skip
MAX_ENTRIES = 16_384  # beyond what is kept since a keyframe
PACKET_BYTES = 70  # around a payload, on the wire
MAX_CREDIT = 0.02  # s of the rate that may go at once after a late call


def in_order(frames: Iterable[MediaFrame], skips: Iterable[Skip]) -> list[Entry]:
    """*frames* and *skips*, which both are in order, in one row."""
    left = deque(skips)
    entries: list[Entry] = []
    for frame in frames:
        while left and left[0][0] < frame.sequence:
            entries.append(left.popleft())
        entries.append(frame)
    return [*entries, *left]


class Backlog:
    """What waits of one encoding."""

    def __init__(self, entries: Iterable[Entry], bps: float, step: int, now: float) -> None:
        """*bps*: on the wire; *step*: the least time between two pictures, in RTP units."""
        self.bps = bps
        self.added: dict[int, int] = {}  # source timestamp → what is added to it
        self._waiting: deque[Entry] = deque()
        self._bytes = 0  # of payload that waits
        self._stamps: deque[int] = deque()  # of the pictures that wait, each once
        self._step = step
        self._due_at = now
        self._first: int | None = None  # the first picture's timestamp; others are counted from it
        self._newest = 0
        self._last = -step  # of the pictures handed out, after adding
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether it does not catch up: nothing more should be added."""
        return len(self._waiting) >= MAX_ENTRIES

    def add(self, entry: Entry) -> None:
        """*entry* comes behind what waits."""
        self._waiting.append(entry)
        if isinstance(entry, MediaFrame):
            self._bytes += len(entry.payload)
            stamp = entry.timestamp
            if self._first is None:
                self._first = stamp
            if stamp not in self.added and (not self._stamps or self._stamps[-1] != stamp):
                self._stamps.append(stamp)
            since = stamp - self._first & 0xFFFFFFFF
            if since < 1 << 31:
                self._newest = max(self._newest, since)

    @property
    def waiting_bps(self) -> float:
        """The rate at which all that waits would be gone in a second."""
        return 8.0 * self._bytes

    def is_followed_by(self, frame: MediaFrame) -> bool:
        """Whether *frame* is of a keyframe after the one that all this began with."""
        assert self._first is not None, "a backlog is made of something"
        return frame.keyframe and 0 < (frame.timestamp - self._first & 0xFFFFFFFF) < 1 << 31

    def next_timeout(self) -> float:
        """When :meth:`pop` has more, s."""
        return self._due_at

    def stamp(self, frame: MediaFrame) -> int:
        """What is added to *frame*'s timestamp, now that its picture is sent: it is among the newest."""
        assert self._first is not None, "it was added"
        added = self.added.get(frame.timestamp)
        if added is None:
            while self._stamps and self._stamps.popleft() != frame.timestamp:
                pass
            since = frame.timestamp - self._first & 0xFFFFFFFF
            self._last = max(self._last + self._step, self._newest - len(self._stamps) * self._step)
            added = self.added[frame.timestamp] = self._last - since & 0xFFFFFFFF
        return added

    def pop(self, now: float) -> Entry | None:
        """The next one that may go now; ``None``: nothing, or not yet."""
        if not self._waiting or now < self._due_at:
            return None
        entry = self._waiting.popleft()
        if isinstance(entry, MediaFrame):
            self._bytes -= len(entry.payload)
        return entry

    def spend(self, payload_bytes: int, now: float) -> None:
        """A packet went, with so much payload."""
        size = payload_bytes + PACKET_BYTES
        self._due_at = max(self._due_at, now - MAX_CREDIT) + size * 8 / self.bps
