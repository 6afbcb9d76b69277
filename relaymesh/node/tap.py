"""A tap on a running node: the moments that an emulated network counts, or takes part in.

In: frames on their way to neighbours, messages to and from the controller. Out: whether a
message passes. A node without a tap pays one comparison at each of them.
"""

from __future__ import annotations

from typing import Protocol

from relaymesh.protocol.messages import ControllerMessage, NodeMessage


class Tap(Protocol):
    """Called between decision and effect; it must not block or raise, and changes nothing it is given."""

    def note_relayed(self, peer: int, frame: bytes) -> None:
        """*frame* is about to be sealed for the neighbour *peer*."""

    def lets_out(self, message: NodeMessage) -> bool:
        """Whether *message* goes to the controller."""

    def lets_in(self, message: ControllerMessage) -> bool:
        """Whether the node hears *message* of the controller."""
