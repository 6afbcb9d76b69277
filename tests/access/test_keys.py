from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.access.keys import (
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_KEYS,
    KeysError,
    make_key,
    make_ring,
    read_ring,
    write_ring,
)
from tests.access.rings import ED, HS, RING, jwks, key

# RFC 8037, appendix A.1 and A.2: the pair that its signature in A.4 is made with.
RFC_8037 = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
SECRET = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
OCT = {"kty": "oct", "kid": "k", "k": SECRET}


def read(*entries: object) -> Any:
    return read_ring(json.dumps({"keys": entries}).encode())


def test_what_is_written_is_read() -> None:
    assert read_ring(write_ring(RING).encode()) == RING
    public = make_ring([ED]).public_halves()
    assert read_ring(write_ring(public).encode()) == public
    assert '"d"' not in write_ring(public)


def test_a_pair_of_the_rfc_is_read_and_its_public_half_follows() -> None:
    [found] = read({"kid": "rfc", **RFC_8037}).keys
    assert found.algorithm == "EdDSA"
    assert make_key("rfc", "EdDSA", found.private) == found
    assert found.public_half().private is None
    public_only = {name: value for name, value in RFC_8037.items() if name != "d"}
    assert read({"kid": "rfc", **public_only}).keys == (found.public_half(),)


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "e", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AA"},
        {"kty": ["oct"], "kid": "l"},
        OCT | {"kid": "enc", "use": "enc"},
        OCT | {"kid": "long", "alg": "HS512"},
        OCT | {"kid": "wrap", "key_ops": ["wrapKey"]},
        OCT | {"kid": "odd", "key_ops": [{}]},
        {},
    ],
)
def test_keys_of_other_kinds_and_uses_are_left_out(other: dict[str, object]) -> None:
    assert [k.id for k in read(other, OCT).keys] == ["k"]
    with pytest.raises(KeysError, match="there is no key"):
        read(other)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "there is no key"),
        ([OCT, OCT], "same kid"),
        ([{"kty": "oct", "k": SECRET}], "key 1 needs a kid"),
        ([OCT, OCT | {"kid": 5}], "key 2 needs a kid"),
        ([OCT | {"kid": 'a"b'}], "needs a kid"),
        ([OCT | {"k": SECRET[:-1]}], "32 to 1024 bytes"),
        ([OCT | {"k": "A" * 2000}], "32 to 1024 bytes"),
        ([OCT | {"k": SECRET + "!"}], "k is not base64url"),
        ([OCT | {"k": "ü" * 43}], "k is not base64url"),
        ([OCT | {"k": None}], "k is not base64url"),
        ([{"kid": "e", **RFC_8037, "x": "AAAA"}], "32 bytes"),
        ([{"kid": "e", **RFC_8037, "d": "AAAA"}], "32 bytes"),
        ([{"kid": "e", **RFC_8037, "d": SECRET}], "do not belong together"),
        ([OCT | {"kid": f"k{n}"} for n in range(MAX_KEYS + 1)], "at most 16 keys"),
        ([{}] * (MAX_ENTRIES + 1), "at most 64 entries"),
    ],
)
def test_what_cannot_be_used_is_said_without_the_key(entries: list[object], said: str) -> None:
    with pytest.raises(KeysError, match=said) as caught:
        read(*entries)
    assert SECRET[:8] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b"[" * 100_000,
        b"\xff",
        b" " * (MAX_BYTES + 1),
    ],
)
def test_what_is_no_set_is_said(text: bytes) -> None:
    with pytest.raises(KeysError):
        read_ring(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
MEMBER = (
    st.sampled_from(["oct", "OKP", "Ed25519", "sig", "HS256", "EdDSA", SECRET, RFC_8037["x"], "k"]) | JSON
)
ENTRY = st.dictionaries(
    st.sampled_from(["kty", "crv", "kid", "k", "x", "d", "alg", "use", "key_ops"]), MEMBER, max_size=9
)


@given(
    st.binary(max_size=200)
    | st.lists(ENTRY | JSON, max_size=4).map(lambda e: json.dumps({"keys": e}).encode())
)
def test_whatever_the_bytes_a_ring_or_the_one_error_comes_out(text: bytes) -> None:
    try:
        ring = read_ring(text)
    except KeysError:
        return
    assert all(key.id and (key.public or key.private) for key in ring.keys)


def test_the_first_key_that_can_signs_unless_one_is_named() -> None:
    ring = make_ring([ED.public_half(), HS, key("other")])
    assert ring.signing() is HS
    assert ring.signing("other").id == "other"
    with pytest.raises(KeysError, match="no key 'x'; there are ed, hs, other"):
        ring.signing("x")
    with pytest.raises(KeysError, match="only the public half"):
        ring.signing("ed")
    with pytest.raises(KeysError, match="public halves"):
        make_ring([ED]).public_halves().signing()


def test_a_secret_has_no_public_half() -> None:
    with pytest.raises(KeysError, match="the key hs is for HS256"):
        RING.public_halves()


def test_a_key_is_shown_nowhere() -> None:
    assert HS.private is not None and ED.private is not None
    shown = repr(RING)
    assert str(HS.private)[2:-1] not in shown and str(ED.private)[2:-1] not in shown


@pytest.mark.parametrize(
    ("key_id", "secret"), [("a b", bytes(32)), ("", bytes(32)), ("k", bytes(31)), ("k", b"")]
)
def test_no_key_is_made_of_less(key_id: str, secret: bytes) -> None:
    for algorithm in ("HS256", "EdDSA"):
        with pytest.raises(KeysError):
            make_key(key_id, algorithm, secret)  # type: ignore[arg-type]


def test_sets_are_what_other_libraries_read() -> None:
    import jwt

    read_by_pyjwt = jwt.PyJWKSet.from_json(jwks(HS, ED).decode())
    assert [k.key_id for k in read_by_pyjwt.keys] == ["hs", "ed"]
