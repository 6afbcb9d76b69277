"""The senders that follow one encoding: each new packet goes on to them as it is, but for its numbers.

In: frames in order, senders with the offsets of their era. Out: rows in the node's fan-out; the senders that
cannot take a frame so, which see to it themselves. Nearly all of a room's packets go
this way, so nothing here is done once per sender and packet: that is the kernel's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relaymesh.kernels.fan_out_reference import FanOut, Stream
from relaymesh.node.egress_rows import TRANSPORT_NUMBER_ONLY, EgressNumbers
from relaymesh.protocol.frames import MediaFrame
from relaymesh.webrtc.rtp import ONE_BYTE_PROFILE, TWO_BYTE_PROFILE, build_extensions

if TYPE_CHECKING:
    from relaymesh.node.egress import Sender

Block = tuple[bytes, int]  # header extension, and where in it the transport-wide number goes; −1: nowhere
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


class Followers:
    """The streams of one encoding that follow it, and what was sent to them."""

    def __init__(self, fan_out: FanOut) -> None:
        self.packets = self.octets = 0  # handed to every stream that was here
        self.last: tuple[MediaFrame, float] | None = None  # the newest of them, and when
        self._group = fan_out.group()
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

    def add(self, stream: Stream) -> None:
        """*stream* gets every frame from now on."""
        self._group.add(stream)

    def remove(self, stream: Stream) -> None:
        """It gets no more."""
        self._group.remove(stream)
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
    if transport_id is None:
        return build_extensions(named), -1
    if not named:  # nearly every video packet
        return TRANSPORT_NUMBER_ONLY.pack(ONE_BYTE_PROFILE, 1, transport_id << 4 | 1, 0), 5
    block = build_extensions((*named, (transport_id, _NO_NUMBER)))
    head = 2 if block[:2] == _WIDE else 1
    return block, 4 + sum(head + len(value) for _, value in named) + head
