"""Join tokens: the first stage of a join. Who may come in, under which name, from which region.

In: the join secret, a token and what the node says of itself. Out: the claims,
or :class:`~relaymesh.controller.refusal.JoinRefused`. A token is a JWT
(RFC 7519) signed with HS256; its claims are

    aud  always "relaymesh/join"
    sub  the node's name, or its site's, or "*" for any
    region  optional: the only region the node may say it is in
    exp  optional: Unix time in seconds after which no new join is accepted

This module knows no clock: the Unix time is given. A token is looked at when a
node joins, never again, so an expired one does not end a running node.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from relaymesh.controller.refusal import JoinRefused

JOIN_AUDIENCE = "relaymesh/join"
ANY_NAME = "*"
ALGORITHM = "HS256"
SECRET_BYTES = 32  # RFC 7518 §3.2: an HS256 key is at least as long as the hash
_DECODE_OPTIONS: Any = {
    "require": ["aud", "sub"],
    # PyJWT would ask the wall clock for these; exp is checked below, the others are not issued.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class SecretTooShort(ValueError):
    """The operator's fault: a join secret that could be guessed."""


@dataclass(frozen=True, slots=True)
class JoinClaims:
    """Claims of a token."""

    name: str | None  # None: any name
    region: str | None  # None: any region
    expires_at: float | None  # Unix time, seconds; None: never


def new_join_secret(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A fresh join secret, as text."""
    return random_bytes(SECRET_BYTES).hex()


def check_join_secret(secret: str) -> str:
    """*secret*, if it is long enough to sign with.

    Raises:
        SecretTooShort: it is shorter than :data:`SECRET_BYTES` bytes.
    """
    if len(secret.encode()) < SECRET_BYTES:
        raise SecretTooShort(
            f"a join secret has at least {SECRET_BYTES} bytes; `relaymesh token secret` makes one"
        )
    return secret


def make_join_token(
    secret: str, *, name: str = ANY_NAME, region: str | None = None, expires_at: float | None = None
) -> str:
    """A token for the node *name* (``"*"``: any), until *expires_at* (Unix time in seconds; None: for ever).

    Raises:
        SecretTooShort: *secret* is too short.
    """
    claims: dict[str, Any] = {"aud": JOIN_AUDIENCE, "sub": name}
    if region is not None:
        claims["region"] = region
    if expires_at is not None:
        claims["exp"] = int(expires_at)
    return jwt.encode(claims, check_join_secret(secret), algorithm=ALGORITHM)


def verify_join_token(
    secret: str, token: str, *, name: str, region: str, unix_time: float, site: str | None = None
) -> JoinClaims:
    """The claims of *token*, if it lets the node *name* of *region* in at *unix_time* (seconds).

    One for the name of its *site* lets a worker in, too, if its name is one of that site's.

    Raises:
        JoinRefused: code ``token``, with the reason.
    """
    claims = _read(secret, token)
    if claims.expires_at is not None and unix_time >= claims.expires_at:
        raise JoinRefused("token", "the join token has expired")
    is_worker = site is not None and claims.name == site and name.startswith(f"{site}.")
    if claims.name is not None and claims.name != name and not is_worker:
        raise JoinRefused("token", f"the join token is for the node {claims.name!r}, not {name!r}")
    if claims.region is not None and claims.region != region:
        raise JoinRefused("token", f"the join token is for the region {claims.region!r}, not {region!r}")
    return claims


def _read(secret: str, token: str) -> JoinClaims:
    try:
        claims = jwt.decode(
            token, secret, algorithms=[ALGORITHM], audience=JOIN_AUDIENCE, options=_DECODE_OPTIONS
        )
    except jwt.InvalidSignatureError:
        raise JoinRefused("token", "the join token was signed with another secret") from None
    except jwt.InvalidAudienceError:
        raise JoinRefused("token", "this token is not a join token") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        # Beyond its own errors PyJWT lets through what base64 and json raise on hostile text.
        raise JoinRefused("token", "the join token cannot be read") from None
    name, region, expires_at = claims["sub"], claims.get("region"), claims.get("exp")
    if not isinstance(name, str) or not (region is None or isinstance(region, str)):
        raise JoinRefused("token", "the join token's claims have wrong types")
    if expires_at is not None:
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
            raise JoinRefused("token", "the join token's claims have wrong types")
        if not math.isfinite(expires_at):
            raise JoinRefused("token", "the join token's claims have wrong types")
    return JoinClaims(None if name == ANY_NAME else name, region, expires_at)
