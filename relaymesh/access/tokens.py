"""Room tokens: what a client shows so that it may publish or play.

In: a ring of keys, and grants or a token. Out: a token, or its grants, or
:class:`~relaymesh.access.refusal.AccessRefused`. A token is a JWT (RFC 7519) signed with HS256 or EdDSA; its
claims are

    aud  always "relaymesh/room"
    sub  the participant's name, or "*" for any
    room  the room's name
    exp  Unix time in seconds after which nothing begins any more; nbf optional: before which nothing does
    join, subscribe, data, admin  true, where they are granted
    publish  true for all, or a list of "camera", "microphone", "screen", "screen-audio"

This module knows no clock: the Unix time is given. A token is looked at when a session begins, never again:
one that expires ends nothing.
"""

from __future__ import annotations

from typing import Any

import jwt

from relaymesh.access.grants import Grants, read_grants
from relaymesh.access.keys import KeyRing, KeysError, RoomKey
from relaymesh.access.refusal import AccessRefused

ROOM_AUDIENCE = "relaymesh/room"
MAX_TOKEN_BYTES = 4096  # far above what the claims take, far below what a header may have
_DECODE_OPTIONS: Any = {
    "require": ["aud", "sub", "exp"],
    # PyJWT would ask the wall clock for these; grants check the first two, the third is not ours.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
# Beyond its own errors PyJWT lets through what base64 and json raise on hostile text.
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, RecursionError)


def make_room_token(key: RoomKey, grants: Grants) -> str:
    """A token that says *grants*, signed by *key*.

    Raises:
        KeysError: the key is a public half.
    """
    signer = key.signer
    if signer is None:
        raise KeysError(f"of the key {key.id} only the public half is here, which cannot sign")
    claims = {"aud": ROOM_AUDIENCE, **grants.claims()}
    token = jwt.encode(claims, signer, algorithm=key.algorithm, headers={"kid": key.id})
    assert len(token) <= MAX_TOKEN_BYTES, "names are short"
    return token


def verify_room_token(ring: KeyRing, token: str, *, unix_time: float) -> Grants:
    """The grants of *token*, if a key of *ring* signed it and it holds at *unix_time* (seconds).

    Raises:
        AccessRefused: for whatever text, with one of the codes before ``room``.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise AccessRefused("malformed", f"a token has at most {MAX_TOKEN_BYTES} bytes")
    grants = read_grants(_signed_claims(_candidates(ring, token), token))
    grants.check_time(unix_time)
    return grants


def _candidates(ring: KeyRing, token: str) -> tuple[RoomKey, ...]:
    """The keys that may have signed *token*, by its header; nothing in it is true yet.

    A key is never used with another algorithm than its own: the public half of a pair is no secret
    that HS256 could take (RFC 8725 §2.1), and "none" has no key.
    """
    try:
        header = jwt.get_unverified_header(token)
    except _UNREADABLE:
        raise AccessRefused("malformed", "the token cannot be read") from None
    if "crit" in header:  # RFC 7515 §4.1.11: there is no extension that we understand
        raise AccessRefused("malformed", "the token demands an extension that is not known here")
    algorithm, key_id = header.get("alg"), header.get("kid")
    keys = ring.of(algorithm) if isinstance(algorithm, str) else ()
    if key_id is not None:
        keys = tuple(key for key in keys if key.id == key_id)
    if not keys:
        raise AccessRefused("unknown_key", "the token was signed by a key that is not known here")
    return keys


def _signed_claims(keys: tuple[RoomKey, ...], token: str) -> dict[str, Any]:
    """The claims of *token*, signed by one of *keys*."""
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.verifier,
                algorithms=[key.algorithm],
                audience=ROOM_AUDIENCE,
                options=_DECODE_OPTIONS,
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidAudienceError:
            raise AccessRefused("audience", "this token is not for rooms") from None
        except _UNREADABLE:
            raise AccessRefused("malformed", "the token cannot be read") from None
        return claims
    raise AccessRefused("signature", "the signature of the token is wrong")
