from __future__ import annotations

import math

import pytest

from relaymesh.protocol.frames import MediaTag
from relaymesh.protocol.layers import BACK_AFTER, FAILED_AFTER, KEPT, MAX_LAYERS, Layers

STREAMS = tuple(bytes(17) + bytes((track, 0)) for track in (1, 2, 3))  # stream headers: encoding 0 of each


def tag(
    stream: bytes, temporal: int, timestamp: int, *, part: int = 1, entry: bool = True, spatial: int = 0
) -> MediaTag:
    """A packet of class 3; by default it is all of its layer's frame."""
    layers = spatial << 3 | temporal
    return MediaTag(stream, layers, True, 0, timestamp, part == 1, part == 1, entry and part in (0, 1), False)


class Offer:
    """Three streams with two enhancement layers each: 10 pictures/s of two packets, 1,000 bytes each."""

    def __init__(self) -> None:
        self.layers = Layers()
        self.now = 0.0
        self.pictures = 0
        self.went: list[tuple[float, bytes, int, int]] = []  # when, stream, level, packet of the picture

    def run(
        self, seconds: float, rate: float, *, filled: bool = False, entries: tuple[int, ...] = (1, 2)
    ) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            for level in (1, 2):
                self.pictures += 1
                for stream in STREAMS:
                    for part in (0, 1):
                        packet = tag(stream, level, self.pictures, part=part, entry=level in entries)
                        if self.layers.offer(packet, 1000, self.now):
                            self.went.append((self.now, stream, level, part))
            self.layers.fit(rate, 10_000.0, rtt=0.05, filled=filled, now=self.now)
            filled = False

    def of_last(self, seconds: float) -> set[tuple[bytes, int]]:
        return {(s, level) for at, s, level, _ in self.went if at > self.now - seconds + 1e-9}


def test_with_room_everything_goes() -> None:
    offer = Offer()
    offer.run(3.0, math.inf)
    offer.run(3.0, 1e6)
    assert len(offer.went) == 60 * 12
    assert offer.layers.shed_now == 0


def test_the_highest_layers_of_all_streams_go_first_and_as_few_as_it_takes() -> None:
    offer = Offer()
    offer.run(2.0, math.inf)
    offer.run(2.0, 105_000.0)  # 130,000 are asked for: two layers of 20,000 are too many
    assert sorted(level for _, level in offer.of_last(1.0)) == [1, 1, 1, 2]
    offer.run(2.0, 45_000.0)
    assert sorted(level for _, level in offer.of_last(1.0)) == [1]
    offer.run(1.0, 20_000.0)
    assert offer.of_last(0.5) == set(), "the base alone takes half"


def test_whole_pictures_only() -> None:
    offer = Offer()
    offer.run(2.0, math.inf)
    offer.run(2.0, 60_000.0)
    offer.run(4.0, 1e6)
    pictures: dict[tuple[float, bytes, int], int] = {}
    for at, stream, level, _ in offer.went:
        pictures[at, stream, level] = pictures.get((at, stream, level), 0) + 1
    assert set(pictures.values()) == {2}


def test_layers_come_back_lowest_first_and_not_after_one_filled_the_path() -> None:
    offer = Offer()
    offer.run(2.0, math.inf)
    offer.run(2.0, 20_000.0)
    assert offer.of_last(1.0) == set()
    offer.run(BACK_AFTER + 0.4, 200_000.0)
    assert {level for _, level in offer.of_last(0.2)} == {1}
    before = offer.of_last(0.2)
    offer.run(0.1, 200_000.0, filled=True)
    offer.run(FAILED_AFTER - 0.3, 200_000.0)
    assert offer.of_last(0.3) <= before
    offer.run(5.0, 200_000.0)
    assert len(offer.of_last(0.2)) == 6


@pytest.mark.parametrize("entries", [(), (2,)])  # nowhere, or at pictures of the second layer only
def test_a_layer_comes_back_where_a_decoder_can_take_it_up_and_not_before_what_it_is_built_on(
    entries: tuple[int, ...],
) -> None:
    offer = Offer()
    offer.run(2.0, math.inf)
    offer.run(2.0, 20_000.0)
    offer.run(4.0, 1e6, entries=entries)
    assert offer.of_last(1.0) == set(), "a picture of the second layer is built on one of the first"
    offer.run(1.0, 1e6)
    assert len(offer.of_last(0.2)) == 6


def test_a_layer_that_is_new_to_a_short_link_waits_its_turn() -> None:
    offer = Offer()
    offer.run(2.0, math.inf)
    offer.run(2.0, 75_000.0)
    assert {level for _, level in offer.of_last(1.0)} == {1}
    stranger = bytes(17) + b"\x09\x00"
    went = [offer.layers.offer(tag(stranger, level, number), 1000, offer.now)
            for number, level in enumerate((1, 2, 1, 2, 1, 2))]  # fmt: skip
    assert went == [True, True, True, False, True, False], "and goes with the picture that it came with"


def test_a_broken_stream_wants_a_keyframe_and_has_it_once_one_goes() -> None:
    layers = Layers()
    packet = tag(STREAMS[0], 2, 1)
    assert not layers.note_broken(packet), "nothing is known of it"
    layers.offer(packet, 1000, 0.0)
    assert layers.note_broken(packet)
    assert not layers.note_broken(packet), "that is no news"
    assert layers.active and layers.wants_keyframe(packet)
    layers.offer(tag(STREAMS[0], 0, 2)._replace(enhancement=False), 1000, 0.1)
    assert layers.wants_keyframe(packet)
    layers.offer(tag(STREAMS[0], 0, 3)._replace(enhancement=False, keyframe=True), 1000, 0.2)
    assert not layers.wants_keyframe(packet)
    layers.fit(math.inf, 0.0, rtt=0.05, filled=False, now=0.3)
    assert not layers.active


@pytest.mark.parametrize("first", [1, 0xFFFFFFFE])  # timestamps wrap
def test_what_is_lost_of_pictures_before_a_keyframe_that_went_breaks_nothing(first: int) -> None:
    layers = Layers()
    before, key, after = (tag(STREAMS[0], 0, first + at & 0xFFFFFFFF) for at in range(3))
    layers.offer(tag(STREAMS[0], 2, first), 1000, 0.0)
    layers.offer(key._replace(enhancement=False, keyframe=True), 1000, 0.1)
    assert not layers.note_broken(before), "found lost late, it would ask for the keyframe once more"
    assert not layers.wants_keyframe(after)
    assert layers.note_broken(key), "part of the keyframe itself"
    layers.offer(after._replace(enhancement=False, keyframe=True), 1000, 0.2)
    assert not layers.note_broken(key)
    assert layers.note_broken(after)


def test_encodings_are_left_out_by_their_rates_whatever_their_numbers() -> None:
    """A publisher may name its encodings the highest first: then number 0 is the one to go."""
    layers, now = Layers(), 0.0
    sizes = {0: 4000, 1: 1000}  # number 2 is the lowest: its base is no enhancement, and never offered here
    went: dict[int, bool] = {}
    for picture in range(40):
        now += 0.1
        for number, size in sizes.items():
            went[number] = layers.offer(tag(bytes(18) + bytes((number,)), 0, picture), size, now)
        layers.fit(math.inf if picture < 20 else 30_000.0, 10_000.0, rtt=0.05, filled=False, now=now)
    assert went == {0: False, 1: True}


def test_the_table_is_bounded_and_forgets() -> None:
    layers = Layers()
    for number in range(MAX_LAYERS + 10):
        assert layers.offer(tag(bytes(15) + number.to_bytes(4, "big"), 1, 1), 100, 0.0)
    assert layers.debug_state()["layers"] == MAX_LAYERS
    layers.offer(tag(STREAMS[0], 1, 1), 100, KEPT + 0.1)
    layers.offer(tag(STREAMS[0], 1, 2), 100, KEPT + 0.5)
    assert layers.debug_state()["layers"] == 1
