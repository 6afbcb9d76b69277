import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reedsolo import RSCodec

from relaymesh.protocol import fec
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fec import BlockBuilder, BlockDecoder, Repair, decode_repair, encode_repair

sources_lists = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=12)


@given(st.integers(1, 20), st.integers(1, 10), st.binary(min_size=20, max_size=20))
def test_the_code_is_that_of_reedsolo(sources: int, repairs: int, column: bytes) -> None:
    """One byte of each source is a message of reedsolo, the same byte of each repair its check bytes."""
    message = column[:sources]
    rows = fec.generator_rows(sources, repairs)
    checks = b"".join(fec.gf256.combine(row, [bytes([b]) for b in message], 1) for row in rows)
    assert bytes(RSCodec(repairs, fcr=0, prim=0x11D, generator=2).encode(message)) == message + checks


@settings(deadline=None)
@given(sources_lists, st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_k_of_k_and_m_packets_give_all_sources(
    sources: list[bytes], repairs: int, rng: random.Random
) -> None:
    count = len(sources)
    encoded = fec.encode_block(9, tuple(range(5, 5 + count)), sources, repairs)
    came = rng.sample(range(count + repairs), count)
    known = {j: sources[j] for j in came if j < count}
    symbols = {j - count: decode_repair(encoded[j - count][3:]).symbol for j in came if j >= count}
    if symbols:
        known |= fec.recover(known, symbols, count, repairs)
    assert [known[j] for j in range(count)] == sources


@given(
    st.integers(0, 255),
    st.lists(st.integers(1, 200), min_size=1, max_size=fec.MAX_SOURCES),
    st.integers(1, fec.MAX_REPAIRS),
    st.data(),
    st.binary(min_size=3, max_size=50),
)
def test_a_repair_comes_back_as_it_was(
    epoch: int, distances: list[int], repairs: int, data: st.DataObject, symbol: bytes
) -> None:
    numbers = tuple(sum(distances[: i + 1]) for i in range(len(distances)))
    repair = Repair(epoch, numbers, repairs, data.draw(st.integers(0, repairs - 1)), symbol)
    assert decode_repair(encode_repair(repair)[3:]) == repair


@given(st.binary(max_size=80))
def test_whatever_the_bytes_only_a_protocol_error(body: bytes) -> None:
    try:
        repair = decode_repair(body)
    except ProtocolError:
        return
    assert encode_repair(repair)[3:] == body


@pytest.mark.parametrize(
    ("numbers", "repairs", "index", "symbol"),
    [
        ((), 1, 0, b"\0\1x"),
        ((1, 1), 1, 0, b"\0\1x"),
        ((1, 2), 0, 0, b"\0\1x"),
        ((1, 2), 2, 2, b"\0\1x"),
        ((1, 9000), 1, 0, b"\0\1x"),
        ((1, 2), 1, 0, b"\0\1"),
        (tuple(range(33)), 1, 0, b"\0\1x"),
        ((1, 2), 33, 0, b"\0\1x"),
    ],
)
def test_blocks_that_cannot_be_are_not_encoded(
    numbers: tuple[int, ...], repairs: int, index: int, symbol: bytes
) -> None:
    with pytest.raises(ValueError):
        encode_repair(Repair(1, numbers, repairs, index, symbol))


def test_the_longest_source_fits_a_datagram() -> None:
    longest = [bytes(fec.MAX_SOURCE_BYTES)] * fec.MAX_SOURCES
    (frame,) = fec.encode_block(1, tuple(range(fec.MAX_SOURCES)), longest, 1)
    assert len(frame) == fec.MAX_PLAINTEXT_BYTES


def test_a_block_closes_by_the_earliest_wish_and_is_taken_once() -> None:
    block = BlockBuilder()
    block.add(1, b"one", 2.0)
    block.add(4, b"four", 1.5)
    block.add(5, b"five", 3.0)
    assert block.close_at == 1.5
    assert not block.fits(5)
    assert not block.fits(1 + fec.MAX_SPAN + 1)
    assert not block.fits(1 << 32)
    assert block.take() == ([1, 4, 5], [b"one", b"four", b"five"])
    assert block.take() == ([], [])
    assert block.close_at is None


# --- the receiver's blocks ----------------------------------------------------------------------------


class Shelf:
    """What a receiver has and lacks."""

    def __init__(self, have: dict[int, bytes], lack: set[int]) -> None:
        self.have, self.lack = have, lack
        self.decoder = BlockDecoder(have.get, lack.__contains__)

    def add(self, frame: bytes, now: float = 0.0) -> dict[int, bytes]:
        repair = decode_repair(frame[3:])
        return self.decoder.add(repair.numbers, repair, now)


def test_a_block_waits_until_enough_of_it_is_there() -> None:
    sources = [b"one", b"two two", b"three"]
    first, second = fec.encode_block(1, (1, 2, 3), sources, 2)
    shelf = Shelf({1: b"one"}, {2, 3})
    assert shelf.add(first) == {}
    assert shelf.add(first) == {}, "the same again is nothing new"
    assert shelf.add(second) == {2: b"two two", 3: b"three"}
    assert shelf.decoder.open == 0


def test_a_source_that_comes_late_solves_the_rest() -> None:
    sources = [b"one", b"two two", b"three"]
    (only,) = fec.encode_block(1, (1, 2, 3), sources, 1)
    shelf = Shelf({1: b"one"}, {2, 3})
    assert shelf.add(only) == {}
    shelf.have[2] = b"two two"
    assert shelf.decoder.retry(2) == {3: b"three"}
    assert shelf.decoder.retry(2) == {}


def test_a_block_nothing_is_missing_of_is_not_kept() -> None:
    (only,) = fec.encode_block(1, (1, 2), [b"a", b"b"], 1)
    shelf = Shelf({1: b"a", 2: b"b"}, set())
    assert shelf.add(only) == {}
    assert shelf.decoder.open == 0


def test_open_blocks_are_bounded_in_number_and_time() -> None:
    shelf = Shelf({}, set(range(10_000)))
    for i in range(3 * fec.MAX_OPEN_BLOCKS):
        shelf.add(encode_repair(Repair(1, (2 * i, 2 * i + 1), 1, 0, b"\0\1x")))
    assert shelf.decoder.open == fec.MAX_OPEN_BLOCKS
    shelf.add(encode_repair(Repair(1, (9000, 9001), 1, 0, b"\0\1x")), now=fec.BLOCK_KEPT)
    assert shelf.decoder.open == 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True),
            st.integers(1, 3),
            st.binary(min_size=3, max_size=20),
        ),
        max_size=12,
    )
)
def test_blocks_that_contradict_themselves_give_nothing_or_something_but_no_error(
    hostile: list[tuple[list[int], int, bytes]],
) -> None:
    shelf = Shelf({n: bytes(n) for n in range(1, 8)}, {0, 8, 9, 10, 11, 12})
    for numbers, repairs, symbol in hostile:
        for index in range(repairs):
            repair = Repair(1, tuple(sorted(numbers)), repairs, index, symbol)
            for packet_id, source in shelf.add(encode_repair(repair)).items():
                assert packet_id in numbers
                assert isinstance(source, bytes)
    assert shelf.decoder.open <= len(hostile)
