"""One packet in, one for each subscriber out: the reference kernel.

In: the streams (a sender's copy of an encoding each) with the paths (a session's way
out each) they are on, and packets as they come; out: RTP packets with each stream's
own numbers, protected by each path's own keys, and the owners of streams that must
not or cannot take a packet now. Assigning is apart from sealing and sending, so
that a batch is decided first and sent at once. Knows no sessions, codecs or meshes.
"""

from __future__ import annotations

import struct
from collections import deque

from . import udp_reference
from .srtp_reference import SrtpFailure, SrtpSender

BURST_S = 0.005  # what the gate lets through at once, in seconds of its rate
DEBT_S = 2.0  # how far urgent packets may overdraw it
LOG_ENTRIES = 8192
SPATIAL_LAYERS = 7  # the number of the last says "all": nothing above it is left out

_HEADER = struct.Struct("!BBHII")  # RFC 3550 §5.1, without CSRCs


class Path:
    """One session's way out: its keys, its address, its transport-wide numbers, and a gate (a token bucket).

    Args:
        sender: what protects its packets; None on emulated networks, where they stay plain.
    """

    __slots__ = (
        "_sent",
        "address",
        "allowance",
        "at",
        "dropped",
        "gated",
        "is_behind",
        "is_open",
        "least_burst",
        "number",
        "rate",
        "sender",
    )

    def __init__(self, sender: SrtpSender | None = None) -> None:
        self.sender = sender
        self.address: tuple[str, int] | None = None
        self.is_open = False
        self.dropped = 0  # packets while it was not open or had no address
        self.number = 0  # the last transport-wide sequence number, 16 bits
        self.gated = False  # else everything goes at once, and nothing is logged
        self.is_behind = False  # something waits elsewhere: all but urgent streams are refused
        self.allowance = 0.0  # bytes
        self.rate = 0.0  # bytes/s
        self.least_burst = 0.0  # bytes
        self.at = 0.0  # seconds; when the allowance was last right
        self._sent: deque[tuple[int | None, int, float]] = deque(maxlen=LOG_ENTRIES)

    def refill(self, now: float) -> None:
        """Let the allowance grow to *now*."""
        if now > self.at:
            most = max(self.least_burst, self.rate * BURST_S)
            grown = min(most, self.allowance + (now - self.at) * self.rate)
            self.allowance = max(self.allowance, grown)
            self.at = now

    def take_sent(self) -> list[tuple[int | None, int, float]]:
        """What was sent since the last call, while gated: (transport-wide number or None, bytes, when)."""
        sent = list(self._sent)
        self._sent.clear()
        return sent

    def admits(self, urgent: bool, now: float) -> bool:
        """Check whether a packet may go now, by the gate."""
        self.refill(now)
        return urgent or not (self.is_behind or self.allowance <= 0)

    def book(self, number: int | None, size: int, now: float) -> bool:
        """Count a packet of *size* bytes as sent; False where there is nowhere to send it."""
        if self.gated:
            self.allowance = max(self.allowance - size, -self.rate * DEBT_S)
            self._sent.append((number, size, now))
        if self.is_open and self.address is not None:
            return True
        self.dropped += 1
        return False


class Stream:
    """One sender's copy of an encoding: what its packets get, and the highest layers it takes."""

    __slots__ = (
        "_frame_offset",
        "_moves_pictures",
        "_picture_offset",
        "_sequence_offset",
        "_timestamp_offset",
        "_tl0_offset",
        "has_number",
        "owner",
        "path",
        "payload_type",
        "profile",
        "spatial",
        "ssrc",
        "temporal",
        "urgent",
    )

    def __init__(
        self,
        path: Path,
        owner: object,
        *,
        ssrc: int,
        payload_type: int,
        profile: int,
        has_number: bool,
        urgent: bool,
        sequence_offset: int,
        timestamp_offset: int,
        spatial: int,
        temporal: int,
        picture_offset: int = 0,
        tl0_offset: int = 0,
        frame_offset: int = 0,
    ) -> None:
        self.path = path
        self.owner = owner  # who is told of a refusal
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.profile = profile  # which header extension block its packets have
        self.has_number = has_number  # its packets get transport-wide numbers
        self.urgent = urgent  # passes a gate that is closed
        self._sequence_offset = sequence_offset  # any int; added modulo 2^16
        self._timestamp_offset = timestamp_offset  # any int; added modulo 2^32
        self.spatial = spatial
        self.temporal = temporal
        # Added to what decoders count pictures by, modulo the width of each: the picture ID and TL0PICIDX
        # of VP8 and VP9, the frame number of a dependency descriptor.
        self._picture_offset = picture_offset
        self._tl0_offset = tl0_offset
        self._frame_offset = frame_offset
        self._moves_pictures = bool(picture_offset or tl0_offset)


_Job = tuple[SrtpSender | None, tuple[str, int], bytes]  # whose keys, where to, the RTP packet


class FanOut:
    """What was assigned and is not yet sent.

    Args:
        size_overhead: bytes that a packet costs a path beside its RTP header, block and payload.
    """

    def __init__(self, size_overhead: int) -> None:
        self._size_overhead = size_overhead
        self._jobs: list[_Job] = []
        self.unsealed = 0  # packets that the SRTP kernel refused: they are too long

    def group(self) -> Group:
        """Make a group of streams that feeds this fan-out."""
        return Group(self._jobs, self._size_overhead)

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, path: Path, packet: bytes) -> None:
        """Let a whole RTP packet go on *path*, behind what was assigned to it.

        Raises:
            ValueError: it is shorter than an RTP header.
        """
        if len(packet) < _HEADER.size:
            raise ValueError("a packet has a header of 12 bytes at least")
        if path.is_open and path.address is not None:
            self._jobs.append((path.sender, path.address, packet))
        else:
            path.dropped += 1

    def pop(self) -> list[tuple[bytes, tuple[str, int]]]:
        """What was assigned, sealed, in the order of assignment: (packet, address)."""
        sealed = []
        for sender, address, packet in self._jobs:
            try:
                sealed.append((packet if sender is None else sender.protect_rtp(packet), address))
            except SrtpFailure:
                self.unsealed += 1
        self._jobs.clear()
        return sealed

    def send(self, fileno: int) -> int:
        """Seal and send what was assigned, a path's packets in order; return how many could not be sent."""
        return udp_reference.send(fileno, self.pop())


class Group:
    """The streams that one encoding feeds."""

    def __init__(self, jobs: list[_Job], size_overhead: int) -> None:
        self._jobs = jobs  # the fan-out's
        self._size_overhead = size_overhead
        self._streams: dict[Stream, None] = {}

    def add(self, stream: Stream) -> None:
        """Feed *stream* too, after those that are there."""
        self._streams[stream] = None

    def remove(self, stream: Stream) -> None:
        """Feed *stream* no more; what was assigned to it still goes out."""
        self._streams.pop(stream, None)

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream: object) -> bool:
        return stream in self._streams

    def push(
        self,
        sequence: int,
        timestamp: int,
        marker: bool,
        layer_end: bool,
        spatial: int,
        temporal: int,
        payload: bytes,
        pictures: tuple[int, int, int],
        blocks: list[tuple[bytes, int, int]],
        now: float,
    ) -> list[object]:
        """Assign a packet to every stream that takes it; return the owners of those that refuse, in order.

        Args:
            sequence: of the encoding; the low 16 bits count.
            timestamp: the low 32 bits count.
            marker: whether it ends a picture.
            layer_end: whether it ends its spatial layer of a picture; a marker where the stream ends there.
            spatial: the packet's layer, from 0.
            temporal: the packet's layer, from 0.
            payload: of RTP.
            pictures: where in the payload the picture ID stands, its bits (7, 15, or 0: there is none), and
                where TL0PICIDX stands (−1: nowhere).
            blocks: for each profile of streams the header extension as it goes behind the fixed header
                (or empty), where in it the transport-wide number's two bytes stand, and where those
                of a frame number (−1: nowhere).
            now: seconds.

        Raises:
            IndexError: a stream's profile has no block.
            ValueError: a number's offset is outside of its block, or of the payload.
        """
        for block, offset, frame_at in blocks:
            if max(offset, frame_at) + 2 > len(block) and max(offset, frame_at) >= 0:
                raise ValueError("the number's offset is outside of its block")
        _check_pictures(pictures, len(payload))
        refused = []
        for stream in self._streams:
            if spatial > stream.spatial or temporal > stream.temporal:
                refused.append(stream.owner)
                continue
            path = stream.path
            block, offset, frame_at = blocks[stream.profile]
            if path.gated and not path.admits(stream.urgent, now):
                refused.append(stream.owner)
                continue
            number = None
            if stream.has_number:
                number = path.number = (path.number + 1) & 0xFFFF
                if offset >= 0:
                    block = block[:offset] + number.to_bytes(2) + block[offset + 2 :]
            if stream._frame_offset and frame_at >= 0:
                found = blocks[stream.profile][0][frame_at : frame_at + 2]
                frame_number = int.from_bytes(found) + stream._frame_offset
                block = block[:frame_at] + (frame_number & 0xFFFF).to_bytes(2) + block[frame_at + 2 :]
            size = _HEADER.size + len(block) + len(payload) + self._size_overhead
            if not path.book(number, size, now):
                continue
            ends = layer_end and spatial == stream.spatial and spatial + 1 < SPATIAL_LAYERS
            header = _HEADER.pack(
                0x90 if block else 0x80,
                stream.payload_type | (0x80 if marker or ends else 0),
                (sequence + stream._sequence_offset) & 0xFFFF,
                (timestamp + stream._timestamp_offset) & 0xFFFFFFFF,
                stream.ssrc,
            )
            assert path.address is not None, "a path without an address books nothing"
            body = _moved(payload, pictures, stream) if stream._moves_pictures else payload
            self._jobs.append((path.sender, path.address, header + block + body))
        return refused


def _check_pictures(pictures: tuple[int, int, int], size: int) -> None:
    picture_at, bits, tl0_at = pictures
    if bits not in (0, 7, 15):
        raise ValueError("a picture ID has 7 or 15 bits")
    if (bits and not 0 <= picture_at <= size - (1 if bits == 7 else 2)) or tl0_at >= size:
        raise ValueError("a picture number's offset is outside of the payload")


def _moved(payload: bytes, pictures: tuple[int, int, int], stream: Stream) -> bytes:
    """*payload* with the stream's offsets on its picture ID and TL0PICIDX, as far as it has them."""
    changed = bytearray(payload)
    at, bits, tl0_at = pictures
    if bits == 15:
        picture = (changed[at] & 0x7F) << 8 | changed[at + 1]
        changed[at : at + 2] = (0x8000 | picture + stream._picture_offset & 0x7FFF).to_bytes(2)
    elif bits == 7:
        changed[at] = changed[at] + stream._picture_offset & 0x7F
    if tl0_at >= 0:
        changed[tl0_at] = payload[tl0_at] + stream._tl0_offset & 0xFF
    return bytes(changed)
