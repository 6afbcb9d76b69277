"""The output of a controller core: messages by channel, channels to close, events and counters.

In: messages by node index. Out: the same by channel, in order, stamped with the leader's epoch.
A message to a node without a channel is dropped: a node is told its whole state when it rejoins.
This module knows no sockets and not what the messages say.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TypeAlias

from relaymesh.controller.registry import Registry
from relaymesh.controller.reign import Reign
from relaymesh.controller.stage import Told
from relaymesh.protocol.messages import ControllerMessage


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close this channel, after what was sent on it before."""

    reason: str


@dataclass(frozen=True, slots=True)
class CoreEvent:
    """An event worth a line in the log; ``fields`` are plain values and no secrets."""

    name: str
    fields: dict[str, object]


Outgoing: TypeAlias = tuple[int, ControllerMessage | Disconnect]  # (channel, what to do)


class Outbox:
    """Queues of outgoing messages and of events; whoever calls the core empties both after each call."""

    def __init__(self, registry: Registry, reign: Reign) -> None:
        self._registry = registry
        self._reign = reign
        self._outgoing: deque[Outgoing] = deque()
        self._events: deque[CoreEvent] = deque()
        self.counters: Counter[str] = Counter()

    def tell(self, told: Told) -> None:
        """Queue messages for the channels of their nodes."""
        for index, message in told:
            member = self._registry.by_index(index)
            if member is not None and member.conn_id is not None:
                self._outgoing.append((member.conn_id, self._reign.stamp(message)))

    def put(self, conn_id: int, message: ControllerMessage | Disconnect) -> None:
        """Queue *message* for a channel, whether a member has it or not."""
        self._outgoing.append((conn_id, message))

    def event(self, name: str, **fields: object) -> None:
        """Queue an event for the log."""
        self._events.append(CoreEvent(name, fields))

    def poll_outgoing(self) -> list[Outgoing]:
        """Messages to send and channels to close, in order."""
        outgoing = list(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def poll_events(self) -> list[CoreEvent]:
        """Events since the last call."""
        events = list(self._events)
        self._events.clear()
        return events
