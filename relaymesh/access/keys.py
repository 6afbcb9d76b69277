"""The keys that room tokens are signed and checked with: a ring, read from a JWK set.

In: the text of a JWK set (RFC 7517), or random bytes for a fresh key. Out: a :class:`KeyRing`, or
:class:`KeysError`; and JWK sets as text. Two kinds of key are understood:

    {"kty": "oct", "kid", "k"}  HS256: the same secret signs and checks (RFC 7518 §6.4)
    {"kty": "OKP", "crv": "Ed25519", "kid", "x"}  EdDSA: "x" checks; "d", if there, signs (RFC 8037 §2)

The algorithm follows from the kind of key and from nothing that a token says (RFC 8725 §3.1). Keys of other
kinds and uses are left out, as RFC 7517 §5 asks. Several keys are what a rotation is made of. This module
knows no files.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relaymesh.protocol.ids import NAME_PATTERN, is_name

Algorithm = Literal["HS256", "EdDSA"]
MAX_KEYS = 16  # understood ones; so many signatures are checked at most for a token that names no key
MAX_ENTRIES = 64  # of a set, those left out among them
MAX_BYTES = 64 << 10  # of a set
SECRET_BYTES = 32  # RFC 7518 §3.2: an HS256 key is at least as long as the hash
MAX_SECRET_BYTES = 1024
ED25519_BYTES = 32  # RFC 8032 §5.1.5, of either half


class KeysError(ValueError):
    """The operator's fault: no set of keys that could be used; the text says why, and holds no key."""


@dataclass(frozen=True, slots=True)
class RoomKey:
    """One key: a secret, or one or both halves of a pair."""

    id: str
    algorithm: Algorithm
    public: bytes | None  # EdDSA only; 32 bytes
    private: bytes | None = field(repr=False)  # what signs; the secret itself for HS256

    @property
    def verifier(self) -> bytes | Ed25519PublicKey:
        """What checks a signature."""
        if self.public is not None:
            return Ed25519PublicKey.from_public_bytes(self.public)
        assert self.private is not None, "a key without a public half is a secret"
        return self.private

    @property
    def signer(self) -> bytes | Ed25519PrivateKey | None:
        """What makes a signature; ``None`` where only the public half is there."""
        if self.public is None or self.private is None:
            return self.private
        return Ed25519PrivateKey.from_private_bytes(self.private)

    def public_half(self) -> RoomKey:
        """The key without what signs.

        Raises:
            KeysError: it is one secret, which has no halves.
        """
        if self.public is None:
            raise KeysError(
                f"the key {self.id} is for HS256: the same secret signs and checks, none is public"
            )
        return RoomKey(self.id, self.algorithm, self.public, None)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys in the order of their set, none twice; at least one."""

    keys: tuple[RoomKey, ...]

    def only(self, key_ids: Collection[str]) -> KeyRing:
        """The keys of these ids, one at least, in the ring's order.

        Raises:
            KeysError: one of them is not here.
        """
        known = [key.id for key in self.keys]
        missing = [key_id for key_id in key_ids if key_id not in known]
        if missing:
            raise KeysError(f"there is no key {missing[0]!r}; there are {', '.join(known)}")
        return KeyRing(tuple(key for key in self.keys if key.id in key_ids))

    def of(self, algorithm: str) -> tuple[RoomKey, ...]:
        """All keys of one algorithm; none for a name that is no algorithm here."""
        return tuple(key for key in self.keys if key.algorithm == algorithm)

    def signing(self, key_id: str | None = None) -> RoomKey:
        """The key to sign with: that of *key_id*, or the first that can.

        Raises:
            KeysError: there is none.
        """
        if key_id is None:
            able = next((key for key in self.keys if key.private is not None), None)
            if able is None:
                raise KeysError("these are public halves: what signs is not among them")
            return able
        [found] = self.only([key_id]).keys
        if found.private is None:
            raise KeysError(f"of the key {key_id} only the public half is here, which cannot sign")
        return found

    def public_halves(self) -> KeyRing:
        """The ring without what signs.

        Raises:
            KeysError: a key has no public half.
        """
        return KeyRing(tuple(key.public_half() for key in self.keys))


def make_key(key_id: str, algorithm: Algorithm, secret: bytes) -> RoomKey:
    """The key that is made of *secret*, 32 random bytes for either algorithm.

    Raises:
        KeysError: the id or the length is none.
    """
    if not is_name(key_id):
        raise KeysError(f"{key_id!r} cannot name a key: it must match {NAME_PATTERN}")
    if algorithm == "HS256":
        return _check_secret(RoomKey(key_id, algorithm, None, secret))
    if len(secret) != ED25519_BYTES:
        raise KeysError(f"an Ed25519 key is made of {ED25519_BYTES} bytes")
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return RoomKey(key_id, algorithm, public, secret)


def make_ring(keys: Iterable[RoomKey]) -> KeyRing:
    """*keys* as a ring.

    Raises:
        KeysError: none, too many, or two of one id.
    """
    ring = KeyRing(tuple(keys))
    ids = [key.id for key in ring.keys]
    if not ids:
        raise KeysError("there is no key for HS256 (oct) or EdDSA (OKP, Ed25519) in it")
    if len(ids) > MAX_KEYS:
        raise KeysError(f"at most {MAX_KEYS} keys are taken, these are {len(ids)}")
    if len(set(ids)) < len(ids):
        raise KeysError("two keys have the same kid")
    return ring


def read_ring(text: bytes) -> KeyRing:
    """The ring in *text*, a JWK set in JSON.

    Raises:
        KeysError: whatever the bytes, if they hold no such ring.
    """
    if len(text) > MAX_BYTES:
        raise KeysError(f"a JWK set has at most {MAX_BYTES} bytes")
    try:
        entries = msgspec.json.decode(text, type=dict[str, object]).get("keys")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entries = None  # where it went wrong could show a part of a key
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise KeysError('this is no JWK set: it looks like {"keys": [{"kty": …, "kid": …}]}')
    if len(entries) > MAX_ENTRIES:
        raise KeysError(f"at most {MAX_ENTRIES} entries are read, these are {len(entries)}")
    read = (_read_key(entry, place) for place, entry in enumerate(entries, start=1))
    return make_ring(key for key in read if key is not None)


def write_ring(ring: KeyRing) -> str:
    """*ring* as a JWK set; with all that signs, where that is there."""
    return msgspec.json.format(msgspec.json.encode({"keys": [_entry(key) for key in ring.keys]})).decode()


def _entry(key: RoomKey) -> dict[str, str]:
    said = {"kid": key.id, "alg": key.algorithm, "use": "sig"}
    if key.public is None:
        assert key.private is not None, "a key without a public half is a secret"
        return {"kty": "oct", **said, "k": _text(key.private)}
    halves = {"x": _text(key.public)} | ({} if key.private is None else {"d": _text(key.private)})
    return {"kty": "OKP", "crv": "Ed25519", **said, **halves}


def _read_key(entry: dict[str, object], place: int) -> RoomKey | None:
    """One key; ``None`` for what is of another kind or use. *place* counts from 1."""
    algorithm = _algorithm(entry)
    operations = entry.get("key_ops", ["verify"])
    if algorithm is None or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or not {"sign", "verify"} & {o for o in operations if type(o) is str}:
        return None
    key_id = entry.get("kid")
    if not isinstance(key_id, str) or not is_name(key_id):
        raise KeysError(f"key {place} needs a kid that matches {NAME_PATTERN}")
    if algorithm == "HS256":
        return _check_secret(RoomKey(key_id, algorithm, None, _bytes(entry, "k", key_id)))
    public = _bytes(entry, "x", key_id)
    private = _bytes(entry, "d", key_id) if "d" in entry else None
    if len(public) != ED25519_BYTES or (private is not None and len(private) != ED25519_BYTES):
        raise KeysError(f"the key {key_id}: each half of an Ed25519 key has {ED25519_BYTES} bytes")
    if private is not None and make_key(key_id, algorithm, private).public != public:
        raise KeysError(f"the key {key_id}: its two halves do not belong together")
    return RoomKey(key_id, algorithm, public, private)


def _algorithm(entry: dict[str, object]) -> Algorithm | None:
    if entry.get("kty") == "oct":
        return "HS256"
    return "EdDSA" if (entry.get("kty"), entry.get("crv")) == ("OKP", "Ed25519") else None


def _check_secret(key: RoomKey) -> RoomKey:
    assert key.private is not None, "it is a secret"
    if not SECRET_BYTES <= len(key.private) <= MAX_SECRET_BYTES:
        raise KeysError(
            f"the key {key.id}: a secret for HS256 has {SECRET_BYTES} to {MAX_SECRET_BYTES} bytes"
        )
    return key


def _bytes(entry: dict[str, object], member: str, key_id: str) -> bytes:
    text = entry.get(member)
    try:
        if not isinstance(text, str):
            raise ValueError
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise KeysError(f"the key {key_id}: {member} is not base64url") from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
