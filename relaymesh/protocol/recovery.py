"""One link's repair: acts as the policy decides, on both ends.

In: what is sent and what arrives, ACK, REPAIR and RETRANSMISSION frames, ``now``.
Out: frames to send, and frames of packets that were lost and are recovered, each once.
Sends nothing unless something was lost, and never holds media back.

Bounds: what a peer can make this side send is a share of the media sent
(:data:`~relaymesh.protocol.repair.MAX_RESERVE` and one bucket); what it can make
it keep is counted in packets and seconds in every part. Knows no keys: packet
ids are those of :mod:`relaymesh.protocol.fec`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from relaymesh.protocol import fec
from relaymesh.protocol.acks import Ack
from relaymesh.protocol.arq import Lost, SentPackets, encode_retransmission
from relaymesh.protocol.arrivals import ArrivalTracker
from relaymesh.protocol.datagram import OVERHEAD_BYTES
from relaymesh.protocol.frames import ENHANCEMENT, ROUTED_FIRST, is_enhancement, priority_of
from relaymesh.protocol.repair import (
    MAX_RESERVE,
    Ahead,
    Path,
    RepairPolicy,
    repairs_ahead,
    repairs_behind,
)

FULL_BUDGET = 1.0  # seconds that what cannot be left out may be late when a path just filled
MAX_GIVEN_UP, GIVEN_UP_KEPT = 512, 0.5  # packets given up, and seconds, for which that can be asked
BUCKET_BYTES = 64_000.0  # of all repair, and of redundancy, that may be sent at once
MAX_HORIZON = 2.0  # seconds: nothing older is repaired
KEPT_SOURCES = 1024  # received packets kept for blocks, while the peer sends any
KEPT_RECOVERED = 512
BLOCKS_MEMORY = 10.0  # seconds without a REPAIR after which sources are kept no more
SPACING_PACKETS = 4  # on a bursty link so many others travel between two packets of repair …
SPACING = 0.004  # … seconds at most


class Sender:
    """The sending side: retransmissions, and repair packets ahead of losses."""

    def __init__(self, policy: RepairPolicy) -> None:
        self.policy = policy
        self.packets = SentPackets()
        self.due = math.inf  # when something must be sent
        self.sent_bytes = 0  # of repair, as datagrams
        self.waiting = 0.0  # seconds that what is sent waits here
        self.full = False  # the path is: what it loses is its queue's doing, and not to be coded against
        self.given_up = 0  # packets lost whose deadline had passed
        self._given_up: deque[tuple[float, bytes]] = deque(maxlen=MAX_GIVEN_UP)  # when, and what
        self.refused = 0  # repairs not sent: the bucket was empty
        self.residual_loss = 0.0  # fraction of packets that stayed lost after repair, recently
        self._told = (0, 0)  # datagrams whose fate is known, packets not repaired: ever
        # (when, frame, the original if it is a retransmission)
        self._outbox: list[tuple[float, bytes, int | None]] = []
        self._ahead: tuple[Ahead | None, ...] = (None,) * 4  # by class
        self._codes = False  # whether any class has protection ahead
        self._blocks = [fec.BlockBuilder() for _ in range(4)]
        self._group: dict[int, Lost] = {}  # retransmitted packets at their last chance
        self._group_tolerated = 1.0
        self._group_at = math.inf
        self._all_left = self._redundant_left = BUCKET_BYTES
        self._media_counted = 0
        self._path = Path(0.0, 1.0, 0.0, 0.0)
        self._rate = 0.0  # datagrams a second
        self._rate_at = -math.inf
        self._rate_highest = 0

    def handle_ack(self, ack: Ack, prefix: int, highest: int, media_bytes: int, now: float) -> None:
        """The peer says what came: act on what did not.

        *highest* is the last number sent under the key; *media_bytes*: of all media datagrams sent so far.
        """
        lost = self.packets.handle_ack(ack, prefix, highest, now)
        estimate = self.packets.estimate
        self._path = Path(
            estimate.loss,
            estimate.burst,
            min(estimate.rtt, MAX_HORIZON),
            min(estimate.rtt_variation, MAX_HORIZON),
            self.packets.retransmission_loss,
        )
        self._fill_buckets(media_bytes)
        self._choose_ahead()
        self._measure_rate(highest, now)
        if lost and self.policy.retransmits:
            spacing = self._spacing()
            # What cannot be left out has the first claim on what may be sent again.
            kept = self.packets.lost
            lost = sorted((i for i in lost if i in kept), key=lambda i: priority_of(kept[i].source))
            for i, original in enumerate(lost):
                self._send_again(original, i * spacing, i / len(lost), now)

    def _measure_rate(self, highest: int, now: float) -> None:
        passed = now - self._rate_at
        if passed >= 0.1:
            sent = highest - self._rate_highest
            if sent >= 0 and passed < 1.0:
                self._rate += (sent / passed - self._rate) / 4
            self._rate_at, self._rate_highest = now, highest

    def _spacing(self) -> float:
        """Seconds between packets of repair, so that a burst does not take them all."""
        if self._path.burst < 1.5:
            return 0.0
        return min(SPACING, SPACING_PACKETS / max(self._rate, 1.0))

    def _spaced(self) -> Path:
        """The path as such packets see it: with shorter bursts."""
        between = self._rate * self._spacing()
        return replace(self._path, burst=max(1.0, self._path.burst / (1.0 + between)))

    def _fill_buckets(self, media_bytes: int) -> None:
        media = media_bytes - self._media_counted
        self._media_counted = media_bytes
        self._all_left = min(BUCKET_BYTES, self._all_left + MAX_RESERVE * media)
        share = min(MAX_RESERVE, self.policy.reserve(self._path))
        self._redundant_left = min(BUCKET_BYTES, self._redundant_left + share * media)

    def _pay(self, size: int, *, redundant: bool = False, last: bool = False) -> bool:
        """Take *size* from the buckets; the *last* class has to leave half for the others."""
        left = self._all_left - BUCKET_BYTES / 2 if last else self._all_left
        if size > (self._redundant_affordable() if redundant else left):
            self.refused += 1
            return False
        self._all_left -= size
        if redundant:
            self._redundant_left -= size
        return True

    def _redundant_affordable(self) -> float:
        # Half of the bucket is for retransmissions alone.
        return min(self._all_left - BUCKET_BYTES / 2, self._redundant_left)

    # --- behind losses -------------------------------------------------------------------------------

    def _send_again(self, original: int, wait: float, share: float, now: float) -> None:
        lost = self.packets.lost[original]
        left = lost.sent_at + self._budget(lost.source) - now
        last = is_enhancement(lost.source)
        if left < 0.0 or not self._pay(len(lost.source) + OVERHEAD_BYTES, last=last):
            self.give_up(original, now)
            return
        frame = encode_retransmission(original >> 32 & 0xFF, original & 0xFFFFFFFF, lost.source)
        wish = None if self.full else self.policy.behind(lost.tries + 1, left, self._path)
        # Those without another chance are spread out, so that a burst leaves some for the block to work with.
        self._queue(now + min(wait, share * 0.5 * wish.wait) if wish else now, frame, original)
        if wish is not None and len(lost.source) <= fec.MAX_SOURCE_BYTES:
            self._group[original] = lost
            self._group_tolerated = min(self._group_tolerated, wish.tolerated)
            self._group_at = min(self._group_at, now + wish.wait)
            self.due = min(self.due, self._group_at)
            if len(self._group) >= fec.MAX_SOURCES:
                self._close_group(now)

    def give_up(self, original: int, now: float) -> None:
        """The packet is not sent again."""
        lost = self.packets.lost.pop(original, None)
        if lost is not None:
            self.given_up += 1
            self._given_up.append((now, lost.source))

    def take_given_up(self, now: float) -> list[bytes]:
        """The frames given up a short time ago and not taken yet, for whoever can make up for them."""
        if not self._given_up:
            return []
        given_up = [source for at, source in self._given_up if now - at < GIVEN_UP_KEPT]
        self._given_up.clear()
        return given_up

    def _budget(self, source: bytes) -> float:
        # What waits in the path's queue is late anyway; repaired it is at least complete.
        priority = priority_of(source)
        budget = self.policy.budget(priority, self._path)
        if self.full and priority < ENHANCEMENT:
            budget = max(budget, FULL_BUDGET)
        return min(MAX_HORIZON, budget + self.packets.estimate.queueing + self.waiting)

    def _close_group(self, now: float) -> None:
        group, self._group = self._group, {}
        tolerated, self._group_tolerated = self._group_tolerated, 1.0
        self._group_at = math.inf
        for ids in _chunks(sorted(group)):
            most = min(fec.MAX_REPAIRS, len(ids) + 2)
            repairs = repairs_behind(len(ids), tolerated, self._spaced(), most)
            self._queue_block(ids, [group[i].source for i in ids], repairs, now)

    # --- ahead of losses -----------------------------------------------------------------------------

    def _choose_ahead(self) -> None:
        self._ahead = tuple(
            None if self.full else self.policy.ahead(priority, self._path) for priority in range(4)
        )
        self._codes = any(self._ahead)

    def _code(self, packet_id: int, source: bytes, priority: int, now: float) -> None:
        wish = self._ahead[priority]
        if wish is None or len(source) > fec.MAX_SOURCE_BYTES:
            return
        block = self._blocks[wish.block]
        if not block.fits(packet_id):
            self._close_block(wish.block, now)
        block.add(packet_id, source, now + wish.wait)
        if len(block.ids) >= min(wish.sources, fec.MAX_SOURCES):
            self._close_block(wish.block, now)
        elif block.close_at is not None:
            self.due = min(self.due, block.close_at)

    def _close_block(self, block: int, now: float) -> None:
        ids, sources = self._blocks[block].take()
        wish = next((wish for wish in self._ahead if wish is not None and wish.block == block), None)
        if wish is None or not ids:
            return
        # Sources that others travel between share fewer bursts.
        share = len(ids) / (ids[-1] - ids[0] + 1)
        path = replace(self._path, burst=max(1.0, self._path.burst * share))
        repairs = repairs_ahead(len(ids), wish.tolerated, path, min(fec.MAX_REPAIRS, len(ids)))
        self._queue_block(ids, sources, repairs, now, spread=False)

    # --- out -----------------------------------------------------------------------------------------

    def _queue_block(
        self, ids: list[int], sources: list[bytes], repairs: int, now: float, *, spread: bool = True
    ) -> None:
        size = max(map(len, sources)) + OVERHEAD_BYTES + 2 * len(ids)
        affordable = max(0, min(repairs, int(self._redundant_affordable() // size)))
        self.refused += repairs - affordable
        if not affordable:
            return
        spacing = self._spacing() if spread else 0.0
        numbers = tuple(i & 0xFFFFFFFF for i in ids)
        frames = fec.encode_block(ids[0] >> 32 & 0xFF, numbers, sources, affordable)
        for i, frame in enumerate(frames):
            self._pay(size, redundant=True)
            self._queue(now + i * spacing, frame, None)

    def _queue(self, when: float, frame: bytes, original: int | None) -> None:
        self._outbox.append((when, frame, original))
        self.due = min(self.due, when)

    def poll(self, now: float) -> list[tuple[bytes, int | None]]:
        """Frames to send now, each in its own datagram: (frame, the original if it is a retransmission)."""
        if now < self.due:
            return []
        if now >= self._group_at:
            self._close_group(now)
        for index, block in enumerate(self._blocks):
            if block.close_at is not None and now >= block.close_at:
                self._close_block(index, now)
        due = [(frame, original) for when, frame, original in self._outbox if when <= now]
        self._outbox = [entry for entry in self._outbox if entry[0] > now]
        closing = [block.close_at for block in self._blocks if block.close_at is not None]
        self.due = min([self._group_at, *closing, *(entry[0] for entry in self._outbox)])
        self.sent_bytes += sum(len(frame) + OVERHEAD_BYTES for frame, _ in due)
        return due

    def drop_outbox(self) -> None:
        """Nothing that waits to be sent is sent: the path is dead."""
        self._outbox.clear()
        self._group.clear()
        self._group_at = self.due = math.inf
        for block in self._blocks:
            block.take()

    def note_sent(self, packet_id: int, frame: bytes, priority: int, size: int, now: float) -> None:
        """*frame* of a class is sent as *packet_id* in *size* bytes of datagram; routed ones are repaired."""
        self.packets.add_datagram(packet_id, size)
        if frame[0] >= ROUTED_FIRST:
            self.packets.add(packet_id, frame, now)
            if self._codes:
                self._code(packet_id, frame, priority, now)

    def note_retransmission(self, packet_id: int, original: int) -> None:
        """A retransmission that :meth:`poll` gave was sent as *packet_id*."""
        self.packets.add_retransmission(packet_id, original)

    def forget_old(self, now: float) -> None:
        """Drop what is too old to repair; to be called now and then."""
        self.packets.forget_before(now - max(0.5, min(MAX_HORIZON, 2 * self._path.rtt + 0.1)))
        self._note_unrepaired()

    def _note_unrepaired(self) -> None:
        packets = self.packets
        told = packets.estimate.fates, self.given_up + packets.expired + packets.unprotected
        total, unrepaired = told[0] - self._told[0], told[1] - self._told[1]
        if total or unrepaired:
            self._told = told
            weight = total / (total + packets.estimate.MEMORY)
            self.residual_loss += weight * (min(1.0, unrepaired / max(1, total)) - self.residual_loss)

    def debug_state(self) -> dict[str, object]:
        return {
            "policy": self.policy.name,
            "sent_bytes": self.sent_bytes,
            "given_up": self.given_up,
            "residual_loss": self.residual_loss,
            "refused": self.refused,
            "queued": len(self._outbox),
            "group": len(self._group),
            **self.packets.debug_state(),
        }


class Receiver:
    """The receiving side: hands up recovered packets, each once, and only while it is missing."""

    def __init__(self) -> None:
        self.recovered_by_retransmission = 0
        self.recovered_by_code = 0
        self.useless = 0  # retransmissions of what was not missing
        self.keeps = False  # whether :meth:`keep` should be told what arrives
        self._keep_until = -math.inf
        self._trackers: dict[int, ArrivalTracker] = {}  # by key: packet id >> 32
        self._kept: dict[int, bytes] = {}  # arrived: packet id → source
        self._recovered: dict[int, bytes] = {}
        self._decoder = fec.BlockDecoder(self._source, self._wanted)

    @property
    def blocks_invalid(self) -> int:
        """Blocks that contradicted themselves."""
        return self._decoder.invalid

    def hold(self, trackers: dict[int, ArrivalTracker]) -> None:
        """The trackers of the keys held, by the upper part of packet ids."""
        self._trackers = trackers

    def keep(self, packet_id: int, source: bytes, now: float) -> None:
        """*source* arrived as *packet_id*; needed while :attr:`keeps`."""
        self._kept[packet_id] = source
        if len(self._kept) > KEPT_SOURCES:
            del self._kept[next(iter(self._kept))]
        if now > self._keep_until:
            self.keeps = False
            self._kept.clear()

    def handle_retransmission(self, packet_id: int, source: bytes, now: float) -> list[tuple[int, bytes]]:
        """(packet id, frames) of what is recovered by it."""
        if not self._take(packet_id, source, now):
            self.useless += 1
            return []
        self.recovered_by_retransmission += 1
        return [(packet_id, source), *self.handle_arrival(packet_id, now)]

    def handle_repair(self, repair: fec.Repair, key: int, now: float) -> list[tuple[int, bytes]]:
        """The same of a repair packet, whose sources were sent under *key* (packet id >> 32)."""
        self.keeps = True
        self._keep_until = now + BLOCKS_MEMORY
        ids = tuple(key << 32 | number for number in repair.numbers)
        return self._spread(self._decoder.add(ids, repair, now), now)

    def handle_arrival(self, packet_id: int, now: float) -> list[tuple[int, bytes]]:
        """*packet_id* is at hand, late: what that recovers of open blocks."""
        return self._spread(self._decoder.retry(packet_id), now) if self._decoder.open else []

    def _spread(self, found: dict[int, bytes], now: float) -> list[tuple[int, bytes]]:
        recovered = []
        while found:
            packet_id = next(iter(found))
            source = found.pop(packet_id)
            if self._take(packet_id, source, now):
                self.recovered_by_code += 1
                recovered.append((packet_id, source))
                if self._decoder.open and len(recovered) < fec.MAX_SOLVED_AT_ONCE:
                    found |= self._decoder.retry(packet_id)
        return recovered

    def _take(self, packet_id: int, source: bytes, now: float) -> bool:
        tracker = self._trackers.get(packet_id >> 32)
        if tracker is None or not tracker.repair(packet_id & 0xFFFFFFFF, now):
            return False
        self._recovered[packet_id] = source
        if len(self._recovered) > KEPT_RECOVERED:
            del self._recovered[next(iter(self._recovered))]
        return True

    def _source(self, packet_id: int) -> bytes | None:
        return self._kept.get(packet_id) or self._recovered.get(packet_id)

    def _wanted(self, packet_id: int) -> bool:
        tracker = self._trackers.get(packet_id >> 32)
        return tracker is not None and (packet_id & 0xFFFFFFFF) in tracker.holes

    def debug_state(self) -> dict[str, object]:
        return {
            "by_retransmission": self.recovered_by_retransmission,
            "by_code": self.recovered_by_code,
            "useless": self.useless,
            "kept": len(self._kept),
            "blocks": self._decoder.debug_state(),
        }


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    """*ids*, ascending, in blocks that one repair packet can name."""
    block: list[int] = []
    for packet_id in ids:
        if block and (packet_id - block[0] > fec.MAX_SPAN or len(block) >= fec.MAX_SOURCES):
            yield block
            block = []
        block.append(packet_id)
    if block:
        yield block
