"""What a player's copy of a track is called: sequence numbers, timestamps, and the codec's picture numbers.

A player must see one unbroken RTP stream while its source may change (the
publisher comes back with other numbers). Each stretch of one source is an era
with fixed offsets; the eras are kept for a while, so that a NACK for a packet
before the change still finds it. What a short link left out on purpose is
closed up in the same way: the player sees no hole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from relaymesh.node.encodings import Encoding
from relaymesh.protocol.frames import EXTENSION_DEPENDENCY_DESCRIPTOR, MediaFrame
from relaymesh.webrtc.picture_ids import (
    NO_OFFSETS,
    PictureNumbers,
    PictureOffsets,
    make_renumberer,
    offsets_after,
)

Extensions = tuple[tuple[int, bytes], ...]  # (kind, value)

ERAS = 128  # older ones are beyond any cache; each picture that a link left out begins one


@dataclass(frozen=True, slots=True)
class Era:
    """One source's stretch: out = in + offset."""

    encoding: Encoding
    first_out: int  # extended sequence number towards the player
    sequence_offset: int
    timestamp_offset: int  # RTP units, modulo 2³²
    pictures: PictureOffsets
    end: int | None = None  # extended sequence number of the source from which on it holds no more


class Rewriter:
    """Numbers one player's copy of one track."""

    __slots__ = (
        "_clock_rate",
        "_eras",
        "_last_at",
        "_last_numbers",
        "_last_sent",
        "_numbering",
        "highest",
        "last_timestamp",
    )

    def __init__(self, *, clock_rate: int, codec_name: str, first_sequence: int) -> None:
        """*first_sequence*: 16 bits, random (RFC 3550 §5.1)."""
        self._clock_rate = clock_rate
        self._numbering = make_renumberer(codec_name)
        self._eras: list[Era] = []
        self.highest = 0x10000 + first_sequence - 1  # extended, so that nothing goes below zero
        self.last_timestamp = 0
        self._last_at = 0.0
        self._last_numbers: PictureNumbers | None = None  # as sent, where the era before ended
        self._last_sent: tuple[Era, MediaFrame] | None = None  # with the highest number

    @property
    def era(self) -> Era | None:
        """The current era; ``None`` before the first packet."""
        return self._eras[-1] if self._eras else None

    def begin(self, encoding: Encoding, frame: MediaFrame, now: float) -> None:
        """From *frame* on, packets come from *encoding*, and follow the last one without a gap."""
        timestamp_offset, pictures = 0, NO_OFFSETS
        if self._eras:
            elapsed = max(int((now - self._last_at) * self._clock_rate), 1)
            timestamp_offset = (self.last_timestamp + elapsed - frame.timestamp) & 0xFFFFFFFF
            numbers = self._numbers(frame)
            if numbers is not None and self._last_numbers is not None:
                pictures = offsets_after(self._last_numbers, numbers)
        self._eras.append(
            Era(
                encoding,
                self.highest + 1,
                self.highest + 1 - frame.sequence,
                timestamp_offset,
                pictures,
            )
        )
        del self._eras[:-ERAS]

    def rename(
        self, frame: MediaFrame, now: float, added: int = 0
    ) -> tuple[int, int, bytes, Extensions] | None:
        """(extended sequence, timestamp, payload, extensions) of *frame*; ``None`` before the era.

        *added*: RTP units by which it is to be shown later.
        """
        era, out = self._eras[-1], frame.sequence + self._eras[-1].sequence_offset
        if out < era.first_out:
            found = self._earlier(frame.sequence)
            if found is None:
                return None
            era, out = found
        timestamp, payload, extensions = self._apply(era, frame)
        if added:
            timestamp = (timestamp + added) & 0xFFFFFFFF
        if out > self.highest:
            self.highest = out
            self.last_timestamp = timestamp
            self._last_at = now
            self._last_sent = era, frame
        return out, timestamp, payload, extensions

    def caught_up(self, frame: MediaFrame, at: float) -> None:
        """All packets of the era up to *frame* were renamed by its offsets elsewhere, *frame* then."""
        era = self._eras[-1]
        self.highest = frame.sequence + era.sequence_offset
        self.last_timestamp = (frame.timestamp + era.timestamp_offset) & 0xFFFFFFFF
        self._last_at = at
        self._last_sent = era, frame

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
        offsets = era.pictures
        if pictures and self._numbering.compacts_pictures:
            closed_up = (offsets.picture_id - pictures) & 0x7FFF
            offsets = PictureOffsets(closed_up, offsets.tl0picidx, offsets.frame_number)
        self._eras[-1] = replace(era, end=first)
        self._eras.append(
            replace(
                era,
                first_out=out,
                sequence_offset=era.sequence_offset - packets,
                pictures=offsets,
            )
        )
        del self._eras[:-ERAS]

    def find(self, sequence: int) -> tuple[int, int, bytes, Extensions, MediaFrame] | None:
        """What was sent as this 16-bit number, while it is kept: as :meth:`rename`, and the original."""
        delta = (sequence - self.highest) & 0xFFFF
        out = self.highest + (delta - 0x10000 if delta & 0x8000 else delta)
        for era in reversed(self._eras):
            if out >= era.first_out:
                frame = era.encoding.recent(out - era.sequence_offset)
                return None if frame is None else (out, *self._apply(era, frame), frame)
        return None

    def _apply(self, era: Era, frame: MediaFrame) -> tuple[int, bytes, Extensions]:
        timestamp = (frame.timestamp + era.timestamp_offset) & 0xFFFFFFFF
        if not era.pictures:
            return timestamp, frame.payload, frame.extensions
        descriptor = _descriptor(frame)
        payload, moved = self._numbering.rewrite(frame.payload, descriptor, era.pictures)
        extensions = frame.extensions
        if moved is not None and moved != descriptor:
            extensions = tuple(
                (kind, moved if kind == EXTENSION_DEPENDENCY_DESCRIPTOR else value)
                for kind, value in extensions
            )
        return timestamp, payload, extensions

    def close_era(self) -> None:
        """Remember where the current source stands, before another one begins."""
        if self._last_sent is None:
            return
        era, frame = self._last_sent
        numbers = self._numbers(frame)
        if numbers is not None:
            self._last_numbers = era.pictures.onto(numbers)

    def _numbers(self, frame: MediaFrame) -> PictureNumbers | None:
        return self._numbering.numbers(frame.payload, _descriptor(frame))


def _descriptor(frame: MediaFrame) -> bytes | None:
    """The dependency descriptor that travels with *frame*."""
    return next((value for kind, value in frame.extensions if kind == EXTENSION_DEPENDENCY_DESCRIPTOR), None)
