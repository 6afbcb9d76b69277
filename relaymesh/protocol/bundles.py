"""Small frames that are ready in the same wake for the same link share a datagram.

In: routed frames that may go at once, with their class; out: which of them go together, at the latest
when the wake ends: nothing waits for others that may come. A datagram has frames of one class only, so that
it has their deadline and rank in repair, and those of a class keep their order. Knows no link and no time.
"""

from __future__ import annotations

from collections.abc import Sequence

from relaymesh.protocol.fragments import MAX_WHOLE_BYTES
from relaymesh.protocol.frames import ANNOUNCE_EXTRA_BYTES, COMPACT_TO_END, with_length

# What is longer gains little by company, and two of three such would be lost together.
MAX_BUNDLED_BYTES = 400


class Bundles:
    """The frames that are ready, by class."""

    def __init__(self) -> None:
        self._frames: list[list[bytes]] = [[] for _ in range(4)]
        self._sizes = [0] * 4  # bytes, at most
        self.ready = 0  # frames

    def add(self, frame: bytes, priority: int) -> list[list[bytes]] | None:
        """*frame* of a class is ready: the frames that go now, each list in a datagram; None: none yet."""
        size = len(frame)
        waiting = self._frames[priority]
        if size > MAX_BUNDLED_BYTES:
            if not waiting:
                return [[frame]]
            return [self._take(priority), [frame]]
        size += ANNOUNCE_EXTRA_BYTES
        full = None
        if waiting and self._sizes[priority] + size > MAX_WHOLE_BYTES:
            full = [self._take(priority)]
        self._frames[priority].append(frame)
        self._sizes[priority] += size
        self.ready += 1
        return full

    def take(self) -> list[tuple[list[bytes], int]]:
        """All that is ready, as (the frames of a datagram, their class); the wake ends."""
        if not self.ready:
            return []
        return [(self._take(priority), priority) for priority in range(4) if self._frames[priority]]

    def _take(self, priority: int) -> list[bytes]:
        frames, self._frames[priority] = self._frames[priority], []
        self._sizes[priority] = 0
        self.ready -= len(frames)
        return frames


def join(frames: Sequence[bytes]) -> bytes:
    """The plaintext of *frames* in one datagram: only the last may go to the end."""
    last = len(frames) - 1
    return b"".join(
        with_length(frame) if frame[0] >= COMPACT_TO_END and i < last else frame
        for i, frame in enumerate(frames)
    )
