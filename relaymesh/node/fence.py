"""Which controller a node obeys: the one with the highest leader epoch it has heard of.

In: messages of the controller. Out: whether they may be acted on. Two
controllers may both believe they lead, for a moment or behind a partition; what
the older one says then is refused here. It knows no channel and acts on nothing.
"""

from __future__ import annotations

from relaymesh.protocol.messages import Activate, ControllerMessage, Delta, Links, Snapshot, Welcome


class Fence:
    """The highest epoch heard, and what was refused for having a lower one."""

    def __init__(self) -> None:
        self.highest = 0

    def admits(self, message: ControllerMessage) -> bool:
        """Whether *message* is the newest leader's, as far as this node knows.

        What carries no epoch is as good as the welcome of its channel.
        """
        if not isinstance(message, Welcome | Links | Snapshot | Delta | Activate):
            return True
        if message.leader_epoch < self.highest:
            return False
        self.highest = message.leader_epoch
        return True
