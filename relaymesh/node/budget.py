"""What of an estimate may be spent on layers: a guess is stretched, and a short shortage is sat out. PURE.

An estimate is wrong in two ways that show as black or standing pictures. Before anything was heard of a path
it is a guess, and below what a publisher without simulcast sends. And after a burst of loss it is too low
for a second or two, by a little: pausing a video then costs its player a keyframe and far more time than
the shortage lasts. So the lowest layer of what is sent is kept for :data:`PATIENCE` seconds
though the estimate falls short of it, by no more than to :data:`PATIENT_SHARE` of the need. Audio does not
suffer: it goes ahead of video in the session's pacer.
"""

from __future__ import annotations

from collections.abc import Collection

from relaymesh.node.allocation import UPGRADE_MARGIN

PATIENCE = 2.0  # s; estimates that fell too far are back sooner
PATIENT_SHARE = 0.7  # of what is needed; a path that carries less than this is not crowded further


def guess(estimate_bps: float, audio_bps: float, first_video_bps: float) -> float:
    """What may be spent while nothing was heard of the path: as much as one video needs at least.

    A publisher without simulcast would not be shown at all, though the path may carry it ten times. Of
    a player that sends receiver reports only nothing else is ever heard: its video would stay paused.
    """
    return max(estimate_bps, UPGRADE_MARGIN * (audio_bps + first_video_bps))


class Budget:
    """How long one session was short, and what it may spend meanwhile."""

    def __init__(self) -> None:
        self._short_since: float | None = None

    def spend(self, estimate_bps: float, audio_bps: float, sent_bps: Collection[float], now: float) -> float:
        """What may be spent, bit/s; *sent_bps*: the rate of each sent video's lowest layer."""
        least = audio_bps + sum(sent_bps)
        if not sent_bps or estimate_bps >= least:
            self._short_since = None
            return estimate_bps
        if self._short_since is None:
            self._short_since = now
        is_patient = now - self._short_since < PATIENCE and estimate_bps >= PATIENT_SHARE * least
        return least if is_patient else estimate_bps
