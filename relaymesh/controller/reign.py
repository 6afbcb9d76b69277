"""The term of a leader: the epoch a core speaks with, and the end of its lease.

In: the lease as it was last renewed, epochs that nodes have heard of. Out: whether
we may decide anything now, and messages stamped with the epoch. A core without a
store is the only leader there is: its reign has no end, and it takes over any epoch
it hears of.
"""

from __future__ import annotations

from math import inf
from typing import TypeVar

import msgspec

from relaymesh.controller.lease import MAX_BELIEVED_EPOCH
from relaymesh.controller.remembered import Remembered
from relaymesh.protocol.messages import Activate, ControllerMessage, Delta, Links, Snapshot, Welcome

# A lapsed leader may be the only one who is cut off, with another leading for long: its nodes
# shall look, now and then. Those that find none come back. Longer than a restart of a store takes.
SEND_AWAY_S = 90.0

Message = TypeVar("Message", bound=ControllerMessage)


class Reign:
    """One reign; it may lapse, and go on."""

    def __init__(
        self, epoch: int = 1, *, until: float = inf, sole: bool = True, remembered: Remembered | None = None
    ) -> None:
        """*until*: when the lease ends (seconds, as ``now``); *sole*: nobody else can lead."""
        self.epoch = epoch
        self.remembered = remembered or Remembered()
        self.outranked_by = 0  # the highest epoch that a node has heard of, where it is above ours
        self._until = until
        self._sole = sole
        self._lapsed = False
        self._send_away_due = inf  # while lapsed

    @property
    def lapsed(self) -> bool:
        """True when the lease had ended at the last :meth:`check`."""
        return self._lapsed

    def check(self, now: float) -> bool:
        """True when we may decide anything at *now*. Asked before each step, so that a process that
        was stopped for a while does not go on as if no time had passed."""
        if now >= self._until and not self._lapsed:
            self._lapsed, self._send_away_due = True, now + SEND_AWAY_S
        return not self._lapsed

    def send_away(self, now: float) -> bool:
        """True when nodes shall look for another leader: once each :data:`SEND_AWAY_S` of a lapse."""
        if now < self._send_away_due:
            return False
        self._send_away_due = now + SEND_AWAY_S
        return True

    def renew(self, epoch: int, until: float) -> None:
        """The lease was renewed, perhaps with a higher epoch."""
        assert epoch >= self.epoch, "epochs never go back"
        self.epoch, self._until = epoch, until
        self._lapsed, self._send_away_due = False, inf
        if self.outranked_by <= epoch:
            self.outranked_by = 0

    def handle_heard(self, epoch: int) -> bool:
        """A node that is about to be let in has heard of *epoch*; whether it would obey us."""
        if epoch <= self.epoch:
            return True
        if self._sole and epoch <= MAX_BELIEVED_EPOCH:
            self.epoch = epoch
            return True
        self.outranked_by = max(self.outranked_by, epoch)
        return False

    def next_timeout(self) -> float | None:
        """End of the lease; in a lapse, the time of the next :meth:`send_away`."""
        due = self._send_away_due if self._lapsed else self._until
        return None if due == inf else due

    def stamp(self, message: Message) -> Message:
        """*message* with our epoch, if it is one that carries it."""
        if isinstance(message, Welcome | Links | Snapshot | Delta | Activate):
            return msgspec.structs.replace(message, leader_epoch=self.epoch)
        return message

    def debug_state(self) -> dict[str, object]:
        return {
            "epoch": self.epoch,
            "until": None if self._until == inf else self._until,
            "lapsed": self._lapsed,
            "outranked_by": self.outranked_by,
        }
