"""Encodings that do not get through to a player though their publisher sends them.

A mesh link that is short leaves dear ones out, whole. In: what one sender plays and waits for, ``now``. Out:
the encodings to let be for a while; each is tried again, after a longer pause each time. PURE.
"""

from __future__ import annotations

from math import inf

from relaymesh.node.encodings import Encoding

# An encoding of which nothing comes for so long, but word that it is left out, is let be for a while;
# one whose keyframe does not come for so long, too.
STARVED_AFTER = 0.7  # s
UNANSWERED_AFTER = 3.0  # s
AVOIDED_S, MAX_AVOIDED_S = 3.0, 24.0  # s; twice as long each time
FED_AFTER = 5.0  # s in which it came: the next time counts as the first


class Starvation:
    """What one sender avoids."""

    def __init__(self) -> None:
        self._avoided: dict[int, tuple[float, float]] = {}  # encoding → (until, pause), s

    def avoided(
        self,
        current: Encoding | None,
        begun_at: float,
        pending: Encoding | None,
        wanted_at: float,
        now: float,
    ) -> set[int]:
        """The numbers to avoid now.

        *current* plays since *begun_at*; *pending*, wanted since *wanted_at*, waits for its keyframe.
        """
        if current is not None and current.track.is_remote and len(current.track.encodings) > 1:
            if now - current.last_arrival >= STARVED_AFTER and now - current.last_skip < STARVED_AFTER:
                self._avoid(current.number, now)
            elif begun_at + FED_AFTER <= now:
                self._avoided.pop(current.number, None)
        left_out = pending is not None and now - pending.last_skip < STARVED_AFTER
        if pending is not None and current is not None and left_out and now - wanted_at >= UNANSWERED_AFTER:
            self._avoid(pending.number, now)
        return {number for number, (until, _) in self._avoided.items() if now < until}

    def _avoid(self, number: int, now: float) -> None:
        until, pause = self._avoided.get(number, (-inf, AVOIDED_S / 2))
        if now >= until:
            pause = min(2 * pause, MAX_AVOIDED_S)
            self._avoided[number] = now + pause, pause
