"""The fates of datagrams on one link: from acknowledgements of media, else from probes.

In: cumulative counts of the ACKs (they tell of every datagram while media
flows), and what probes say. Out: the lossiness of each direction. Knows no frames and no keys.
"""

from __future__ import annotations

import math

from relaymesh.protocol.lossiness import Lossiness
from relaymesh.protocol.path_estimate import PathEstimate
from relaymesh.protocol.probe import Prober

ACKS_SUFFICE = 1.0  # seconds after an ACK in which probes are not needed
SETTLED = 1.0  # seconds after the link came up: until then ACKs may tell of what was sent before


class Fates:
    """Both directions of one link."""

    def __init__(self) -> None:
        self.out, self.back = Lossiness(), Lossiness()
        self._acked = (0, 0, 0)  # datagrams, lost, bursts: told by ACKs so far
        self._acked_at = -math.inf
        self._up_at = math.inf

    def handle_up(self, now: float) -> None:
        """The link works from now on."""
        self._up_at = now

    def handle_ack(self, told: PathEstimate, now: float) -> bool:
        """An ACK came in; whether the loss towards the peer made a step."""
        before, self._acked = self._acked, (told.fates, told.fates_lost, told.fates_bursts)
        self._acked_at = now
        total, lost, bursts = (new - old for new, old in zip(self._acked, before, strict=True))
        return now >= self._up_at + SETTLED and self.out.note(total, lost, bursts)

    def handle_probes(self, prober: Prober, now: float) -> bool:
        """Take in what probes say, now and then; whether the loss towards the peer made a step.

        What is sent over a link that is not up says nothing of it: the peer may not be there.
        """
        (sent, lost), (theirs, theirs_lost) = prober.take_fates()
        if now < self._up_at:
            return False
        self.back.note(theirs, theirs_lost, _bursts(theirs_lost))
        if now - self._acked_at < ACKS_SUFFICE:
            return False
        return self.out.note(sent, lost, _bursts(lost))

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        self._up_at = math.inf
        self.out.forget()
        self.back.forget()

    def debug_state(self) -> dict[str, object]:
        return {"out": self.out.debug_state(), "in": self.back.debug_state()}


def _bursts(lost: int) -> int:
    return (lost > 0) - (lost < 0)
