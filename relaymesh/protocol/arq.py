"""Retransmission on one link, across all its streams, by the packet numbers of the link.

In: what was sent, and ACKs of the peer; out: which packets are lost and still
worth sending again, and what the ACKs say of the path. A retransmission travels
in a new datagram and names its original, so that the receiver takes it once;
it is acknowledged, and lost, as any other datagram. The store is bounded in
bytes and in time.

A peer may claim anything about packets it was sent: what it calls lost is sent
again at most while its deadline lasts, and what was never sent is refused.
Knows no policy and no keys; packet ids are those of :mod:`relaymesh.protocol.fec`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from relaymesh.protocol.acks import DELAY_UNKNOWN, Ack
from relaymesh.protocol.datagram import MAX_PLAINTEXT_BYTES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import RETRANSMISSION
from relaymesh.protocol.path_estimate import PathEstimate

STORE_BYTES = 4_000_000  # of sources that are neither acknowledged nor lost: 320 ms at 100 Mbit/s
MAX_SIZES = 65_536  # datagrams whose fate is not known
MAX_LOST = 4096  # packets waiting for their retransmission to be acknowledged
MAX_TOLD_LOST = 1024  # packets that may prove to have been late
_NUMBER_MASK = 0xFFFFFFFF

_FRAME = struct.Struct("!BH")
_RETRANSMISSION = struct.Struct("!BI")  # epoch and number of the original; then its frames
MAX_SOURCE_BYTES = MAX_PLAINTEXT_BYTES - 3 - _RETRANSMISSION.size


class Retransmission(NamedTuple):
    """The frames of a datagram that was lost."""

    epoch: int  # u8, of the original
    number: int  # u32, of the original
    frames: bytes  # its plaintext


def encode_retransmission(epoch: int, number: int, source: bytes) -> bytes:
    """The whole frame, with type and length."""
    return _FRAME.pack(RETRANSMISSION, 5 + len(source)) + _RETRANSMISSION.pack(epoch, number) + source


def decode_retransmission(body: bytes) -> Retransmission:
    """The retransmission in *body*. Raises :class:`ProtocolError` (truncated)."""
    if len(body) <= _RETRANSMISSION.size:
        raise ProtocolError("truncated", "retransmission")
    epoch, number = _RETRANSMISSION.unpack_from(body)
    return Retransmission(epoch, number, body[_RETRANSMISSION.size :])


@dataclass(slots=True)
class Lost:
    """A packet the peer lacks."""

    source: bytes  # its frames
    sent_at: float  # seconds
    tries: int = 0  # retransmissions sent
    flying: int = 0  # of them, those whose fate is not known


class SentPackets:
    """The packets sent and their fates, as far as the peer has told."""

    def __init__(self) -> None:
        self.estimate = PathEstimate()
        self.lost: dict[int, Lost] = {}  # by packet id of the original
        self.added_bytes = 0  # of sources, ever
        self.unprotected = 0  # packets too long to be sent again
        self.expired = 0  # packets lost that were too old before they were repaired
        self.acks_stale = 0  # ACKs that told nothing new
        self.acks_invalid = 0  # ACKs of what was never sent
        self.retransmission_loss = 0.0  # fraction of the retransmissions lost, smoothed
        self._removed_bytes = 0
        self._sent: dict[int, tuple[bytes, float]] = {}  # packet id → (source, seconds)
        self._flying: dict[int, int] = {}  # packet id of a retransmission → of its original
        self._acked: dict[int, int] = {}  # key ordinal << 32 → number up to which fates are known
        self._sizes: deque[int] = deque()  # of datagrams whose fate is not known, by packet id …
        self._sizes_from = 0  # … from this one on
        self._fate_bytes = [0, 0]  # arrived, lost: of datagrams, since they were last taken
        self._told_lost: dict[int, None] = {}  # packet ids that the next ACKs, which overlap, may take back

    def add(self, packet_id: int, source: bytes, now: float) -> None:
        """*source* was sent as *packet_id*."""
        self._sent[packet_id] = (source, now)
        self.added_bytes += len(source)
        if self.added_bytes - self._removed_bytes > STORE_BYTES:
            self._remove(next(iter(self._sent)))

    def add_datagram(self, packet_id: int, size: int) -> None:
        """A datagram of *size* bytes was sent as *packet_id*, whatever is in it."""
        sizes = self._sizes
        if packet_id != self._sizes_from + len(sizes):
            sizes.clear()
            self._sizes_from = packet_id
        sizes.append(size)
        if len(sizes) > MAX_SIZES:
            sizes.popleft()
            self._sizes_from += 1

    def take_fate_bytes(self) -> tuple[int, int]:
        """Bytes of datagrams known to have (arrived, been lost) since the last call."""
        arrived, lost = self._fate_bytes
        self._fate_bytes = [0, 0]
        return arrived, lost

    def _note_fate_bytes(self, first: int, end: int, *, lost: bool) -> None:
        sizes = self._sizes
        while sizes and self._sizes_from < first:
            sizes.popleft()
            self._sizes_from += 1
        total = 0
        while sizes and self._sizes_from < end:
            total += sizes.popleft()
            self._sizes_from += 1
        self._fate_bytes[lost] += total

    def add_retransmission(self, packet_id: int, original: int) -> None:
        """*original* was sent again as *packet_id*."""
        lost = self.lost.get(original)
        if lost is not None:
            lost.tries += 1
            lost.flying += 1
            self._flying[packet_id] = original

    def _remove(self, packet_id: int) -> tuple[bytes, float] | None:
        entry = self._sent.pop(packet_id, None)
        if entry is not None:
            self._removed_bytes += len(entry[0])
        return entry

    def handle_ack(self, ack: Ack, prefix: int, highest: int, now: float) -> list[int]:
        """The packets found lost by *ack*, as ids of originals.

        *prefix* is the key's part of packet ids, *highest* the last number sent under it.
        """
        end = ack.base + ack.covered
        if end - 1 > highest:
            self.acks_invalid += 1
            return []
        for offset in ack.repaired:
            self.lost.pop(prefix | ack.base + offset, None)
        done = self._acked.get(prefix, 0)
        if end - 1 <= done:
            self.acks_stale += 1
            return []
        self._acked[prefix] = end - 1
        while len(self._acked) > 3:  # keys that are no longer held
            del self._acked[next(iter(self._acked))]
        return self._read_runs(ack, prefix, max(ack.base, done + 1), now)

    def _read_runs(self, ack: Ack, prefix: int, start: int, now: float) -> list[int]:
        repaired = {ack.base + offset for offset in ack.repaired}
        found: list[int] = []
        total = 0
        late, late_bursts = self._take_back(ack, prefix, repaired)
        lost, bursts = -late, -late_bursts
        at = ack.base
        for index, length in enumerate(ack.runs):
            first, at = max(at, start), at + length
            if first >= at:
                continue
            total += at - first
            self._note_fate_bytes(prefix | first, prefix | at, lost=bool(index & 1))
            if index & 1:
                lost += at - first
                bursts += first == at - length
                for number in range(first, at):
                    self._told_lost[prefix | number] = None
                    self._note_lost(prefix | number, number in repaired, found)
            else:
                self._note_received(prefix, first, at, now if ack.delay != DELAY_UNKNOWN else None, ack)
        self.estimate.note_fate(total, lost, bursts)
        return found

    def _take_back(self, ack: Ack, prefix: int, repaired: set[int]) -> tuple[int, int]:
        """(packets, runs of them) that were told lost, and now to have arrived unrepaired: they were late."""
        if not self._told_lost:
            return 0, 0
        ends = list(accumulate(ack.runs, initial=ack.base))[1:]
        late: set[int] = set()
        lost: set[int] = set()
        for packet_id in list(self._told_lost):
            number = packet_id - prefix
            if number < ack.base or number in repaired or len(self._told_lost) > MAX_TOLD_LOST:
                del self._told_lost[packet_id]
                lost.add(packet_id)
            elif number < ends[-1] and not bisect_right(ends, number) & 1:
                del self._told_lost[packet_id]
                self.lost.pop(packet_id, None)
                late.add(packet_id)
            else:
                lost.add(packet_id)
        # A run is taken back when all of it was late.
        runs = 0
        for last in (packet_id for packet_id in late if packet_id + 1 not in late):
            first = last
            while first - 1 in late:
                first -= 1
            runs += first - 1 not in lost and last + 1 not in lost
        return len(late), runs

    def _note_received(self, prefix: int, first: int, end: int, now: float | None, ack: Ack) -> None:
        sent = self._sent
        if now is not None and end == ack.base + ack.covered and (entry := sent.get(prefix | end - 1)):
            self.estimate.note_newest(entry[1], ack, now)
        pop = sent.pop
        removed = 0
        for packet_id in range(prefix | first, prefix | end):
            entry = pop(packet_id, None)
            if entry is not None:
                removed += len(entry[0])
        self._removed_bytes += removed
        if self._flying:
            for packet_id in [i for i in self._flying if prefix | first <= i < prefix | end]:
                self.lost.pop(self._flying.pop(packet_id), None)
                self.retransmission_loss *= 0.98

    def _note_lost(self, packet_id: int, repaired: bool, found: list[int]) -> None:
        original = self._flying.pop(packet_id, None)
        if original is not None:
            self.retransmission_loss += (1.0 - self.retransmission_loss) * 0.02
            entry = self.lost.get(original)
            if entry is not None:
                entry.flying -= 1
                if not entry.flying:
                    found.append(original)
            return
        packet = self._remove(packet_id)
        if packet is None or repaired:
            return
        if len(packet[0]) > MAX_SOURCE_BYTES:
            self.unprotected += 1
            return
        self.lost[packet_id] = Lost(*packet)
        found.append(packet_id)
        if len(self.lost) > MAX_LOST:
            del self.lost[next(iter(self.lost))]

    def take_unacknowledged(self) -> list[bytes]:
        """The sources not known to have arrived, oldest first; they are forgotten by this."""
        waiting = [(lost.sent_at, lost.source) for lost in self.lost.values()]
        waiting += [(sent_at, source) for source, sent_at in self._sent.values()]
        self.lost.clear()
        self._flying.clear()
        self._sent.clear()
        self._removed_bytes = self.added_bytes
        return [source for _, source in sorted(waiting, key=lambda entry: entry[0])]

    def forget_before(self, then: float) -> None:
        """Forget what was sent before *then* (seconds)."""
        sent = self._sent
        while sent:
            oldest = next(iter(sent))
            if sent[oldest][1] >= then:
                break
            self._remove(oldest)
        for packet_id in [i for i, lost in self.lost.items() if lost.sent_at < then]:
            del self.lost[packet_id]
            self.expired += 1
        for packet_id in [i for i, original in self._flying.items() if original not in self.lost]:
            del self._flying[packet_id]

    def debug_state(self) -> dict[str, object]:
        return {
            "stored": len(self._sent),
            "stored_bytes": self.added_bytes - self._removed_bytes,
            "lost": len(self.lost),
            "flying": len(self._flying),
            "unprotected": self.unprotected,
            "acks_stale": self.acks_stale,
            "acks_invalid": self.acks_invalid,
            "retransmission_loss": self.retransmission_loss,
            "estimate": self.estimate.debug_state(),
        }
