"""The senders that follow one encoding: each new packet goes on to them as it is, but for its numbers.

In: frames in order, senders with the offsets of their era. Out: rows in the node's fan-out; the senders that
cannot take a frame so, which see to it themselves. Nearly all of a room's packets go
this way, so nothing here is done once per sender and packet: that is the kernel's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relaymesh.kernels.fan_out import FanOut, Path, Stream
from relaymesh.node.egress_rows import TRANSPORT_NUMBER_ONLY, EgressNumbers
from relaymesh.protocol.frames import EXTENSION_DEPENDENCY_DESCRIPTOR, MediaFrame
from relaymesh.webrtc.dependency_descriptor import FRAME_NUMBER_AT, HEAD_BYTES
from relaymesh.webrtc.picture_ids import NO_PLACES, make_renumberer
from relaymesh.webrtc.rtp import ONE_BYTE_PROFILE, TWO_BYTE_PROFILE, build_extensions

if TYPE_CHECKING:
    from relaymesh.node.egress import Sender
    from relaymesh.node.encodings import Encoding
    from relaymesh.node.rewrite import Era

# A header extension; where in it the transport-wide number goes, and where a frame number is; −1: nowhere.
Block = tuple[bytes, int, int]
_NO_NUMBER = b"\x00\x00"
_WIDE = TWO_BYTE_PROFILE.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class _Profile:
    """Players whose header extensions are alike: they share one block for each packet."""

    extension_ids: tuple[tuple[int, int], ...]  # frame extension kind → the player's identifier
    transport_id: int | None

    @classmethod
    def of(cls, numbers: EgressNumbers) -> _Profile:
        return cls(tuple(sorted(numbers.extension_ids.items())), numbers.transport_id)


class Place:
    """Where one sender may follow an encoding, and up to what of it that was counted."""

    __slots__ = ("_counted", "_encoding", "_fan_out", "_path", "_stream")

    def __init__(self, fan_out: FanOut, path: Path) -> None:
        self._fan_out, self._path = fan_out, path
        self._encoding: Encoding | None = None  # which is followed
        self._stream: Stream | None = None
        self._counted = 0, 0  # packets and octets of all followers

    @property
    def is_behind(self) -> bool:
        """Something waits in the session: nothing can go past it."""
        return self._path.is_behind

    @property
    def is_taken(self) -> bool:
        """An encoding is followed."""
        return self._stream is not None

    def take(self, sender: Sender, encoding: Encoding, era: Era, layers: tuple[int, int]) -> None:
        """Follow *encoding* from its next packet on, by the numbers of *era*, up to *layers*."""
        if encoding.followers is None:
            encoding.followers = Followers(self._fan_out, encoding.track.info.codec)
        followers = encoding.followers
        self._encoding = encoding
        self._stream = Stream(
            self._path,
            sender,
            ssrc=sender.numbers.ssrc,
            payload_type=sender.codec.payload_type,
            profile=followers.profile(sender.numbers),
            has_number=sender.numbers.transport_id is not None,
            urgent=not sender.is_video,
            sequence_offset=era.sequence_offset,
            timestamp_offset=era.timestamp_offset,
            spatial=layers[0],
            temporal=layers[1],
            picture_offset=era.pictures.picture_id,
            tl0_offset=era.pictures.tl0picidx,
            frame_offset=era.pictures.frame_number,
        )
        self._counted = followers.packets, followers.octets
        encoding.follow(sender, self._stream, renumbered=bool(era.pictures))

    def leave(self, sender: Sender) -> None:
        """Follow it no more; what there is of :meth:`news` was taken."""
        assert self._encoding is not None, "the caller looked"
        assert self._stream is not None, "it has one while it follows"
        self._encoding.unfollow(sender, self._stream)
        self._encoding = self._stream = None

    def news(self) -> tuple[int, int, MediaFrame, float] | None:
        """(packets, octets, the newest packet, when) that went since the last call; ``None``: nothing did."""
        followers = self._encoding.followers if self._encoding is not None else None
        if followers is None or followers.last is None or followers.packets == self._counted[0]:
            return None
        packets, octets = self._counted
        self._counted = followers.packets, followers.octets
        return followers.packets - packets, followers.octets - octets, *followers.last


class Followers:
    """The streams of one encoding that follow it, and what was sent to them."""

    def __init__(self, fan_out: FanOut, codec_name: str) -> None:
        self.packets = self.octets = 0  # handed to every stream that was here
        self.last: tuple[MediaFrame, float] | None = None  # the newest of them, and when
        self._group = fan_out.group()
        self._numbering = make_renumberer(codec_name)
        self._renumbered: set[Stream] = set()  # those of them whose pictures are counted anew
        self._profiles: dict[_Profile, int] = {}
        self._builders: list[tuple[dict[int, int], int | None]] = []

    def __len__(self) -> int:
        return len(self._group)

    def profile(self, numbers: EgressNumbers) -> int:
        """The number of the header extensions that a player with *numbers* gets."""
        wanted = _Profile.of(numbers)
        found = self._profiles.get(wanted)
        if found is None:
            found = self._profiles[wanted] = len(self._builders)
            self._builders.append((dict(numbers.extension_ids), numbers.transport_id))
        return found

    def add(self, stream: Stream, *, renumbered: bool) -> None:
        """*stream* gets every frame from now on; *renumbered*: its pictures are counted anew."""
        self._group.add(stream)
        if renumbered:
            self._renumbered.add(stream)

    def remove(self, stream: Stream) -> None:
        """It gets no more."""
        self._group.remove(stream)
        self._renumbered.discard(stream)
        if not len(self._group):  # no profile is in use
            self._profiles.clear()
            self._builders.clear()

    def send(self, frame: MediaFrame, now: float) -> None:
        """Hand *frame* to all of them; who does not take it so leaves, and gets it by itself."""
        blocks = [_block(frame, ids, transport_id) for ids, transport_id in self._builders]
        refused: list[Sender] = self._group.push(  # type: ignore[assignment]  # the owners we gave
            frame.sequence,
            frame.timestamp,
            frame.marker,
            frame.layer_end,
            frame.spatial,
            frame.temporal,
            frame.payload,
            self._numbering.places(frame.payload) if self._renumbered else NO_PLACES,
            blocks,
            now,
        )
        for sender in refused:
            sender.unfollow()  # before this one is counted
        self.packets += 1
        self.octets += len(frame.payload)
        self.last = frame, now


def _block(frame: MediaFrame, ids: dict[int, int], transport_id: int | None) -> Block:
    """The header extension of *frame* for players with these identifiers."""
    named = [(ids[kind], value) for kind, value in frame.extensions if kind in ids]
    if not named:  # nearly every video packet
        if transport_id is None:
            return b"", -1, -1
        return TRANSPORT_NUMBER_ONLY.pack(ONE_BYTE_PROFILE, 1, transport_id << 4 | 1, 0), 5, -1
    block = build_extensions(named if transport_id is None else (*named, (transport_id, _NO_NUMBER)))
    head = 2 if block[:2] == _WIDE else 1
    at, frame_at = 4, -1
    for identifier, value in named:
        if identifier == ids.get(EXTENSION_DEPENDENCY_DESCRIPTOR) and len(value) >= HEAD_BYTES:
            frame_at = at + head + FRAME_NUMBER_AT
        at += head + len(value)
    return block, -1 if transport_id is None else at + head, frame_at
