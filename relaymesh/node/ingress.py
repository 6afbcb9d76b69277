"""A track as its publisher sends it, with an :class:`IngressEncoding` for each encoding: RTP in, frames out.

Extends sequence numbers, drops duplicates (browsers probe with retransmitted
packets nobody asked for), asks again for what is missing, and keeps the
receiver statistics of RFC 3550. Padding-only packets are taken out and the
rest renumbered, so that they leave no hole downstream; a publisher's new SSRC
goes on where the old one ended. Decodes nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import structs

from relaymesh.node.encodings import Encoding, MediaClock
from relaymesh.node.layer_rates import LayerRates
from relaymesh.node.publications import Track
from relaymesh.protocol.frames import EXTENSION_DEPENDENCY_DESCRIPTOR, HOP_LIMIT, MediaFrame
from relaymesh.protocol.seqnum import Extender
from relaymesh.webrtc import red
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.parameter_sets import ParameterSets
from relaymesh.webrtc.payload import PacketInfo, make_payload_reader
from relaymesh.webrtc.rtcp import ReportBlock, SenderReport
from relaymesh.webrtc.rtp import RtpPacket

NACK_DELAY = 0.005  # s; a gap younger than this may be reordering
NACK_REPEAT = 0.04  # s; at least, else one round trip
NACK_TRIES = 8
NACK_GIVE_UP = 1.0  # s; by then every player has frozen and a keyframe is the better answer
MAX_MISSING = 500  # more than this at once is an outage (or a hostile publisher), not loss
MAX_PADDING_HOLES = 256
MAX_INSERTED = 256
MAX_DESCRIPTOR = 200  # bytes; one with a structure of nine layers has about 90

PRIORITY_AUDIO, PRIORITY_KEYFRAME, PRIORITY_VIDEO, PRIORITY_ENHANCEMENT = 0, 1, 2, 3
_UNREADABLE = PacketInfo(layer_start=False, layer_end=False)  # forwarded as it came; the decoder judges it


@dataclass(slots=True)
class Missing:
    """One sequence number that has not come."""

    since: float  # s
    asked_at: float = float("-inf")  # s
    tries: int = 0


class IngressTrack:
    """The receiving end of one published track: its section of the session, with its encodings."""

    def __init__(
        self, track: Track, mid: str, codec: Codec, extension_ids: Mapping[int, int], rids: Mapping[str, int]
    ) -> None:
        """*extension_ids*: the publisher's RTP extension id → the frame extension kind it travels as.

        *rids*: the number of each simulcast encoding; empty without simulcast.
        """
        self.track = track
        self.mid = mid
        self.codec = codec
        self.rids = dict(rids)
        self.encodings = {
            number: IngressEncoding(encoding, codec, extension_ids)
            for number, encoding in track.encodings.items()
        }

    def encoding_of(self, rid: str | None) -> IngressEncoding | None:
        """The encoding that a packet with *rid* belongs to; without one, the only encoding."""
        if rid is not None and self.rids:
            number = self.rids.get(rid)
            return self.encodings.get(number) if number is not None else None
        return next(iter(self.encodings.values())) if len(self.encodings) == 1 else None

    def measure(self, now: float) -> bool:
        """Renew the track's layers and which encoding is its lowest; ``True`` if one started or stopped."""
        changed = self.track.measure(now)
        live = [e.number for e in self.track.ranked() if self.track.live(e.number)]
        for number, encoding in self.encodings.items():
            encoding.is_lowest = not live or number == live[0]
        return changed

    def debug_state(self) -> dict[str, object]:
        return {
            "mid": self.mid,
            "track": self.track.number,
            "codec": self.codec.name,
            "muted": self.track.muted,
            "encodings": [encoding.debug_state() for encoding in self.encodings.values()],
        }


class IngressEncoding:
    """The receiving end of one encoding."""

    def __init__(self, encoding: Encoding, codec: Codec, extension_ids: Mapping[int, int]) -> None:
        self.encoding = encoding
        self.track = encoding.track
        self.codec = codec
        self.ssrc: int | None = None
        self.rtx_ssrc: int | None = None
        self.is_lowest = True  # of its track's encodings, by rate
        self.rates = self.track.rates.setdefault(encoding.number, LayerRates())
        self._kinds = dict(extension_ids)
        self._descriptor_id = next(
            (number for number, kind in extension_ids.items() if kind == EXTENSION_DEPENDENCY_DESCRIPTOR),
            None,
        )
        self._is_video = self.track.is_video
        self._keyframe_timestamp: int | None = None  # of the newest keyframe
        self._is_red = codec.name.lower() == red.NAME
        self._reader = make_payload_reader(codec.name)
        self._extender = Extender()
        self._offset = (
            0x10000  # one cycle ahead, so that what comes from before the first packet is not negative
        )
        self._timestamp_offset = 0  # of the SSRC that sends now
        self._last_timestamp = 0  # as forwarded
        self._last_at = 0.0
        self._started = False
        self._highest = 0
        self._base = 0
        self._received = 0
        self._missing: dict[int, Missing] = {}
        self._padding: list[int] = []  # sequence numbers taken out, ascending
        self._padding_before = 0  # how many more were taken out before those still listed
        has_sets = codec.name.lower() in ("h264", "h265")
        self._parameter_sets = ParameterSets(codec.name, codec.fmtp) if has_sets else None
        self._inserted: list[int] = []  # before which numbers parameter sets were put, one entry for each
        self._inserted_before = 0  # how many more were put before those still listed
        self._jitter = 0.0  # RTP units, RFC 3550 §6.4.1
        self._transit: float | None = None
        self._reported = (0, 0)  # expected, received at the last report
        self._clock: MediaClock | None = None  # as the publisher said it
        self._can_nack = "nack" in codec.feedback
        self.rtt = 0.0  # s to the publisher, where known
        self.nacked = self.recovered = self.given_up = self.duplicates = self.unreadable = 0
        self.restarts = 0  # another SSRC went on

    @property
    def last_arrival(self) -> float:
        """When the newest packet came, s."""
        return self.encoding.last_arrival

    def bind(self, ssrc: int, now: float) -> None:
        """Its packets come by *ssrc* from now on; what was another one's goes on without a seam."""
        if self.ssrc is not None and self.ssrc != ssrc and self._started:
            self.restarts += 1
            self._started = False
            self._missing.clear()
            self._clock = None
            self._transit = None
            self._jitter = 0.0
            if self._is_video:
                self.encoding.keyframe_wish.ask(now)
        self.ssrc = ssrc

    # --- media ---------------------------------------------------------------------------------

    def handle_rtp(
        self, packet: RtpPacket, now: float, *, retransmission: bool = False
    ) -> tuple[MediaFrame, ...]:
        """The frames to forward: none for a duplicate or padding, else one.

        Before a keyframe that comes without its parameter sets go the known ones, as frames of their own.

        A retransmission (RFC 4588) comes unwrapped: with its original
        sequence number and payload.
        """
        if not self._started and self.restarts:
            self._continue(packet, now)
        sequence = self._extender.extend(packet.sequence) + self._offset
        if not self._note_arrival(sequence, now):
            return ()
        if not retransmission:
            self._note_jitter(packet.timestamp, now)
        if not packet.payload:
            self._take_out(sequence)
            return ()
        if self._is_red and not self._unify(packet):
            self._take_out(sequence)
            return ()
        return self._frames(packet, sequence, now)

    def _unify(self, packet: RtpPacket) -> bool:
        """Make RED of what came without it, which its sender may do at any time; whether it is RED then."""
        if packet.payload_type not in (self.codec.payload_type, self.codec.rtx):
            packet.payload = red.alone(packet.payload, packet.payload_type)
            return True
        try:
            red.primary(packet.payload)
        except RtpError:
            self.unreadable += 1
            return False
        return True

    def _frames(self, packet: RtpPacket, sequence: int, now: float) -> tuple[MediaFrame, ...]:
        if self._parameter_sets is not None:
            self._parameter_sets.learn(packet.payload, sequence)
        frame = self._frame(packet, sequence, now)
        if self._parameter_sets is None or not frame.keyframe or sequence != self._highest:
            return (frame,)
        payloads = self._parameter_sets.before(packet.payload)
        if not payloads:
            return (frame,)
        self._insert(sequence, len(payloads))
        first = frame.sequence
        frame.sequence = self._renumber(sequence)
        sets = tuple(
            structs.replace(
                frame,
                payload=payload,
                sequence=first + place,
                marker=False,
                keyframe=place == 0,
                layer_end=False,
            )
            for place, payload in enumerate(payloads)
        )
        frame.keyframe = frame.layer_start = False
        return (*sets, frame)

    def _insert(self, sequence: int, count: int) -> None:
        """Open room for *count* packets before the newest one."""
        self._inserted += [sequence] * count
        while len(self._inserted) > MAX_INSERTED:
            del self._inserted[0]
            self._inserted_before += 1

    def _continue(self, packet: RtpPacket, now: float) -> None:
        """The first packet of another SSRC: number it, and time it, after what the last one sent."""
        self._extender = Extender()
        # An extender begins with the number itself; one cycle is left for what comes from before it.
        self._offset = self._highest + 1 - packet.sequence
        elapsed = max(1, int((now - self._last_at) * self.codec.clock_rate))
        self._timestamp_offset = (self._last_timestamp + elapsed - packet.timestamp) & 0xFFFFFFFF

    def _note_arrival(self, sequence: int, now: float) -> bool:
        if not self._started:
            self._started = True
            self._highest = self._base = sequence
            self._received, self._reported = 0, (0, 0)
        elif sequence > self._highest:
            gap = sequence - self._highest - 1
            if gap + len(self._missing) > MAX_MISSING:
                self._missing.clear()
                if self._is_video:
                    self.encoding.keyframe_wish.ask(now)
            elif gap:
                if self._can_nack:
                    for lost in range(self._highest + 1, sequence):
                        self._missing[lost] = Missing(now)
                elif self._is_video:
                    # Nobody can ask this publisher for the packet, only for a keyframe.
                    self.encoding.keyframe_wish.ask(now)
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

    def _frame(self, packet: RtpPacket, sequence: int, now: float) -> MediaFrame:
        info = self._read(packet)
        timestamp = (packet.timestamp + self._timestamp_offset) & 0xFFFFFFFF
        self._last_timestamp, self._last_at = timestamp, now
        self.rates.note(info.spatial, info.temporal, len(packet.payload), now)
        return MediaFrame(
            self.track.id,
            self.encoding.number,
            self._renumber(sequence),
            timestamp,
            packet.payload,
            info.keyframe,
            packet.marker,
            not self._is_video,
            info.discardable,
            self._priority(info, timestamp),
            min(info.spatial, 7),
            min(info.temporal, 7),
            self._carried(packet.extensions) if packet.extensions else (),
            HOP_LIMIT,
            entry=info.entry,
            layer_start=info.layer_start,
            layer_end=info.layer_end,
        )

    def _read(self, packet: RtpPacket) -> PacketInfo:
        descriptor = packet.extensions.get(self._descriptor_id) if self._descriptor_id is not None else None
        try:
            return self._reader.read(packet.payload, packet.marker, descriptor)
        except RtpError:
            self.unreadable += 1
            return _UNREADABLE

    def _priority(self, info: PacketInfo, timestamp: int) -> int:
        """Class of a packet: a short link may leave out all but the lowest layer of the lowest encoding."""
        if not self._is_video:
            return PRIORITY_AUDIO
        if info.temporal or info.spatial or not self.is_lowest:
            return PRIORITY_ENHANCEMENT
        if info.keyframe:
            self._keyframe_timestamp = timestamp
        # The first packet alone says it is one; without the others of its picture it shows nothing.
        return PRIORITY_KEYFRAME if timestamp == self._keyframe_timestamp else PRIORITY_VIDEO

    def _carried(self, extensions: dict[int, bytes]) -> tuple[tuple[int, bytes], ...]:
        """Header extensions that cross the mesh, by kind; all but dependency descriptors have one byte."""
        found: tuple[tuple[int, bytes], ...] = ()
        kinds = self._kinds
        for number, value in extensions.items():
            kind = kinds.get(number)
            if kind is None:
                continue
            if len(value) == 1 or (
                kind == EXTENSION_DEPENDENCY_DESCRIPTOR and 0 < len(value) <= MAX_DESCRIPTOR
            ):
                found += ((kind, value),)
        return found

    def _take_out(self, sequence: int) -> None:
        if sequence == self._highest and (not self._padding or sequence > self._padding[-1]):
            self._padding.append(sequence)
            if len(self._padding) > MAX_PADDING_HOLES:
                del self._padding[0]
                self._padding_before += 1
        # A padding packet that comes late leaves its hole: what follows it was already numbered.

    def _renumber(self, sequence: int) -> int:
        number = sequence - self._padding_before + self._inserted_before
        if self._inserted:
            number += bisect_right(self._inserted, sequence)
        return number - bisect_left(self._padding, sequence) if self._padding else number

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
                    self.encoding.keyframe_wish.ask(now)
            elif now - missing.since >= NACK_DELAY and now - missing.asked_at >= repeat:
                missing.asked_at = now
                missing.tries += 1
                due.append((sequence - self._offset) & 0xFFFF)
        self.nacked += len(due)
        return due

    @property
    def is_waiting(self) -> bool:
        """Whether something is missing, so that :meth:`nacks_due` should be asked soon."""
        return bool(self._missing)

    # --- reports -------------------------------------------------------------------------------

    def handle_sender_report(self, report: SenderReport, now: float) -> None:
        """Remember the publisher's clock pair; the encoding has it as its packets are timed downstream."""
        self._clock = MediaClock(report.ntp, report.rtp_timestamp, now)
        timestamp = (report.rtp_timestamp + self._timestamp_offset) & 0xFFFFFFFF
        self.encoding.clock = MediaClock(report.ntp, timestamp, now)

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
            highest_sequence=(self._highest - self._offset) & 0xFFFFFFFF,
            jitter=int(self._jitter),
            last_sender_report=(clock.ntp >> 16) & 0xFFFFFFFF if clock else 0,
            delay_since_last_sender_report=int((now - clock.received_at) * 65536) & 0xFFFFFFFF
            if clock
            else 0,
        )

    def debug_state(self) -> dict[str, object]:
        expected = self._highest - self._base + 1 if self._started else 0
        return {
            "encoding": self.encoding.number,
            "ssrc": self.ssrc,
            "received": self._received,
            "lost": expected - self._received,
            "missing": len(self._missing),
            "nacked": self.nacked,
            "recovered": self.recovered,
            "given_up": self.given_up,
            "duplicates": self.duplicates,
            "unreadable": self.unreadable,
            "restarts": self.restarts,
            "jitter_ms": round(self._jitter / self.codec.clock_rate * 1e3, 2),
        }
