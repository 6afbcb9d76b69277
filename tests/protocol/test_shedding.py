"""A short link leaves out spatial layers and higher simulcast encodings: whole, told, and back in order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.protocol import frames
from relaymesh.protocol.acks import DELAY_UNKNOWN, Ack
from relaymesh.protocol.congestion import RateControl
from relaymesh.protocol.contexts import SentContexts
from relaymesh.protocol.fragments import fragmented
from relaymesh.protocol.frames import MediaFrame, SkipFrame
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.outflow import Outflow
from relaymesh.protocol.recovery import Sender
from relaymesh.protocol.repair import Adaptive

SIMULCAST, SVC, BOTH = TrackId(1, 2, 0), TrackId(1, 2, 1), TrackId(1, 2, 2)
PER_SECOND = 20
SIZE = 1000  # bytes of payload of each packet; two for each layer's frame
LAYER = 2 * (SIZE + 68) * PER_SECOND  # bytes/s, with headers and datagram
Which = tuple[TrackId, int, int]  # track, encoding, spatial layer
Entries = frozenset[Which]
NONE: Entries = frozenset()
ALL = {(SIMULCAST, 0, 0), (SIMULCAST, 1, 0), (SIMULCAST, 2, 0), (SVC, 0, 0), (SVC, 0, 1), (SVC, 0, 2)}
MIDDLE = {(SIMULCAST, 1, 0), (SVC, 0, 1)}
HIGHEST = {(SIMULCAST, 2, 0), (SVC, 0, 2)}


class GivenRate(RateControl):
    """The rate is what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.given = math.inf

    def handle_ack(self, **told: object) -> bool:
        self.rate = self.given
        return False

    @property
    def limited(self) -> bool:
        return self.rate != math.inf


class Publisher:
    """By default a track of three encodings, one of three spatial layers; and what leaves by a link."""

    def __init__(self, layers: set[Which] = ALL) -> None:
        self.layers = layers
        self.outflow = Outflow(Sender(Adaptive()), SentContexts().wholes)
        self.outflow.rate = self.rate = GivenRate()
        self.now = 0.0
        self.pictures = 0
        self.offered: list[tuple[int, MediaFrame]] = []  # with the number of its picture
        self.went: list[MediaFrame] = []
        self.skips: list[SkipFrame] = []
        self._sequences: dict[tuple[TrackId, int], int] = {}

    def _frames(self, keyframe: bool, entries: Entries) -> Iterator[MediaFrame]:
        for track, encoding, spatial in sorted(self.layers):
            last = (track, encoding, spatial + 1) not in self.layers
            for part in (0, 1):
                sequence = self._sequences.get((track, encoding), 0xFFFFFFF0)  # they wrap soon
                self._sequences[track, encoding] = (sequence + 1) & 0xFFFFFFFF
                yield MediaFrame(
                    track, encoding, sequence, self.pictures, bytes(SIZE),
                    keyframe=keyframe and part == 0, marker=last and part == 1,
                    priority=3 if encoding or spatial else 2, spatial=spatial,
                    hop_limit=16, generation=1, destinations=2,
                    entry=part == 0 and (track, encoding, spatial) in entries,
                    layer_start=part == 0, layer_end=part == 1,
                )  # fmt: skip

    def run(self, seconds: float, rate: float, *, keyframes: bool = False, entries: Entries = NONE) -> None:
        """*keyframes*: the last picture of each second is one; *entries*: can be taken up anywhere."""
        self.rate.given = rate
        for _ in range(round(seconds * PER_SECOND)):
            self.pictures += 1
            self.now += 1 / PER_SECOND
            for media in self._frames(keyframes and self.pictures % PER_SECOND == 0, entries):
                self.offered.append((self.pictures, media))
                frame = frames.encode_media(media)
                if (admitted := self.outflow.admit(frame, frames.priority_of(frame), self.now)) is not None:
                    self._take(admitted)
            for step in range(20):
                while (waited := self.outflow.pop(self.now + step / (20 * PER_SECOND))) is not None:
                    self._take(waited[0])
            ack = Ack(0, 1, (1,), DELAY_UNKNOWN, 0)
            self.outflow.handle_ack(ack, self.now)

    def _take(self, frame: bytes) -> None:
        self.outflow.note_sent(1, frame, frames.priority_of(frame), len(frame) + 28, self.now)
        assert frames.is_routed_alone(frame)
        if frame[0] == frames.MEDIA:
            self.went.append(frames.decode_media(frame, 3))
        else:
            self.skips.append(frames.decode_skip(frame[3:]))

    def going(self, seconds: float) -> set[Which]:
        """What went in the last *seconds*."""
        since = self.pictures - seconds * PER_SECOND
        return {which(media) for media in self.went if media.timestamp > since}


def which(media: MediaFrame) -> Which:
    return media.track_id, media.encoding, media.spatial


def test_with_room_all_goes() -> None:
    publisher = Publisher()
    publisher.run(2, math.inf)
    publisher.run(2, 10 * LAYER)
    assert len(publisher.went) == 4 * PER_SECOND * len(ALL) * 2
    assert publisher.skips == []


def test_the_highest_encodings_and_spatial_layers_go_first_and_the_base_never() -> None:
    publisher = Publisher()
    publisher.run(2, math.inf)
    publisher.run(3, 4.4 * LAYER)
    assert publisher.going(1) == ALL - HIGHEST
    publisher.run(3, 2.4 * LAYER)
    assert publisher.going(1) == ALL - HIGHEST - MIDDLE
    publisher.run(3, 1.5 * LAYER)
    assert publisher.going(1) == ALL - HIGHEST - MIDDLE


def test_a_little_too_little_costs_one_of_the_highest_only() -> None:
    publisher = Publisher()
    publisher.run(2, math.inf)
    publisher.run(3, 5.4 * LAYER)
    assert len(publisher.going(1)) == 5
    assert publisher.going(1) > ALL - HIGHEST


def test_layers_go_out_and_come_back_whole_and_are_told() -> None:
    publisher = Publisher()
    for rate in (math.inf, 4.4 * LAYER, 2.4 * LAYER, 5.4 * LAYER, math.inf):
        publisher.run(4, rate, keyframes=True)
    assert publisher.going(1) == ALL
    went = {(media.track_id, media.encoding, media.sequence) for media in publisher.went}
    parts: dict[tuple[Which, int], int] = {}
    missing: dict[tuple[TrackId, int], set[int]] = {
        (SIMULCAST, 1): set(),
        (SIMULCAST, 2): set(),
        (SVC, 0): set(),
    }
    for picture, media in publisher.offered:
        there = (media.track_id, media.encoding, media.sequence) in went
        parts[which(media), picture] = parts.get((which(media), picture), 0) + there
        if not there:
            missing[media.track_id, media.encoding].add(media.sequence)
    assert set(parts.values()) == {0, 2}, "no frame of a layer goes in part"
    for (track, encoding), sequences in missing.items():
        told = [skip for skip in publisher.skips if (skip.track_id, skip.encoding) == (track, encoding)]
        covered = [(skip.first + i) & 0xFFFFFFFF for skip in told for i in range(skip.packets)]
        assert sorted(covered) == sorted(sequences), "each is told once, and nothing else"
        pictures = len(sequences) // 2 if track == SIMULCAST else 0
        assert sum(skip.pictures for skip in told) == pictures, "a picture without its upper layers goes on"


def test_layers_come_back_at_a_keyframe_only() -> None:
    publisher = Publisher()
    publisher.run(2, math.inf)
    publisher.run(2, 2.4 * LAYER)
    publisher.run(2, math.inf)
    assert publisher.going(1) == ALL - HIGHEST - MIDDLE
    publisher.run(1, math.inf, keyframes=True)
    assert publisher.going(1 / PER_SECOND) == ALL


def test_a_spatial_layer_does_not_come_back_before_what_it_is_built_on() -> None:
    publisher = Publisher()
    publisher.run(2, math.inf)
    publisher.run(2, 2.4 * LAYER)
    publisher.run(2, math.inf, entries=frozenset({(SVC, 0, 2), (SIMULCAST, 2, 0)}))
    assert publisher.going(1) == ALL - MIDDLE - {(SVC, 0, 2)}, "encodings are not built on each other"
    publisher.run(1, math.inf, entries=frozenset({(SVC, 0, 1), (SVC, 0, 2)}))
    assert publisher.going(0.5) == ALL - MIDDLE - {(SVC, 0, 2)}, "the picture below ended without it"
    publisher.run(1, math.inf, keyframes=True)
    assert publisher.going(1 / PER_SECOND) == ALL


def test_of_equally_high_layers_of_one_encoding_the_upper_goes_first() -> None:
    layers = {(BOTH, encoding, spatial) for encoding in (0, 2) for spatial in (0, 1)}
    publisher = Publisher(layers)
    publisher.run(2, math.inf)
    publisher.run(2, 3.4 * LAYER)
    assert publisher.going(1) == layers - {(BOTH, 2, 1)}
    publisher.run(2, 2.4 * LAYER)
    assert publisher.going(1) == {(BOTH, 0, 0), (BOTH, 0, 1)}
    publisher.run(4, 3.4 * LAYER, keyframes=True)
    assert publisher.going(1 / PER_SECOND) == layers - {(BOTH, 2, 1)}


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((2.2, 2.6, 3.4, 4.4, 5.4, 7.0, math.inf)), st.integers(1, 30), st.booleans()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_picture_ends_with_the_last_packet_that_goes_of_it(
    turns: list[tuple[float, int, bool]],
) -> None:
    """A decoder waits for the marker, and for a keyframe to begin an upper layer with."""
    publisher = Publisher()
    publisher.run(1, math.inf)
    for layers, ticks, keyframes in turns:
        publisher.run(ticks / PER_SECOND, layers * LAYER, keyframes=keyframes)
    publisher.run(1, math.inf)  # what waits goes
    came = sorted((m for m in publisher.went if m.track_id == SVC), key=lambda m: (m.timestamp, m.spatial))
    keyframes_at = {media.timestamp for _, media in publisher.offered if media.keyframe}
    top_before = 2
    for timestamp, packets in groupby(came, key=lambda media: media.timestamp):
        picture = list(packets)
        assert [media.marker for media in picture] == [False] * (len(picture) - 1) + [True]
        assert {media.spatial for media in picture} == set(range(len(picture) // 2))
        top = picture[-1].spatial
        assert top <= top_before or timestamp in keyframes_at, "an upper layer begins with a keyframe"
        top_before = top


def test_what_is_left_out_is_told_once_for_all_that_follows_and_before_what_goes() -> None:
    publisher = Publisher({(SVC, 0, spatial) for spatial in range(3)})
    publisher.run(2, math.inf)
    publisher.run(2, 1.5 * LAYER)
    publisher.skips.clear()
    publisher.run(1, 1.5 * LAYER)
    assert [(skip.packets, skip.pictures) for skip in publisher.skips] == [(4, 0)] * PER_SECOND


def test_a_keyframe_is_asked_for_when_a_spatial_layer_may_come_back() -> None:
    publisher = Publisher({(SVC, 0, spatial) for spatial in range(3)})
    publisher.run(2, math.inf)
    publisher.run(2, 1.5 * LAYER)
    assert not any(skip.keyframe for skip in publisher.skips)
    assert publisher.outflow.take_wanting() == []
    publisher.run(1, math.inf)
    assert publisher.skips[-1].keyframe
    assert [frames.read_stream(stream) for stream in publisher.outflow.take_wanting()] == [(SVC, 0)]
    publisher.run(1, math.inf, keyframes=True)
    publisher.skips.clear()
    publisher.run(1, math.inf)
    assert publisher.skips == [], "all is back"


@pytest.mark.parametrize("size", [SIZE, 1400])  # the longer one crosses in two fragments
@pytest.mark.parametrize("limited", [False, True])
def test_what_a_short_link_gives_up_asks_for_a_keyframe_and_what_a_lossy_one_does_not(
    size: int, limited: bool
) -> None:
    sender = Sender(Adaptive())
    outflow = Outflow(sender, SentContexts().wholes)
    outflow.rate = rate = GivenRate()
    frame = frames.encode_media(
        MediaFrame(SVC, 0, 1, 1, bytes(size), priority=3, spatial=1, generation=1, destinations=2)
    )
    assert outflow.admit(frame, frames.priority_of(frame), 0.0) == frame
    for number, half in enumerate(fragmented(frame) if size > SIZE else (frame, frame), 1):
        outflow.note_sent(number, half, frames.priority_of(half), len(half) + 28, 0.0)
    rate.given = 1e6 if limited else math.inf
    ack = Ack(0, 1, (0, 1, 1), DELAY_UNKNOWN, 0)
    sender.handle_ack(ack, 0, 2, 2 * SIZE, 1.5)  # too late to send it again
    assert sender.given_up == 1
    outflow.handle_ack(ack, 1.5)
    told = [frames.read_stream(stream) for stream in outflow.take_wanting()]
    assert told == ([(SVC, 0)] if limited else [])


@pytest.mark.parametrize(("priority", "first"), [(0, "new"), (1, "again"), (2, "again")])
def test_a_lost_picture_goes_again_before_those_that_are_built_on_it(priority: int, first: str) -> None:
    sender = Sender(Adaptive())
    outflow = Outflow(sender, SentContexts().wholes)
    outflow.rate = rate = GivenRate()
    media = [
        frames.encode_media(
            MediaFrame(SVC, 0, at, at, bytes(SIZE), priority=priority, generation=1, destinations=2)
        )
        for at in range(12)
    ]
    for number in (1, 2):
        assert outflow.admit(media[number], priority, 0.0) == media[number]
        outflow.note_sent(number, media[number], priority, SIZE + 28, 0.0)
    rate.given = 100_000.0
    lost = Ack(0, 1, (0, 1, 1), DELAY_UNKNOWN, 0)
    sender.handle_ack(lost, 0, 2, 2 * SIZE, 0.05)
    outflow.handle_ack(lost, 0.05)
    for number in range(3, 12):
        if outflow.admit(media[number], priority, 0.05) is not None:
            outflow.note_sent(number, media[number], priority, SIZE + 28, 0.05)
    assert outflow.poll(0.05) == []
    waited = outflow.pop(0.1)
    assert waited is not None
    assert ("again" if waited[1] == 1 else "new") == first


@pytest.mark.parametrize("priority", [0, 3])
@pytest.mark.parametrize("cut", [1, 5, 9])
def test_media_too_short_to_be_told_of_is_dropped_like_any_other(priority: int, cut: int) -> None:
    """A neighbour with keys may send it; what waits too long or is given up here must not end this node."""
    outflow = Publisher().outflow
    outflow.rate = rate = GivenRate()
    rate.given = 10_000.0
    outflow.handle_ack(Ack(0, 1, (1,), DELAY_UNKNOWN, 0), 0.0)
    whole = frames.encode_media(
        MediaFrame(SVC, 0, 1, 0, b"media", priority=priority, hop_limit=9, generation=1, destinations=2)
    )
    head = len(whole) - len(b"media") - 11  # flags, layers, sequence, timestamp and extensions follow
    short = whole[: head + cut]
    for i in range(500):
        frame = outflow.admit(short, frames.priority_of(short), i * 0.001)
        if frame is not None:
            outflow.note_sent(i, frame, frames.priority_of(frame), len(frame), i * 0.001)
    while outflow.pop(100.0) is not None:  # long after: what still waits is too old
        pass
    assert outflow.take_wanting() == []
