"""A short link leaves out spatial layers and higher simulcast encodings: whole, told, and back in order."""

from __future__ import annotations

import math
from collections.abc import Iterator

from relaymesh.protocol import frames
from relaymesh.protocol.acks import DELAY_UNKNOWN, Ack
from relaymesh.protocol.congestion import RateControl
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
        self.outflow = Outflow(Sender(Adaptive()))
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
                if self.outflow.passes(frame, self.now):
                    self._take(frame)
            for step in range(20):
                while (waited := self.outflow.pop(self.now + step / (20 * PER_SECOND))) is not None:
                    self._take(waited[0])
            ack = Ack(0, 1, (1,), DELAY_UNKNOWN, 0)
            self.outflow.handle_ack(ack, self.now)

    def _take(self, frame: bytes) -> None:
        self.outflow.note_sent(1, frame, len(frame) + 28, self.now)
        ((kind, body),) = frames.split_frames(frame)
        if kind == frames.MEDIA:
            self.went.append(frames.decode_media(body))
        else:
            self.skips.append(frames.decode_skip(body))

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
    assert publisher.going(0.5) == ALL - {(SIMULCAST, 1, 0)}


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
