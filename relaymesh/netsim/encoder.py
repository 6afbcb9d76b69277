"""One encoding of a synthetic track: RTP with the sizes and times of real audio and video.

In: ``now``, a seeded generator, requests. Out: RTP packets. Nothing is encoded: see
:mod:`~relaymesh.netsim.synthetic_rtp` for what stands in a payload.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from math import inf
from random import Random

from relaymesh.netsim.synthetic_rtp import (
    PAYLOAD_TYPES,
    RTP_HEADER,
    RTX_TYPES,
    STAMP,
    vp8_head,
    vp9_head,
)
from relaymesh.netsim.track_specs import SPATIAL_STEP, TrackSpec
from relaymesh.webrtc import rtcp

TEMPORAL = {1: (0,), 2: (0, 1), 3: (0, 2, 1, 2)}  # layers of a picture group, as WebRTC's L1T1 … L1T3
TEMPORAL_SIZES = {1: (1.0,), 2: (1.2, 0.8), 3: (1.6, 0.7, 1.0, 0.7)}  # of its pictures, × the mean
MAX_PAYLOAD = 1100  # bytes; what browsers send, with room for what relays add
SIZE_SPREAD = 0.2  # frames are up to this fraction larger or smaller than their mean
KEYFRAME_GUARD = 0.3  # s; an encoder makes no two keyframes within this
SENT_KEPT = 1024  # packets of an encoding that can be asked for again
NTP_EPOCH = 2_208_988_800  # s from 1900 to 1970

CLOCK_RATES = {"audio": 48_000, "video": 90_000}


class PublishedEncoding:
    """One RTP stream of a track, as its encoder makes it."""

    def __init__(self, spec: TrackSpec, *, rng: Random, start: float, number: int = 0) -> None:
        """*start*: when its first frame is due, seconds; *number*: among the track's encodings."""
        self.spec = spec
        self.number = number
        self.ssrc = rng.getrandbits(32)
        self.rtx_ssrc = rng.getrandbits(32) if spec.kind == "video" else None
        self.sent_at = array("d")  # by packet number, s
        self.layer_of = bytearray()  # by packet number: spatial layer × 4 + temporal layer
        self.sent_bytes = 0  # of payload
        self.keyframes = 0
        self.retransmitted = 0
        self._rng = rng
        self._start = start
        self._ticks = 0  # frame intervals since the start, sent or slept through
        self._picture = 0
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
        self._picture_bytes = spec.kbps * 125.0 / spec.fps / (share if spec.kind == "video" else 1.0)
        weights = [SPATIAL_STEP**layer for layer in range(spec.spatial)]
        self._layer_shares = [weight / sum(weights) for weight in weights]

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
        """Somebody lost the picture (PLI, FIR); not every publisher listens."""
        if not self.spec.ignores_pli:
            self._keyframe_wanted = True

    def poll(self, now: float) -> list[bytes]:
        """The RTP packets of all frames due by *now*."""
        packets: list[bytes] = []
        while self.next_at <= now:
            self._make_picture(now, packets)
            self._ticks += 1
        return packets

    def _make_picture(self, now: float, packets: list[bytes]) -> None:
        spec = self.spec
        video = spec.kind == "video"
        keyframe = not video or self._keyframe_due(self.next_at)
        temporal, scale = self._next_layer(keyframe)
        mean = self._picture_bytes * (spec.keyframe_size if video and keyframe else scale)
        size = mean * (1.0 + SIZE_SPREAD * (2.0 * self._rng.random() - 1.0))
        for spatial, share in enumerate(self._layer_shares):
            self._make_frame(int(size * share), keyframe, temporal, spatial, now, packets)
        self._picture += 1

    def _make_frame(
        self, size: int, keyframe: bool, temporal: int, spatial: int, now: float, packets: list[bytes]
    ) -> None:
        """One layer's part of a picture; without spatial layers, all of it."""
        spec = self.spec
        timestamp = self._timestamp(self.next_at)
        count = max(1, -(-size // MAX_PAYLOAD))
        frame = self._picture * spec.spatial + spatial
        ends = spec.kind == "video" and spatial == spec.spatial - 1
        for place in range(count):
            number = len(self.sent_at)
            last = place == count - 1
            head = self._head(place, last, keyframe, temporal, spatial)
            layers = spatial << 4 | temporal
            stamp = STAMP.pack(number, frame, now, place, count, keyframe, self.number, layers)
            payload = (head + stamp).ljust(size // count, b"\0")
            marker = 0x80 if last and ends else 0
            packet = (
                RTP_HEADER.pack(
                    0x80, PAYLOAD_TYPES[spec.codec] | marker, self._sequence, timestamp, self.ssrc
                )
                + payload
            )
            self.sent_at.append(now)
            self.layer_of.append(spatial << 2 | temporal)
            self.sent_bytes += len(payload)
            self._remember(packet)
            packets.append(packet)

    def _head(self, place: int, last: bool, keyframe: bool, temporal: int, spatial: int) -> bytes:
        match self.spec.codec:
            case "VP8":
                return vp8_head(self._picture, place, keyframe, self._base_pictures, temporal)
            case "VP9":
                return vp9_head(
                    self._picture,
                    first=place == 0,
                    last=last,
                    keyframe=keyframe,
                    tl0=self._base_pictures,
                    temporal=temporal,
                    spatial=spatial,
                    layers=self.spec.spatial,
                )
        return b""

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
        """The packets asked for that are still kept: RTX for video (RFC 4588), as it was for audio."""
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
                0x80,
                second & 0x80 | RTX_TYPES[self.spec.codec],
                self._rtx_sequence,
                timestamp,
                self.rtx_ssrc,
            )
            self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
            packets.append(header + sequence.to_bytes(2, "big") + packet[RTP_HEADER.size :])
        return packets

    def sender_report(self, now: float) -> bytes:
        """Its RTCP sender report, with the source description it must have."""
        ntp = int((now + NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF
        report = rtcp.build_sender_report(
            self.ssrc, ntp, self._timestamp(now), len(self.sent_at), self.sent_bytes & 0xFFFFFFFF
        )
        return report + rtcp.build_sdes(self.ssrc, f"{self.ssrc:08x}")
