"""One track as its publisher sends it: RTP in, media frames out.

Extends sequence numbers, drops duplicates (browsers probe with retransmitted
packets nobody asked for), asks again for what is missing, and keeps the
receiver statistics of RFC 3550. Padding-only packets are taken out and the
rest renumbered, so that they leave no hole downstream. Decodes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from relaymesh.node.streams import MediaClock, Track
from relaymesh.protocol.frames import HOP_LIMIT, MediaFrame
from relaymesh.protocol.seqnum import Extender
from relaymesh.webrtc import h264, vp8
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtcp import ReportBlock, SenderReport
from relaymesh.webrtc.rtp import RtpPacket

NACK_DELAY = 0.005  # s; a gap younger than this may be reordering
NACK_REPEAT = 0.04  # s; at least, else one round trip
NACK_TRIES = 8
NACK_GIVE_UP = 1.0  # s; by then every player has frozen and a keyframe is the better answer
MAX_MISSING = 500  # more than this at once is an outage (or a hostile publisher), not loss
MAX_PADDING_HOLES = 256

PRIORITY_AUDIO, PRIORITY_KEYFRAME, PRIORITY_VIDEO, PRIORITY_ENHANCEMENT = 0, 1, 2, 3


@dataclass(slots=True)
class Missing:
    """One sequence number that has not come."""

    since: float  # s
    asked_at: float = float("-inf")  # s
    tries: int = 0


class IngressTrack:
    """The receiving end of one published track."""

    def __init__(self, track: Track, codec: Codec, extension_ids: dict[int, int]) -> None:
        """*extension_ids*: the publisher's RTP extension id → the frame extension kind it travels as."""
        self.track = track
        self.codec = codec
        self.ssrc: int | None = None
        self.rtx_ssrc: int | None = None
        self._kinds = extension_ids
        self._is_video = track.is_video
        self._is_vp8 = codec.name.upper() == "VP8"
        self._extender = Extender()
        self._started = False
        self._highest = 0
        self._base = 0
        self._received = 0
        self._missing: dict[int, Missing] = {}
        self._padding: list[int] = []  # sequence numbers taken out, ascending
        self._padding_before = 0  # how many more were taken out before those still listed
        self._jitter = 0.0  # RTP units, RFC 3550 §6.4.1
        self._transit: float | None = None
        self._reported = (0, 0)  # expected, received at the last report
        self._clock: MediaClock | None = None
        self._can_nack = "nack" in codec.feedback
        self.rtt = 0.0  # s to the publisher, where known
        self.nacked = self.recovered = self.given_up = self.duplicates = 0

    # --- media ---------------------------------------------------------------------------------

    def handle_rtp(self, packet: RtpPacket, now: float, *, retransmission: bool = False) -> MediaFrame | None:
        """The frame to forward, or ``None`` for a duplicate or padding.

        A retransmission (RFC 4588) comes unwrapped: with its original
        sequence number and payload.
        """
        # One cycle ahead, so that what comes from before the first packet is not negative.
        sequence = self._extender.extend(packet.sequence) + 0x10000
        if not self._note_arrival(sequence, now):
            return None
        if not retransmission:
            self._note_jitter(packet.timestamp, now)
        if not packet.payload:
            self._take_out(sequence)
            return None
        return self._frame(packet, sequence)

    def _note_arrival(self, sequence: int, now: float) -> bool:
        if not self._started:
            self._started = True
            self._highest = self._base = sequence
        elif sequence > self._highest:
            gap = sequence - self._highest - 1
            if gap + len(self._missing) > MAX_MISSING:
                self._missing.clear()
                if self.track.is_video:
                    self.track.main.keyframe_wish.ask(now)
            elif gap:
                if self._can_nack:
                    for lost in range(self._highest + 1, sequence):
                        self._missing[lost] = Missing(now)
                elif self._is_video:
                    # Nobody can ask this publisher for the packet, only for a keyframe.
                    self.track.main.keyframe_wish.ask(now)
            self._highest = sequence
        else:
            missing = self._missing.pop(sequence, None)
            if missing is None and self._can_nack:
                self.duplicates += 1
                return False
            if missing is not None and missing.tries:
                self.recovered += 1
        self._received += 1
        return True

    def _frame(self, packet: RtpPacket, sequence: int) -> MediaFrame:
        video = self._is_video
        keyframe = video and self._starts_keyframe(packet.payload)
        temporal, entry = self._layer(packet.payload) if self._is_vp8 else (0, False)
        priority = PRIORITY_VIDEO if video else PRIORITY_AUDIO
        if temporal:
            priority = PRIORITY_ENHANCEMENT
        elif keyframe:
            priority = PRIORITY_KEYFRAME
        return MediaFrame(
            track_id=self.track.id,
            encoding=0,
            sequence=self._renumber(sequence),
            timestamp=packet.timestamp,
            payload=packet.payload,
            keyframe=keyframe,
            marker=packet.marker,
            audio=not video,
            priority=priority,
            temporal=temporal,
            entry=entry,
            extensions=self._carried(packet.extensions) if packet.extensions else (),
            hop_limit=HOP_LIMIT,
        )

    def _layer(self, payload: bytes) -> tuple[int, bool]:
        """(temporal layer, whether a decoder can take it up with this picture) of a VP8 packet."""
        # Only where the descriptor has X and T; most streams have one layer and no such byte.
        if not (payload[0] & 0x80 and len(payload) > 1 and payload[1] & 0x20):
            return 0, False
        try:
            descriptor = vp8.parse_descriptor(payload)
        except RtpError:
            return 0, False
        return descriptor.temporal_id or 0, descriptor.layer_sync or descriptor.non_reference

    def _carried(self, extensions: dict[int, bytes]) -> tuple[tuple[int, bytes], ...]:
        """The header extensions that cross the mesh, by kind; those known are one byte long."""
        return tuple(
            (kind, value)
            for number, kind in self._kinds.items()
            if (value := extensions.get(number)) is not None and len(value) == 1
        )

    def _starts_keyframe(self, payload: bytes) -> bool:
        try:
            if not self._is_vp8:
                return h264.is_keyframe(payload)
            # Only the start of the first partition can start a keyframe (RFC 7741 §4.2):
            # for the others the descriptor need not be read.
            return payload[0] & 0x17 == 0x10 and vp8.parse_descriptor(payload).keyframe
        except RtpError:
            return False  # forwarded as it came; the player's decoder judges it

    def _take_out(self, sequence: int) -> None:
        if sequence == self._highest and (not self._padding or sequence > self._padding[-1]):
            self._padding.append(sequence)
            if len(self._padding) > MAX_PADDING_HOLES:
                del self._padding[0]
                self._padding_before += 1
        # A padding packet that comes late leaves its hole: what follows it was already numbered.

    def _renumber(self, sequence: int) -> int:
        if not self._padding:
            return sequence - self._padding_before
        return sequence - self._padding_before - bisect_left(self._padding, sequence)

    def _note_jitter(self, timestamp: int, now: float) -> None:
        transit = now * self.codec.clock_rate - timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit)
            if difference < 5 * self.codec.clock_rate:  # else the timestamp jumped or wrapped
                self._jitter += (difference - self._jitter) / 16
        self._transit = transit

    # --- repair --------------------------------------------------------------------------------

    def nacks_due(self, now: float) -> list[int]:
        """16-bit sequence numbers to ask for now; gives up on those not worth it any more."""
        due: list[int] = []
        repeat = max(NACK_REPEAT, self.rtt)
        for sequence, missing in list(self._missing.items()):
            if now - missing.since > NACK_GIVE_UP or missing.tries >= NACK_TRIES:
                del self._missing[sequence]
                self.given_up += 1
                if self._is_video:
                    self.track.main.keyframe_wish.ask(now)
            elif now - missing.since >= NACK_DELAY and now - missing.asked_at >= repeat:
                missing.asked_at = now
                missing.tries += 1
                due.append(sequence & 0xFFFF)
        self.nacked += len(due)
        return due

    @property
    def is_waiting(self) -> bool:
        """Whether something is missing, so that :meth:`nacks_due` should be asked soon."""
        return bool(self._missing)

    # --- reports -------------------------------------------------------------------------------

    def handle_sender_report(self, report: SenderReport, now: float) -> MediaClock:
        """Remember the publisher's clock pair; returned so that it can travel downstream."""
        self._clock = MediaClock(report.ntp, report.rtp_timestamp, now)
        return self._clock

    def report_block(self, now: float) -> ReportBlock | None:
        """The receiver report of RFC 3550 §6.4.1; ``None`` before the first packet."""
        if not self._started or self.ssrc is None:
            return None
        expected = self._highest - self._base + 1
        expected_before, received_before = self._reported
        self._reported = (expected, self._received)
        interval = expected - expected_before
        lost_now = interval - (self._received - received_before)
        fraction = min(255, (lost_now << 8) // interval) if interval > 0 and lost_now > 0 else 0
        clock = self._clock
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            cumulative_lost=max(min(expected - self._received, 0x7FFFFF), -0x800000),
            highest_sequence=(self._highest - 0x10000) & 0xFFFFFFFF,
            jitter=int(self._jitter),
            last_sender_report=(clock.ntp >> 16) & 0xFFFFFFFF if clock else 0,
            delay_since_last_sender_report=int((now - clock.received_at) * 65536) & 0xFFFFFFFF
            if clock
            else 0,
        )

    def debug_state(self) -> dict[str, object]:
        expected = self._highest - self._base + 1 if self._started else 0
        return {
            "ssrc": self.ssrc,
            "codec": self.codec.name,
            "received": self._received,
            "lost": expected - self._received,
            "missing": len(self._missing),
            "nacked": self.nacked,
            "recovered": self.recovered,
            "given_up": self.given_up,
            "duplicates": self.duplicates,
            "jitter_ms": round(self._jitter / self.codec.clock_rate * 1e3, 2),
        }
