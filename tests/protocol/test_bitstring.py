import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.bitstring import MAX_INDEX, decode_set, encode_set, members, set_of

indices = st.sets(st.integers(0, MAX_INDEX), max_size=40)


@given(indices)
def test_a_set_survives_the_wire_in_minimal_length(chosen: set[int]) -> None:
    data = encode_set(set_of(chosen))
    assert set(members(decode_set(data))) == chosen
    assert len(data) == (max(chosen) // 8 + 1 if chosen else 0)


@given(st.binary(max_size=255))
def test_every_byte_string_is_a_set(data: bytes) -> None:
    assert encode_set(decode_set(data)) == data.rstrip(b"\0")


def test_bit_i_sits_in_byte_i_over_8() -> None:
    assert encode_set(set_of([0, 9])) == b"\x01\x02"
    assert encode_set(0) == b""


def test_members_come_rising() -> None:
    assert members(0b1010_0001) == [0, 5, 7]


@pytest.mark.parametrize("bits", [-1, 1 << (MAX_INDEX + 1)])
def test_what_is_no_set_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="no node set"):
        encode_set(bits)
