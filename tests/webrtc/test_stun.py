"""STUN against RFC 5769, against an independent implementation, and against hostile bytes."""

import json
import struct
from pathlib import Path

import pytest
from aioice import stun as oracle
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import StunError
from relaymesh.webrtc.stun import (
    binding_response,
    build_binding_request,
    parse_binding_request,
    parse_binding_response,
    verify,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "rfc5769.json").read_text())
PASSWORD = VECTORS["password"]
REQUEST = bytes.fromhex(VECTORS["request"])
TRANSACTION = bytes.fromhex(VECTORS["transaction_id"])


def request_bytes(**changes: object) -> bytes:
    arguments = {"username": "ours:theirs", "password": "p" * 22, "transaction_id": bytes(range(12))}
    return build_binding_request(**(arguments | changes))


def with_length(data: bytes) -> bytes:
    return data[:2] + struct.pack("!H", len(data) - 20) + data[4:]


def test_request_of_the_rfc():
    request = parse_binding_request(REQUEST)
    assert request.username == VECTORS["username"]
    assert request.local_ufrag == "evtj"
    assert request.transaction_id == TRANSACTION
    assert not request.use_candidate
    assert verify(request, PASSWORD)
    assert not verify(request, PASSWORD + "x")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_responses_of_the_rfc(family):
    vector = bytes.fromhex(VECTORS[f"response_{family}"])
    address = tuple(VECTORS[f"address_{family}"])
    response = parse_binding_response(vector, PASSWORD)
    assert (response.transaction_id, response.address) == (TRANSACTION, address)
    # Ours has no SOFTWARE attribute, but the very same XOR-MAPPED-ADDRESS.
    ours = binding_response(parse_binding_request(REQUEST), PASSWORD, address)
    attribute = vector[36 : 36 + (12 if family == "ipv4" else 24)]
    assert ours[20 : 20 + len(attribute)] == attribute
    assert parse_binding_response(ours, PASSWORD) == response


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (("::ffff:192.0.2.7", 5000), ("192.0.2.7", 5000)),
        (("fe80::1%eth0", 5000), ("fe80::1", 5000)),
        (("2001:db8::9", 65535), ("2001:db8::9", 65535)),
    ],
)
def test_addresses_as_sockets_spell_them(seen, told):
    response = binding_response(parse_binding_request(REQUEST), PASSWORD, seen)
    assert parse_binding_response(response, PASSWORD).address == told


def test_an_independent_implementation_reads_ours_and_we_read_its():
    request = parse_binding_request(request_bytes(use_candidate=True))
    theirs = oracle.parse_message(request.data)
    assert theirs.check_message_integrity(b"p" * 22)
    assert theirs.attributes["USERNAME"] == "ours:theirs"
    assert "USE-CANDIDATE" in theirs.attributes
    reply = oracle.parse_message(binding_response(request, "p" * 22, ("198.51.100.4", 9)))
    assert reply.attributes["XOR-MAPPED-ADDRESS"] == ("198.51.100.4", 9)
    assert reply.check_message_integrity(b"p" * 22)

    message = oracle.Message(oracle.Method.BINDING, oracle.Class.REQUEST)
    message.attributes["USERNAME"] = "a:b"
    message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(b"secret")
    ours = parse_binding_request(bytes(message))
    assert ours.use_candidate and ours.username == "a:b" and verify(ours, "secret")


@given(
    username=st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
    password=st.text(st.characters(codec="utf-8"), max_size=60),
    transaction_id=st.binary(min_size=12, max_size=12),
    use_candidate=st.booleans(),
)
def test_round_trip(username, password, transaction_id, use_candidate):
    data = build_binding_request(
        username=username, password=password, transaction_id=transaction_id, use_candidate=use_candidate
    )
    request = parse_binding_request(data)
    assert request.username == username
    assert request.transaction_id == transaction_id
    assert request.use_candidate == use_candidate
    assert verify(request, password)
    assert not verify(request, password + "!")


def test_what_follows_the_integrity_is_not_believed():
    # Drop the fingerprint (8 bytes) and add USE-CANDIDATE, as one on the path could.
    forged = with_length(request_bytes()[:-8] + struct.pack("!HH", 0x0025, 0))
    request = parse_binding_request(forged)
    assert verify(request, "p" * 22)
    assert not request.use_candidate


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        REQUEST + b"\0\0\0\0",
        b"\x01\x01" + REQUEST[2:],  # a response
        b"\x00\x11" + REQUEST[2:],  # an indication
        b"\x00\x03" + REQUEST[2:],  # another method
        REQUEST[:4] + b"\0\0\0\0" + REQUEST[8:],  # no cookie
        REQUEST[:-1] + b"\0",  # wrong fingerprint
        with_length(REQUEST[:-8] + b"\x80\x28\x00\x08" + bytes(8)),  # fingerprint of 8 bytes
        with_length(request_bytes()[:-32]),  # no integrity
        with_length(request_bytes()[:20] + request_bytes()[36:-8]),  # no username
        request_bytes(username="u" * 509),
        with_length(request_bytes()[:-8] + bytes(1480)),
    ],
)
def test_refused(data):
    with pytest.raises(StunError):
        parse_binding_request(data)


def test_a_missing_fingerprint_is_accepted():
    assert verify(parse_binding_request(with_length(request_bytes()[:-8])), "p" * 22)


def test_a_response_needs_the_right_password():
    with pytest.raises(StunError):
        parse_binding_response(bytes.fromhex(VECTORS["response_ipv4"]), "wrong")


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    def change(edits: list[tuple[int, int]], cut: int) -> bytes:
        copy = bytearray(data)
        for at, value in edits:
            copy[at] = value
        return bytes(copy[: len(copy) - cut])

    edit = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))
    return st.builds(change, st.lists(edit, max_size=4), st.integers(0, len(data)) | st.just(0))


@given(st.binary(max_size=200) | mutated(REQUEST) | mutated(with_length(request_bytes()[:-8])))
def test_no_bytes_escape_the_request_decoder(data):
    try:
        request = parse_binding_request(data)
    except StunError:
        return
    if data not in (REQUEST, with_length(request_bytes()[:-8])):
        covered = data[4 : request.integrity_at + 24]
        genuine = any(
            covered == original[4 : len(covered) + 4]
            for original in (REQUEST, with_length(request_bytes()[:-8]))
        )
        assert genuine or not (verify(request, PASSWORD) or verify(request, "p" * 22))


@given(st.binary(max_size=200) | mutated(bytes.fromhex(VECTORS["response_ipv6"])))
def test_no_bytes_escape_the_response_decoder(data):
    try:
        assert parse_binding_response(data, PASSWORD).transaction_id == TRANSACTION
    except StunError:
        pass
