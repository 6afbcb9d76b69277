from __future__ import annotations

import math

from relaymesh.protocol.layers import BACK_AFTER, FAILED_AFTER, KEPT, MAX_LAYERS, Layers

STREAMS = (b"one", b"two", b"three")


class Offer:
    """Three streams with two enhancement layers each: 10 pictures/s of two packets, 1,000 bytes each."""

    def __init__(self) -> None:
        self.layers = Layers()
        self.now = 0.0
        self.went: list[tuple[float, bytes, int, int]] = []  # when, stream, level, packet of the picture

    def run(self, seconds: float, rate: float, *, filled: bool = False, entry: bool = True) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            for stream in STREAMS:
                for level in (1, 2):
                    for part in (0, 1):
                        key = stream + bytes([level])
                        if self.layers.offer(
                            key, level, 1000, end=part == 1, entry=entry and part == 0, now=self.now
                        ):
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


def test_a_layer_comes_back_where_a_decoder_can_take_it_up() -> None:
    offer = Offer()
    offer.run(2.0, math.inf)
    offer.run(2.0, 20_000.0)
    offer.run(4.0, 1e6, entry=False)
    assert offer.of_last(1.0) == set()
    offer.run(1.0, 1e6)
    assert len(offer.of_last(0.2)) == 6


def test_the_table_is_bounded_and_forgets() -> None:
    layers = Layers()
    for number in range(MAX_LAYERS + 10):
        assert layers.offer(number.to_bytes(4, "big"), 1, 100, end=True, entry=True, now=0.0)
    assert layers.debug_state()["layers"] == MAX_LAYERS
    layers.offer(b"new", 1, 100, end=True, entry=True, now=KEPT + 0.1)
    layers.offer(b"new", 1, 100, end=True, entry=True, now=KEPT + 0.5)
    assert layers.debug_state()["layers"] == 1
