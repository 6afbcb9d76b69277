"""Picture numbers towards a player across a change of source, on a browser's packets."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from relaymesh.node.rewrite import Rewriter
from relaymesh.protocol.frames import EXTENSION_DEPENDENCY_DESCRIPTOR as DESCRIPTOR
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.ids import TrackId
from relaymesh.webrtc.picture_ids import PictureNumbers, make_renumberer, offsets_after
from tests.webrtc.recordings import load


@dataclass
class Source:
    """The packets of one recording, kept as an encoding keeps them."""

    kept: dict[int, MediaFrame] = field(default_factory=dict)

    @property
    def highest(self) -> int | None:
        return max(self.kept, default=None)

    def recent(self, sequence: int) -> MediaFrame | None:
        return self.kept.get(sequence)


def frames(name: str, first: int, count: int = 30) -> list[MediaFrame]:
    made = []
    for place, packet in enumerate(load(name).packets[first : first + count]):
        extensions = ((2, b"\1"), (DESCRIPTOR, packet.descriptor)) if packet.descriptor else ()
        made.append(
            MediaFrame(
                TrackId(1, 2, 3), 0, 1000 + place, packet.timestamp, packet.payload, extensions=extensions
            )
        )
    return made


def numbers_of(codec: str, payload: bytes, extensions: tuple[tuple[int, bytes], ...]) -> PictureNumbers:
    found = make_renumberer(codec).numbers(payload, dict(extensions).get(DESCRIPTOR))
    assert found is not None
    return found


def play(rewriter: Rewriter, source: Source, packets: list[MediaFrame], now: float, first: bool = True):
    sent = []
    for frame in packets:
        source.kept[frame.sequence] = frame
        if first:
            rewriter.begin(source, frame, now)
            first = False
        renamed = rewriter.rename(frame, now)
        assert renamed is not None
        sent.append(renamed)
    return sent


@pytest.mark.parametrize(
    ("codec", "name"), [("VP8", "vp8-l1t3"), ("VP9", "vp9-l1t3"), ("AV1", "av1-l3t3"), ("H264", "h264-l1t3")]
)
def test_no_seam_shows_where_the_source_changes(codec, name):
    rewriter = Rewriter(clock_rate=90_000, codec_name=codec, first_sequence=5)
    before = play(rewriter, Source(), frames(name, 0), 0.0)
    rewriter.close_era()
    after = play(rewriter, Source(), frames(name, 90), 1.0)
    last, following = (numbers_of(codec, p, e) for _, _, p, e in (before[-1], after[0]))
    assert not offsets_after(last, following), "the next number of each kind follows"
    assert [out for out, *_ in before + after] == list(range(0x10005, 0x10005 + 60))
    if codec in ("AV1", "H264"):
        assert after[0][3][0] == (2, b"\1"), "other extensions stay as they are"


def test_what_was_sent_is_found_as_it_was_sent():
    rewriter = Rewriter(clock_rate=90_000, codec_name="AV1", first_sequence=0)
    play(rewriter, Source(), frames("av1-l3t3", 0), 0.0)
    rewriter.close_era()
    sent = play(rewriter, Source(), frames("av1-l3t3", 90), 1.0)
    for out, timestamp, payload, extensions in sent:
        found = rewriter.find(out & 0xFFFF)
        assert found is not None
        assert found[:4] == (out, timestamp, payload, extensions)


@pytest.mark.parametrize(
    ("codec", "name", "closed_up"),
    [("VP8", "vp8-l1t3", True), ("VP9", "vp9-l1t3", False), ("AV1", "av1-l1t3", False)],
)
def test_a_picture_left_out_is_closed_up_in_the_picture_id_of_vp8_alone(codec, name, closed_up):
    rewriter = Rewriter(clock_rate=90_000, codec_name=codec, first_sequence=0)
    packets = [f for f, kept in zip(frames(name, 0, 4), (1, 0, 1, 1), strict=True) if kept]
    source = Source()
    (first,) = play(rewriter, source, packets[:1], 0.0)
    rewriter.skip(packets[0].sequence + 1, 1, 1)
    following, *_ = play(rewriter, source, packets[1:], 0.1, first=False)
    assert following[0] == first[0] + 1
    step = offsets_after(numbers_of(codec, *first[2:]), numbers_of(codec, *following[2:]))
    gap = (-step.picture_id & 0x7FFF) + (-step.frame_number & 0xFFFF)
    assert gap == (0 if closed_up else 1)
