"""Which encoding an SSRC belongs to: as signalled, or as its packets say.

In: SSRCs of the offer; for each packet that none of them covers its payload type, mid
and rid. Out: the encoding and whether the packet is a retransmission. An SSRC that
nobody signalled must prove itself by several packets before it takes the place of
another one (a camera that restarted, an encoder that names one SSRC and sends by
another). Knows no transport and no time but ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass

from relaymesh.node.ingress import IngressEncoding, IngressTrack
from relaymesh.webrtc.rtp import RtpPacket

MAX_BOUND = 64  # SSRCs of one session; a browser with eight tracks of three encodings has 48
MAX_CANDIDATES = 16  # SSRCs that have still to prove themselves
PROOF_PACKETS = 3  # in a row
SILENT_AFTER = 0.5  # s; an SSRC without MID or RID takes over only from one that stopped

Bound = tuple[IngressEncoding, bool]  # (encoding, is a retransmission)


@dataclass(slots=True)
class _Candidate:
    packets: int
    sequence: int  # of the last one


class SsrcBinder:
    """The SSRCs of one session's incoming packets."""

    def __init__(self) -> None:
        self._bound: dict[int, Bound] = {}
        self._by_type: dict[int, list[tuple[IngressTrack, bool]]] = {}
        self._by_mid: dict[str, IngressTrack] = {}
        self._candidates: dict[int, _Candidate] = {}
        self._mid_id: int | None = None
        self._rid_id: int | None = None
        self._repaired_rid_id: int | None = None
        self.unbound = 0  # packets that belong nowhere

    def use_extensions(self, mid_id: int | None, rid_id: int | None, repaired_rid_id: int | None) -> None:
        """The offerer's extension identifiers for mid, rid and the rid of what a retransmission repairs."""
        self._mid_id, self._rid_id, self._repaired_rid_id = mid_id, rid_id, repaired_rid_id

    def add(self, track: IngressTrack, ssrcs: list[tuple[int, int | None]], now: float) -> None:
        """Expect *track* by its payload types, mid and rids, and by *ssrcs* (media, retransmission)."""
        self._by_mid[track.mid] = track
        self._by_type.setdefault(track.codec.payload_type, []).append((track, False))
        if track.codec.rtx is not None:
            self._by_type.setdefault(track.codec.rtx, []).append((track, True))
        if track.rids:
            return
        for encoding, (ssrc, rtx_ssrc) in zip(track.encodings.values(), ssrcs, strict=False):
            self._bind(ssrc, encoding, is_rtx=False, now=now)
            if rtx_ssrc is not None:
                self._bind(rtx_ssrc, encoding, is_rtx=True, now=now)

    def remove(self, track: IngressTrack) -> None:
        """The track's section was stopped."""
        gone = set(map(id, track.encodings.values()))
        self._bound = {ssrc: bound for ssrc, bound in self._bound.items() if id(bound[0]) not in gone}
        self._by_mid.pop(track.mid, None)
        self._by_type = {
            number: [entry for entry in entries if entry[0] is not track]
            for number, entries in self._by_type.items()
        }

    def get(self, ssrc: int) -> Bound | None:
        """The encoding that *ssrc* is bound to."""
        return self._bound.get(ssrc)

    def find(self, packet: RtpPacket, now: float) -> Bound | None:
        """The encoding that *packet* belongs to; ``None`` while that is not clear."""
        found = self._bound.get(packet.ssrc)
        return found if found is not None else self._learn(packet, now)

    def _learn(self, packet: RtpPacket, now: float) -> Bound | None:
        named, bound = self._named(packet)
        if bound is None:
            self.unbound += 1
            return None
        encoding, is_rtx = bound
        holder = encoding.rtx_ssrc if is_rtx else encoding.ssrc
        if holder is not None and not self._proven(packet, named, encoding, now):
            self.unbound += 1
            return None
        if len(self._bound) >= MAX_BOUND and (holder is None or holder not in self._bound):
            self.unbound += 1
            return None
        if holder is not None:
            self._bound.pop(holder, None)
        self._candidates.pop(packet.ssrc, None)
        self._bind(packet.ssrc, encoding, is_rtx=is_rtx, now=now)
        return bound

    def _named(self, packet: RtpPacket) -> tuple[bool, Bound | None]:
        """(by its own word, the encoding): by MID and RID, else by a payload type that only one track has."""
        candidates = self._by_type.get(packet.payload_type, [])
        mid = _text(packet, self._mid_id)
        if mid is not None:
            wanted = self._by_mid.get(mid)
            candidates = [entry for entry in candidates if entry[0] is wanted]
        if len(candidates) != 1:
            return False, None
        track, is_rtx = candidates[0]
        rid = _text(packet, self._repaired_rid_id if is_rtx else self._rid_id)
        encoding = track.encoding_of(rid)
        return (mid is not None or rid is not None), (encoding, is_rtx) if encoding is not None else None

    def _proven(self, packet: RtpPacket, named: bool, encoding: IngressEncoding, now: float) -> bool:
        """Whether an SSRC may take the place of the one that holds its encoding."""
        candidate = self._candidates.get(packet.ssrc)
        if candidate is None or (packet.sequence - candidate.sequence) & 0xFFFF != 1:
            if candidate is None and len(self._candidates) >= MAX_CANDIDATES:
                self._candidates.pop(next(iter(self._candidates)))
            self._candidates[packet.ssrc] = _Candidate(1, packet.sequence)
            return False
        candidate.packets += 1
        candidate.sequence = packet.sequence
        silent = now - encoding.last_arrival >= SILENT_AFTER
        return candidate.packets >= PROOF_PACKETS and (named or silent)

    def _bind(self, ssrc: int, encoding: IngressEncoding, *, is_rtx: bool, now: float) -> None:
        self._bound[ssrc] = (encoding, is_rtx)
        if is_rtx:
            encoding.rtx_ssrc = ssrc
        else:
            encoding.bind(ssrc, now)


def _text(packet: RtpPacket, identifier: int | None) -> str | None:
    value = packet.extensions.get(identifier) if identifier is not None else None
    return value.decode("ascii", "replace") if value is not None else None
