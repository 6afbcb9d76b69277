"""What the parts of a core want said: messages for the controller, events for the ring."""

from __future__ import annotations

from collections import Counter

from relaymesh.node.events import CoreEvent
from relaymesh.protocol.messages import NodeMessage


class Outbox:
    """Collects both until they are taken away."""

    def __init__(self) -> None:
        self.connected = False  # a controller listens
        self.refused: Counter[str] = Counter()  # messages that made no sense, by type or reason
        self._messages: list[NodeMessage] = []
        self._events: list[CoreEvent] = []

    def tell(self, message: NodeMessage) -> None:
        """Say *message* to the controller; lost without one, since the next join says it all."""
        self._messages.append(message)

    def emit(self, event: CoreEvent) -> None:
        """Hand *event* to the ring."""
        self._events.append(event)

    def disconnected(self) -> None:
        """Nobody listens any more: what was not said is not."""
        self.connected = False
        self._messages.clear()

    def poll_messages(self) -> list[NodeMessage]:
        """What the controller must be told."""
        if not self._messages:
            return []
        messages, self._messages = self._messages, []
        return messages

    def poll_events(self) -> list[CoreEvent]:
        """What happened."""
        if not self._events:
            return []
        events, self._events = self._events, []
        return events
