"""What one link sends becomes datagrams: together or alone, without headers that the peer knows, numbered.

    routed frame → Bundles → SentContexts → (two fragments) → numbered → noted for repair → to be sealed

In: routed frames whose turn it is, other plaintexts, ``now``; out: datagrams to be sealed. This is the last
step before the seal: what waits, is left out or is sent again was decided before. Knows no socket and reads
nothing of the peer.
"""

from __future__ import annotations

from relaymesh.protocol.bundles import MAX_BUNDLED_BYTES, Bundles, join
from relaymesh.protocol.contexts import SentContexts
from relaymesh.protocol.datagram import SealJob
from relaymesh.protocol.fragments import MAX_WHOLE_BYTES, fragmented
from relaymesh.protocol.frames import ANNOUNCE, MEDIA, ROUTED_FIRST
from relaymesh.protocol.keyring import KeyRing
from relaymesh.protocol.liveness import Liveness
from relaymesh.protocol.outflow import Outflow


class Departures:
    """The numbered datagrams of one link, and how many there were."""

    def __init__(self, keys: KeyRing, contexts: SentContexts, outflow: Outflow, liveness: Liveness) -> None:
        self.outflow = outflow  # which is told what is sent
        self.sent_packets = 0
        self.media_packets = 0  # of them, those with routed frames or parts of them
        self.media_bytes = 0  # of those
        self._keys = keys
        self._liveness = liveness
        self._contexts = contexts
        self._bundles = Bundles()

    def add(self, frame: bytes, priority: int, now: float) -> list[SealJob]:
        """The datagrams that can go for a routed *frame* of a class; a small one shares one with others.

        Raises:
            ProtocolError: unknown_key before the first key, oversized when it is longer than a frame may be.
        """
        if len(frame) > MAX_BUNDLED_BYTES and not self._bundles.ready:
            return self.whole(frame, priority, now)
        self._keys.sending(now)  # else there is none
        full = self._bundles.add(frame, priority)
        if full is None:
            return []
        return [job for frames in full for job in self._together(frames, priority, now)]

    def take_ready(self, now: float) -> list[SealJob]:
        """The datagrams of the small frames that are ready: the wake ends. Raises as :meth:`add`."""
        if not self._bundles.ready:
            return []
        return [
            job for frames, priority in self._bundles.take() for job in self._together(frames, priority, now)
        ]

    def drop_ready(self) -> list[bytes]:
        """The small frames that are ready, which do not go any more."""
        return [frame for frames, _ in self._bundles.take() for frame in frames]

    def _together(self, frames: list[bytes], priority: int, now: float) -> list[SealJob]:
        """The datagram of routed frames that fit one, or the two of a long one."""
        if len(frames) == 1:
            return self.whole(frames[0], priority, now)
        key = self._keys.sending(now)
        compact = self._contexts.compact
        parts = [compact(f, key, MAX_WHOLE_BYTES, now) if f[0] == MEDIA else f for f in frames]
        job, packet_id = self.assign(join(parts), priority, now)
        self._contexts.note_announced(packet_id)
        return [job]

    def whole(self, frame: bytes, priority: int, now: float) -> list[SealJob]:
        """The datagram of a routed *frame* of a class, or the two of a long one. Raises as :meth:`add`."""
        plaintext = frame
        if frame[0] == MEDIA:
            plaintext = self._contexts.compact(frame, self._keys.sending(now), MAX_WHOLE_BYTES, now)
        if len(plaintext) <= MAX_WHOLE_BYTES:
            job, packet_id = self.assign(plaintext, priority, now)
            if plaintext[0] == ANNOUNCE:
                self._contexts.note_announced(packet_id)
            return [job]
        return [self.assign(half, priority, now)[0] for half in fragmented(frame)]

    def assign(self, plaintext: bytes, priority: int, now: float) -> tuple[SealJob, int]:
        """The numbered datagram of a *plaintext*, and its packet id.

        Raises:
            ProtocolError: unknown_key before the first key, oversized when it fits no datagram.
        """
        job, packet_id, size = self._keys.assign(plaintext, now)
        self.sent_packets += 1
        self._liveness.sent_at = now
        if plaintext[0] >= ROUTED_FIRST:
            self.media_packets += 1
            self.media_bytes += size
        self.outflow.note_sent(packet_id, plaintext, priority, size, now)
        return job, packet_id
