"""Keys for tests, the same each time."""

from __future__ import annotations

from typing import Any

from relaymesh.access.grants import ALL_SOURCES, Grants
from relaymesh.access.keys import Algorithm, KeyRing, RoomKey, make_key, make_ring, write_ring
from relaymesh.access.tokens import make_room_token

NOW = 1_800_000_000.0  # Unix time


def key(key_id: str, algorithm: Algorithm = "HS256") -> RoomKey:
    return make_key(key_id, algorithm, key_id.encode().ljust(32, b"."))


def jwks(*keys: RoomKey) -> bytes:
    return write_ring(make_ring(keys)).encode()


HS, ED = key("hs"), key("ed", "EdDSA")
RING: KeyRing = make_ring([HS, ED])


def everything(**other: Any) -> Grants:
    """All that can be granted to alice in demo for an hour, but for what is said otherwise."""
    said: dict[str, Any] = {
        "room": "demo",
        "name": "alice",
        "expires_at": NOW + 3600,
        "publish": ALL_SOURCES,
        **dict.fromkeys(("join", "subscribe", "data", "admin"), True),
    }
    return Grants(**said | other)


def token(signed_by: RoomKey = HS, **other: Any) -> str:
    return make_room_token(signed_by, everything(**other))
