"""Counting on simulated nodes: a tap on each, and the sums over the living and the dead."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from relaymesh.node.app import Node
from relaymesh.protocol.frames import MEDIA, is_copy, payload_size
from relaymesh.protocol.messages import ControllerMessage, NodeMessage


@dataclass(slots=True)
class Tally:
    """What nodes have counted, those that are dead included."""

    loops: int = 0  # hop limit or reflection
    duplicates: int = 0  # media packets that reached an edge twice
    bugs: int = 0
    payload_hops: int = 0  # bytes of media payload, once for each link they were sent into
    dropped: Counter[str] = field(default_factory=Counter)


class NodeTap:
    """A :class:`~relaymesh.node.tap.Tap` of one machine: counts media, loses control messages at will.

    It outlives the node.
    """

    def __init__(self, rng: Random) -> None:
        self.payload_hops = 0
        self.drop_control = 0.0  # fraction of control messages that are lost
        self._random = rng.random

    def note_relayed(self, peer: int, frame: bytes) -> None:
        if frame[0] == MEDIA and not is_copy(frame):  # a copy is overhead whole
            self.payload_hops += payload_size(frame)

    def lets_out(self, message: NodeMessage) -> bool:
        return not self._lost()

    def lets_in(self, message: ControllerMessage) -> bool:
        return not self._lost()

    def _lost(self) -> bool:
        return self.drop_control > 0 and self._random() < self.drop_control


class NodeCount:
    """The duplicates one node has seen, over its lives, and what it dropped."""

    def __init__(self) -> None:
        self.duplicates = 0
        self.dropped: Counter[str] = Counter()  # by nodes that died here
        self._seen: dict[object, int] = {}  # encoding → duplicates so far

    def take(self, node: Node) -> None:
        """Take over what *node* counted since the last call."""
        seen: dict[object, int] = {}
        for publication in node.core.publications.remote():
            for encoding in publication.encodings():
                seen[encoding] = encoding.duplicates
                self.duplicates += encoding.duplicates - self._seen.get(encoding, 0)
        self._seen = seen

    def bury(self, node: Node) -> None:
        """*node* dies; what it counted is kept."""
        self.take(node)
        self._seen.clear()
        self.dropped.update(node.core.forwarder.dropped)
