"""What a player's copy of a track is called: sequence numbers, timestamps, VP8 picture ids.

A player must see one unbroken RTP stream while its source may change (the
publisher comes back with other numbers). Each stretch of one source is an era
with fixed offsets; the eras are kept for a while, so that a NACK for a packet
before the change still finds it. What a short link left out on purpose is
closed up in the same way: the player sees no hole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from relaymesh.node.streams import Encoding
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.seqnum import distance
from relaymesh.webrtc import vp8
from relaymesh.webrtc.errors import RtpError

ERAS = 128  # older ones are beyond any cache; each picture that a link left out begins one


@dataclass(frozen=True, slots=True)
class Era:
    """One source's stretch: out = in + offset."""

    encoding: Encoding
    first_out: int  # extended sequence number towards the player
    sequence_offset: int
    timestamp_offset: int  # RTP units, modulo 2³²
    picture_id_offset: int  # modulo 2¹⁵
    tl0_offset: int  # modulo 2⁸
    end: int | None = None  # extended sequence number of the source from which on it holds no more


class Rewriter:
    """Numbers one player's copy of one track."""

    __slots__ = (
        "_clock_rate",
        "_eras",
        "_is_vp8",
        "_last_at",
        "_last_picture_id",
        "_last_tl0",
        "highest",
        "last_timestamp",
    )

    def __init__(self, *, clock_rate: int, is_vp8: bool, first_sequence: int) -> None:
        """*first_sequence*: 16 bits, random (RFC 3550 §5.1)."""
        self._clock_rate = clock_rate
        self._is_vp8 = is_vp8
        self._eras: list[Era] = []
        self.highest = 0x10000 + first_sequence - 1  # extended, so that nothing goes below zero
        self.last_timestamp = 0
        self._last_at = 0.0
        self._last_picture_id = 0
        self._last_tl0 = 0

    @property
    def era(self) -> Era | None:
        """The current era; ``None`` before the first packet."""
        return self._eras[-1] if self._eras else None

    def begin(self, encoding: Encoding, frame: MediaFrame, now: float) -> None:
        """From *frame* on, packets come from *encoding*, and follow the last one without a gap."""
        timestamp_offset = picture_id_offset = tl0_offset = 0
        if self._eras:
            elapsed = max(int((now - self._last_at) * self._clock_rate), 1)
            timestamp_offset = (self.last_timestamp + elapsed - frame.timestamp) & 0xFFFFFFFF
            descriptor = self._descriptor(frame.payload)
            if descriptor is not None:
                if descriptor.picture_id is not None:
                    picture_id_offset = (self._last_picture_id + 1 - descriptor.picture_id) & 0x7FFF
                if descriptor.tl0picidx is not None:
                    tl0_offset = (self._last_tl0 + 1 - descriptor.tl0picidx) & 0xFF
        self._eras.append(
            Era(
                encoding,
                self.highest + 1,
                self.highest + 1 - frame.sequence,
                timestamp_offset,
                picture_id_offset,
                tl0_offset,
            )
        )
        del self._eras[:-ERAS]

    def rename(self, frame: MediaFrame, now: float) -> tuple[int, int, bytes] | None:
        """(extended sequence, timestamp, payload) of *frame*; ``None`` if it lies before the era."""
        era, out = self._eras[-1], frame.sequence + self._eras[-1].sequence_offset
        if out < era.first_out:
            found = self._earlier(frame.sequence)
            if found is None:
                return None
            era, out = found
        timestamp, payload = self._apply(era, frame)
        if out > self.highest:
            self.highest = out
            self.last_timestamp = timestamp
            self._last_at = now
        return out, timestamp, payload

    def _earlier(self, sequence: int) -> tuple[Era, int] | None:
        """The era before one that a skip began, for a packet that comes late, and its number."""
        encoding = self._eras[-1].encoding
        for era in reversed(self._eras[:-1]):
            if era.encoding is not encoding or era.end is None:
                return None
            out = sequence + era.sequence_offset
            if out >= era.first_out:
                return (era, out) if sequence < era.end else None
        return None

    def skip(self, first: int, packets: int, pictures: int) -> None:
        """*packets* from the source's number *first* on never come, by intent: what follows closes up.

        Too late when something behind them was sent already: then the hole stays.
        """
        if not self._eras:
            return
        era = self._eras[-1]
        out = first + era.sequence_offset
        if out <= self.highest or out < era.first_out:
            return
        self._eras[-1] = replace(era, end=first)
        self._eras.append(
            replace(
                era,
                first_out=out,
                sequence_offset=era.sequence_offset - packets,
                picture_id_offset=(era.picture_id_offset - pictures) & 0x7FFF,
            )
        )
        del self._eras[:-ERAS]

    def find(self, sequence: int) -> tuple[int, int, bytes, MediaFrame] | None:
        """What was sent as this 16-bit number, while it is kept: (extended, timestamp, payload, original)."""
        out = self.highest + distance(sequence, self.highest)
        for era in reversed(self._eras):
            if out >= era.first_out:
                frame = era.encoding.recent(out - era.sequence_offset)
                return None if frame is None else (out, *self._apply(era, frame), frame)
        return None

    def _apply(self, era: Era, frame: MediaFrame) -> tuple[int, bytes]:
        timestamp = (frame.timestamp + era.timestamp_offset) & 0xFFFFFFFF
        if not (era.picture_id_offset or era.tl0_offset):
            return timestamp, frame.payload
        descriptor = self._descriptor(frame.payload)
        if descriptor is None:
            return timestamp, frame.payload
        return timestamp, vp8.rewrite(frame.payload, descriptor, era.picture_id_offset, era.tl0_offset)

    def close_era(self) -> None:
        """Remember where the current source stands, before another one begins."""
        era = self.era
        if era is None or era.encoding.highest is None:
            return
        frame = era.encoding.recent(era.encoding.highest)
        descriptor = self._descriptor(frame.payload) if frame is not None else None
        if descriptor is not None:
            self._last_picture_id = ((descriptor.picture_id or 0) + era.picture_id_offset) & 0x7FFF
            self._last_tl0 = ((descriptor.tl0picidx or 0) + era.tl0_offset) & 0xFF

    def _descriptor(self, payload: bytes) -> vp8.Vp8Descriptor | None:
        if not self._is_vp8:
            return None
        try:
            return vp8.parse_descriptor(payload)
        except RtpError:
            return None
