"""What one link brings: contents of datagrams that arrived or were recovered, as whole routed frames.

    contents → contexts noted, fragments joined → routed frames; REPAIR, RETRANSMISSION → recovered → the same

In: what a datagram that was accepted, or a source that was recovered, says, with the key it came under.
Out: routed frames, whole, each once. The counterpart of :mod:`~.departures`; knows no seal, and of time only
what it is told.
"""

from __future__ import annotations

from relaymesh.protocol.arq import Retransmission
from relaymesh.protocol.contents import Contents, read_contents
from relaymesh.protocol.contexts import UnknownContexts
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fec import Repair
from relaymesh.protocol.fragments import Reassembly
from relaymesh.protocol.keyring import Key, KeyRing
from relaymesh.protocol.recovery import Receiver


class Intake:
    """The contents of one link's datagrams."""

    def __init__(self, keys: KeyRing) -> None:
        self.receiver = Receiver()
        self.fragments = Reassembly()
        self.unknown_contexts = UnknownContexts()
        self.unknown_frames = 0
        self.malformed = 0  # recovered sources that are no frames: the peer's own fault
        self._keys = keys

    def hold_keys(self) -> None:
        """The keys that are held are others now."""
        self.receiver.hold({key.prefix >> 32: key.arrivals for key in self._keys.held()})

    def begin_anew(self) -> None:
        """Forget what the peer told; keys and counts stay."""
        self.receiver = Receiver()
        self.hold_keys()
        self.fragments = Reassembly()

    def take(self, contents: Contents, key: Key, packet_id: int, now: float) -> list[bytes]:
        """The routed frames of a datagram that arrived or was recovered."""
        self.unknown_frames += contents.unknown
        if contents.fragment is not None:
            return self.fragments.add(packet_id, contents.fragment, now)
        for number, context in contents.announced:
            key.contexts.put(number, context)
        if contents.unresolved:
            self.unknown_contexts.note(key.epoch, contents.unresolved, now)
        return contents.routed

    def handle_late(self, packet_id: int, now: float) -> list[bytes]:
        """The routed frames that the late arrival of a packet recovered."""
        return self._open(self.receiver.handle_arrival(packet_id, now), now)

    def handle_retransmission(self, frame: Retransmission, now: float) -> list[bytes]:
        """The routed frames of a packet that was sent again, and of what it recovered."""
        key = self._keys.get(frame.epoch)
        if key is None:
            return []
        packet_id = key.prefix | frame.number
        return self._open(self.receiver.handle_retransmission(packet_id, frame.frames, now), now)

    def handle_repair(self, repair: Repair, now: float) -> list[bytes]:
        """The routed frames that a repair packet recovered."""
        key = self._keys.get(repair.epoch)
        if key is None:
            return []
        return self._open(self.receiver.handle_repair(repair, key.prefix >> 32, now), now)

    def _open(self, recovered: list[tuple[int, bytes]], now: float) -> list[bytes]:
        """The routed frames of packets that were lost; should they still come, they are replayed ones."""
        routed: list[bytes] = []
        for packet_id, source in recovered:
            key = self._keys.get(packet_id >> 32 & 0xFF)
            assert key is not None, "only packets of keys that are held are recovered"
            key.window.mark(packet_id & 0xFFFFFFFF)
            try:
                contents = read_contents(source, key.contexts)
            except ProtocolError:
                self.malformed += 1
                continue
            routed += self.take(contents, key, packet_id, now)
            self.unknown_frames += len(contents.local)  # none of these is ever repaired
        return routed
