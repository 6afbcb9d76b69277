import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import datagram as sealed
from relaymesh.protocol.errors import ProtocolError
from tests.sealing import seal, unseal

KEY = bytes(range(16))


def read_and_open(data: bytes) -> bytes:
    sealed.read_header(data)
    return unseal(KEY, data)


@given(
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=sealed.MAX_PLAINTEXT_BYTES),
)
def test_round_trip(epoch: int, sender: int, number: int, plaintext: bytes) -> None:
    datagram = seal(KEY, epoch, sender, number, plaintext)
    assert sealed.read_header(datagram) == (epoch, sender, number)
    assert unseal(KEY, datagram) == plaintext
    assert len(datagram) == len(plaintext) + 28


@given(st.binary(max_size=60))
def test_random_bytes_raise_protocol_error_only(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_and_open(data)


@given(st.integers(0, 99), st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, change: int) -> None:
    good = seal(KEY, 1, 2, 3, bytes(72))
    bad = good[:at] + bytes([good[at] ^ change]) + good[at + 1 :]
    with pytest.raises(ProtocolError):
        read_and_open(bad)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x11" + bytes(26), "truncated"),
        (b"\x21" + bytes(27), "version"),
        (b"\x12" + bytes(27), "malformed"),
        (b"\x11" + bytes(1452), "oversized"),
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        sealed.read_header(data)
    assert caught.value.reason == reason


def test_more_than_a_datagram_is_not_sealed() -> None:
    assert len(seal(KEY, 0, 0, 1, bytes(sealed.MAX_PLAINTEXT_BYTES))) == sealed.MAX_DATAGRAM_BYTES
    with pytest.raises(ProtocolError) as caught:
        seal(KEY, 0, 0, 1, bytes(sealed.MAX_PLAINTEXT_BYTES + 1))
    assert caught.value.reason == "oversized"
