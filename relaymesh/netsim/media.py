"""Synthetic media, sending: a publisher whose RTP has the sizes and times of real audio and video.

In: RTCP (already unprotected), ``now``, a seeded generator. Out: RTP and RTCP
to send. Nothing is encoded: each payload says which packet of which frame it
is and when it was sent, and is filled up to its size; the player that judges
what arrives is in :mod:`relaymesh.netsim.player`. It knows no clock, socket or
task, so that the same publisher stands in virtual time and in real time.

A payload begins, after VP8's descriptor where it is video, with a stamp::

    u32 packet | u32 frame | f64 sent at | u16 place in the frame | u16 packets of the frame | u8 keyframe

Packets and frames are counted by the publisher for as long as it lives, over
all its connections. The send time is of the publisher's clock; a delay is only
meant where both ends share one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from struct import Struct
from typing import TYPE_CHECKING, Literal

from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import RtpError

if TYPE_CHECKING:
    from random import Random

STAMP = Struct("!IIdHHB")
RTP_HEADER = Struct("!BBHII")
# Descriptor with 15-bit picture id, TL0PICIDX, temporal layer (RFC 7741 §4.2); first byte of the frame.
VP8_HEAD = Struct("!BBHBBB")
TEMPORAL = {1: (0,), 2: (0, 1), 3: (0, 2, 1, 2)}  # layers of a picture group, as WebRTC's L1T1 … L1T3
TEMPORAL_SIZES = {1: (1.0,), 2: (1.2, 0.8), 3: (1.6, 0.7, 1.0, 0.7)}  # of its pictures, × the mean
MAX_PAYLOAD = 1100  # bytes; what browsers send, with room for what relays add
SIZE_SPREAD = 0.2  # frames are up to this fraction larger or smaller than their mean
KEYFRAME_GUARD = 0.3  # s; an encoder makes no two keyframes within this
SENT_KEPT = 1024  # packets of a track that can be asked for again
REPORT_INTERVAL = 1.0  # s
NTP_EPOCH = 2_208_988_800  # s from 1900 to 1970

CLOCK_RATES = {"audio": 48_000, "video": 90_000}
PAYLOAD_TYPES = {"audio": 111, "video": 96}
RTX_TYPES = {"video": 97}


@dataclass(frozen=True, slots=True)
class TrackSpec:
    """What a track is to be like."""

    kind: Literal["audio", "video"] = "video"
    kbps: float = 1500.0  # of payload
    fps: float = 30.0  # frames a second; audio has one packet each
    keyframe_s: float | None = None  # between keyframes nobody asked for; video only; None: no such
    keyframe_size: float = 5.0  # of a keyframe, in frames between
    temporal: int = 1  # layers, 1 … 3; those above the first may be left out by a short link

    @property
    def interval(self) -> float:
        """Seconds from frame to frame."""
        return 1.0 / self.fps


class PublishedTrack:
    """One track as its encoder makes it."""

    def __init__(self, spec: TrackSpec, *, rng: Random, start: float) -> None:
        """*start*: when its first frame is due, seconds."""
        self.spec = spec
        self.ssrc = rng.getrandbits(32)
        self.rtx_ssrc = rng.getrandbits(32) if spec.kind in RTX_TYPES else None
        self.sent_at = array("d")  # by packet number, s
        self.layer_of = bytearray()  # by packet number: temporal layer
        self.sent_bytes = 0  # of payload
        self.keyframes = 0
        self.retransmitted = 0
        self._rng = rng
        self._start = start
        self._ticks = 0  # frame intervals since the start, sent or slept through
        self._frame = 0
        self._group = 0  # place in the picture group; a keyframe begins one
        self._base_pictures = 0
        self._keyframe_at = -inf
        self._keyframe_wanted = True
        self._sequence = rng.getrandbits(15)
        self._first_timestamp = rng.getrandbits(31)
        self._rtx_sequence = rng.getrandbits(15)
        self._sent: dict[int, bytes] = {}  # 16-bit sequence → packet
        # The rate holds with the keyframes that come by themselves; those asked for add to it.
        share = (
            1.0 if spec.keyframe_s is None else 1 + (spec.keyframe_size - 1) / (spec.fps * spec.keyframe_s)
        )
        self._frame_bytes = spec.kbps * 125.0 / spec.fps / (share if spec.kind == "video" else 1.0)

    @property
    def next_at(self) -> float:
        """When the next frame is due."""
        return self._start + self._ticks * self.spec.interval

    def skip(self, now: float) -> None:
        """Nothing is sent before *now*: the time in between had no connection."""
        while self.next_at < now:
            self._ticks += 1
        self._keyframe_wanted = True

    def request_keyframe(self) -> None:
        self._keyframe_wanted = True

    def poll(self, now: float) -> list[bytes]:
        """The RTP packets of all frames due by *now*."""
        packets: list[bytes] = []
        while self.next_at <= now:
            self._make_frame(now, packets)
            self._ticks += 1
        return packets

    def _make_frame(self, now: float, packets: list[bytes]) -> None:
        spec = self.spec
        timestamp = self._timestamp(self.next_at)
        video = spec.kind == "video"
        keyframe = not video or self._keyframe_due(self.next_at)
        layer, scale = self._next_layer(keyframe)
        mean = self._frame_bytes * (spec.keyframe_size if video and keyframe else scale)
        size = int(mean * (1.0 + SIZE_SPREAD * (2.0 * self._rng.random() - 1.0)))
        count = max(1, -(-size // MAX_PAYLOAD))
        each = max(size // count, STAMP.size + VP8_HEAD.size)
        frame = self._frame
        self._frame += 1
        for place in range(count):
            number = len(self.sent_at)
            head = _vp8_head(frame, place, keyframe, self._base_pictures, layer) if video else b""
            stamp = STAMP.pack(number, frame, now, place, count, keyframe)
            payload = (head + stamp).ljust(each, b"\0")
            marker = 0x80 if place == count - 1 and video else 0
            packet = (
                RTP_HEADER.pack(0x80, PAYLOAD_TYPES[spec.kind] | marker, self._sequence, timestamp, self.ssrc)
                + payload
            )
            self.sent_at.append(now)
            self.layer_of.append(layer)
            self.sent_bytes += each
            self._remember(packet)
            packets.append(packet)

    def _next_layer(self, keyframe: bool) -> tuple[int, float]:
        """(temporal layer, size against the mean) of the next picture."""
        layers = TEMPORAL[self.spec.temporal]
        self._group = 0 if keyframe else (self._group + 1) % len(layers)
        layer = layers[self._group]
        self._base_pictures += layer == 0
        return layer, TEMPORAL_SIZES[self.spec.temporal][self._group]

    def _remember(self, packet: bytes) -> None:
        sent = self._sent
        sent[self._sequence] = packet
        if len(sent) > SENT_KEPT:
            del sent[next(iter(sent))]
        self._sequence = (self._sequence + 1) & 0xFFFF

    def _keyframe_due(self, at: float) -> bool:
        since = at - self._keyframe_at
        every = self.spec.keyframe_s
        due = every is not None and since >= every - self.spec.interval / 2
        if due or (self._keyframe_wanted and since >= KEYFRAME_GUARD):
            self._keyframe_wanted = False
            self._keyframe_at = at
            self.keyframes += 1
            return True
        return False

    def _timestamp(self, at: float) -> int:
        return (self._first_timestamp + round((at - self._start) * CLOCK_RATES[self.spec.kind])) & 0xFFFFFFFF

    def resend(self, sequences: Iterable[int]) -> list[bytes]:
        """What is asked for and still kept: RTX for video (RFC 4588), as it was for audio."""
        packets = []
        for sequence in sequences:
            packet = self._sent.get(sequence)
            if packet is None:
                continue
            self.retransmitted += 1
            if self.rtx_ssrc is None:
                packets.append(packet)
                continue
            _, second, _, timestamp, _ = RTP_HEADER.unpack_from(packet)
            header = RTP_HEADER.pack(
                0x80, second & 0x80 | RTX_TYPES["video"], self._rtx_sequence, timestamp, self.rtx_ssrc
            )
            self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
            packets.append(header + sequence.to_bytes(2, "big") + packet[RTP_HEADER.size :])
        return packets

    def sender_report(self, now: float) -> bytes:
        ntp = int((now + NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF
        report = rtcp.build_sender_report(
            self.ssrc, ntp, self._timestamp(now), len(self.sent_at), self.sent_bytes & 0xFFFFFFFF
        )
        return report + rtcp.build_sdes(self.ssrc, f"{self.ssrc:08x}")


def _vp8_head(frame: int, place: int, keyframe: bool, base_pictures: int, layer: int) -> bytes:
    # X=1, S on the frame's first packet, N where no other needs it; I=1 with 15 bits, L=1, T=1; the layer,
    # with Y=1: each picture above the base refers to the base only. P = 0 for a keyframe (RFC 6386 §9.1).
    first = (0x90 if place == 0 else 0x80) | (0x20 if layer else 0)
    return VP8_HEAD.pack(
        first, 0xE0, 0x8000 | frame & 0x7FFF, base_pictures & 0xFF, layer << 6 | 0x20, 0 if keyframe else 1
    )


class SyntheticPublisher:
    """All tracks of one publisher over one connection after another."""

    def __init__(self, specs: Iterable[TrackSpec], *, rng: Random, start: float) -> None:
        self.tracks = [PublishedTrack(spec, rng=rng, start=start) for spec in specs]
        self._next_report = start + 0.1

    def connected(self, now: float) -> None:
        """There is a connection (again); what would have been sent before it never is."""
        for track in self.tracks:
            track.skip(now)
        self._next_report = now + 0.1

    def next_timeout(self) -> float:
        return min(self._next_report, *(track.next_at for track in self.tracks))

    def poll(self, now: float) -> tuple[list[bytes], list[bytes]]:
        """(RTP, RTCP) due by *now*."""
        media: list[bytes] = []
        for track in self.tracks:
            if track.next_at <= now:
                media += track.poll(now)
        if now < self._next_report:
            return media, []
        self._next_report = now + REPORT_INTERVAL
        return media, [track.sender_report(now) for track in self.tracks]

    def handle_rtcp(self, data: bytes, now: float) -> list[bytes]:
        """React to feedback: the RTP packets to send again."""
        again: list[bytes] = []
        for packet in _parse_rtcp(data):
            if isinstance(packet, rtcp.Nack):
                for track in self.tracks:
                    if track.ssrc == packet.media_ssrc:
                        again += track.resend(packet.sequences)
            elif isinstance(packet, rtcp.PictureLossIndication):
                for track in self.tracks:
                    if track.ssrc == packet.media_ssrc:
                        track.request_keyframe()
        return again


def _parse_rtcp(data: bytes) -> list[rtcp.RtcpPacket]:
    try:
        return rtcp.parse_rtcp(data)
    except RtpError:
        return []
