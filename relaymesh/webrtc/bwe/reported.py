"""Loss as receiver reports tell it, of a peer that tells nothing else: does it speak against a video?

In: the loss of each report, ``now``. Out: whether it is too much. A peer that never reports arrivals tells
nothing of a rate that is not used, so its rate would stay where it once fell: a video may be tried
whatever the rate is, as long as no loss is reported. Where it is, the trial ends, and the next one
waits, each time longer.
"""

from __future__ import annotations

import math

from relaymesh.webrtc.bwe.loss import HIGH, LOW

FIRST_PAUSE, MAX_PAUSE = 5.0, 80.0  # seconds until the next trial, twice as long each time …
FORGIVEN_AFTER = 60.0  # … until one lasts so many seconds


class ReportedLoss:
    """Whether the reports of one peer speak against more than audio."""

    def __init__(self) -> None:
        self.is_high = False
        self._pause = FIRST_PAUSE
        self._until = -math.inf  # the next trial begins then at the earliest
        self._trial_began = -math.inf

    def note(self, fraction_lost: float, now: float) -> None:
        """A report came; *fraction_lost*: 0 … 1, since the one before."""
        if fraction_lost > HIGH:
            if not self.is_high and self._trial_began > -math.inf:
                calm = now - self._trial_began >= FORGIVEN_AFTER
                self._pause = FIRST_PAUSE if calm else min(2.0 * self._pause, MAX_PAUSE)
            self.is_high = True
            self._until = now + self._pause
        elif self.is_high and fraction_lost < LOW and now >= self._until:
            self.is_high = False
            self._trial_began = now
