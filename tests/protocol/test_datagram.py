import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import datagram as sealed
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.keyring import SHORT_WITHIN, Key, KeyRing
from tests.sealing import seal, unseal

KEY = bytes(range(16))


def read_and_open(data: bytes) -> bytes:
    sealed.read_header(data)
    return unseal(KEY, data)


@given(
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, sealed.MAX_NUMBER),
    st.binary(max_size=sealed.MAX_PLAINTEXT_BYTES),
)
def test_round_trip(epoch: int, sender: int, number: int, plaintext: bytes) -> None:
    datagram = seal(KEY, epoch, sender, number, plaintext)
    assert sealed.read_header(datagram) == (epoch, sender, number, False)
    assert unseal(KEY, datagram) == plaintext
    assert len(datagram) == len(plaintext) + 24
    datagram = seal(KEY, epoch, sender, number, plaintext, short=True)
    assert sealed.read_header(datagram) == (epoch, sender, number & 0xFFFF, True)
    assert unseal(KEY, datagram, number) == plaintext
    assert len(datagram) == len(plaintext) + 22


@given(st.integers(0, sealed.MAX_NUMBER), st.integers(-SHORT_WITHIN, SHORT_WITHIN))
def test_a_short_number_is_told_near_the_highest_seen(highest: int, ahead: int) -> None:
    key = Key(1, KEY, bytes(16), 1)
    if highest:
        key.window.mark(highest)
    number = highest + ahead
    assert key.expand(number & 0xFFFF) == max(0, number) or number < 0


@given(st.integers(0, 3 * SHORT_WITHIN), st.integers(0, 3 * SHORT_WITHIN))
def test_a_header_is_short_only_while_the_peer_has_seen_enough(sent: int, acked: int) -> None:
    ring = KeyRing(1)
    ring.install(1, KEY, bytes(16), 0.0)
    key = ring.held()[0]
    key.sent, key.acked = sent, min(acked, sent)
    (_, header, _), _, size = ring.assign(b"x", 0.0)
    assert size == (23 if header[0] & 15 == sealed.TYPE_SHORT else 25)
    assert (header[0] & 15 == sealed.TYPE_SHORT) == (sent + 1 - key.acked <= SHORT_WITHIN)


def test_a_key_whose_numbers_are_used_up_seals_no_more() -> None:
    ring = KeyRing(1)
    ring.install(1, KEY, bytes(16), 0.0)
    ring.held()[0].sent = sealed.MAX_NUMBER
    with pytest.raises(ProtocolError, match="unknown_key"):
        ring.assign(b"x", 0.0)


@given(st.binary(max_size=60))
def test_random_bytes_raise_protocol_error_only(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_and_open(data)


@given(st.integers(0, 99), st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, change: int) -> None:
    good = seal(KEY, 1, 2, 3, bytes(76))
    bad = good[:at] + bytes([good[at] ^ change]) + good[at + 1 :]
    with pytest.raises(ProtocolError):
        read_and_open(bad)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x22" + bytes(20), "truncated"),
        (b"\x21" + bytes(22), "truncated"),
        (b"\x11" + bytes(27), "version"),
        (b"\x20" + bytes(27), "malformed"),
        (b"\x23" + bytes(27), "malformed"),
        (b"\x22" + bytes(1452), "oversized"),
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
