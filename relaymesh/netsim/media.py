"""Synthetic media, sending: a publisher of tracks with simulcast encodings or spatial layers.

In: RTCP (already unprotected), ``now``, a seeded generator, what the answer accepted.
Out: RTP and RTCP to send. The player that judges what arrives is in
:mod:`relaymesh.netsim.player`. It knows no clock, socket or task, so that the same
publisher stands in virtual time and in real time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from relaymesh.netsim.encoder import PublishedEncoding
from relaymesh.netsim.synthetic_rtp import EXTENDED, RTP_HEADER
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtp import build_extensions

REPORT_INTERVAL = 1.0  # s


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer's word on one track: which header extensions it has, by number; None: not that one."""

    simulcast: bool = False
    mid: int | None = None
    rid: int | None = None
    repaired_rid: int | None = None
    transport_cc: int | None = None


class PublishedTrack:
    """One track: one encoding, or several of which the answer says whether all are sent."""

    def __init__(self, spec: TrackSpec, *, rng: Random, start: float) -> None:
        """*start*: when its first frame is due, seconds."""
        self.spec = spec
        self.encodings = [
            PublishedEncoding(one, rng=rng, start=start, number=number)
            for number, one in enumerate(spec.encodings())
        ]
        self.active = self.encodings[-1:]  # those that are sent

    @property
    def main(self) -> PublishedEncoding:
        """The highest encoding, which is always sent."""
        return self.encodings[-1]

    @property
    def packets_sent(self) -> int:
        """Of all encodings."""
        return sum(len(one.sent_at) for one in self.encodings)

    @property
    def sent_bytes(self) -> int:
        """Payload of all encodings."""
        return sum(one.sent_bytes for one in self.encodings)

    @property
    def next_at(self) -> float:
        """When the next frame is due."""
        return min(one.next_at for one in self.active)

    def use(self, *, simulcast: bool) -> None:
        """Send all encodings, or the highest only."""
        self.active = self.encodings if simulcast else self.encodings[-1:]


class SyntheticPublisher:
    """All tracks of one publisher over one connection after another."""

    def __init__(self, specs: Iterable[TrackSpec], *, rng: Random, start: float) -> None:
        self.tracks = [PublishedTrack(spec, rng=rng, start=start) for spec in specs]
        self._accepted = [Accepted() for _ in self.tracks]
        # SSRCs that the other end is known to have: mid and rid are sent until then, as libwebrtc does.
        self._known: set[int] = set()
        self._transport_sequence = 0
        self._next_report = start + 0.1

    def accept(self, accepted: Sequence[Accepted]) -> None:
        """Take an answer: what it accepted of each track, in order."""
        self._accepted = list(accepted)
        for track, one in zip(self.tracks, accepted, strict=True):
            track.use(simulcast=one.simulcast)

    def connected(self, now: float) -> None:
        """There is a connection (again); what would have been sent before it never is."""
        self._known.clear()
        for track in self.tracks:
            for encoding in track.encodings:
                encoding.skip(now)
        self._next_report = now + 0.1

    def next_timeout(self) -> float:
        """When :meth:`poll` has more, seconds."""
        return min(self._next_report, *(track.next_at for track in self.tracks))

    def poll(self, now: float) -> tuple[list[bytes], list[bytes]]:
        """(RTP, RTCP) due by *now*."""
        media: list[bytes] = []
        for mid, track in enumerate(self.tracks):
            for encoding in track.active:
                if encoding.next_at <= now:
                    media += self._extended(encoding.poll(now), mid, encoding)
        if now < self._next_report:
            return media, []
        self._next_report = now + REPORT_INTERVAL
        return media, [one.sender_report(now) for track in self.tracks for one in track.active]

    def handle_rtcp(self, data: bytes, now: float) -> list[bytes]:
        """React to feedback: the RTP packets to send again."""
        again: list[bytes] = []
        for packet in _parse_rtcp(data):
            for ssrc in _named(packet):
                self._known.add(ssrc)
                for mid, track in enumerate(self.tracks):
                    for encoding in track.active:
                        if encoding.ssrc != ssrc:
                            continue
                        if isinstance(packet, rtcp.Nack):
                            resent = encoding.resend(packet.sequences)
                            again += self._extended(resent, mid, encoding, repaired=True)
                        elif isinstance(packet, rtcp.PictureLossIndication | rtcp.FullIntraRequest):
                            encoding.request_keyframe()
        return again

    def _extended(
        self, packets: list[bytes], mid: int, encoding: PublishedEncoding, *, repaired: bool = False
    ) -> list[bytes]:
        """*packets* with the header extensions that the answer asked for."""
        accepted = self._accepted[mid]
        items: list[tuple[int, bytes]] = []
        if encoding.ssrc not in self._known:
            rids = self.tracks[mid].spec.rids if accepted.simulcast else ()
            rid_id = accepted.repaired_rid if repaired else accepted.rid
            if accepted.mid is not None:
                items.append((accepted.mid, str(mid).encode()))
            if rid_id is not None and rids:
                items.append((rid_id, rids[encoding.number].encode()))
        if not items and accepted.transport_cc is None:
            return packets
        return [self._with(packet, items, accepted.transport_cc) for packet in packets]

    def _with(self, packet: bytes, items: list[tuple[int, bytes]], transport_cc: int | None) -> bytes:
        if transport_cc is not None:
            number = self._transport_sequence
            self._transport_sequence = (number + 1) & 0xFFFF
            items = [*items, (transport_cc, number.to_bytes(2, "big"))]
        header = bytes([EXTENDED]) + packet[1 : RTP_HEADER.size]
        return header + build_extensions(items) + packet[RTP_HEADER.size :]


def _named(packet: rtcp.RtcpPacket) -> list[int]:
    """The SSRCs of ours that a packet of the other end speaks of."""
    if isinstance(packet, rtcp.Nack | rtcp.PictureLossIndication):
        return [packet.media_ssrc]
    if isinstance(packet, rtcp.ReceiverReport):
        return [block.ssrc for block in packet.blocks]
    if isinstance(packet, rtcp.FullIntraRequest):
        return [ssrc for ssrc, _ in packet.entries]
    return []


def _parse_rtcp(data: bytes) -> list[rtcp.RtcpPacket]:
    try:
        return rtcp.parse_rtcp(data)
    except RtpError:
        return []
