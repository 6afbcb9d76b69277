"""Grants: what the bearer of a room token may do, where, under which name, and when.

In: the claims of a token whose signature is good, and what somebody wants to do. Out: nothing, or
:class:`~relaymesh.access.refusal.AccessRefused`. What a token does not say, it does not grant. This module
knows neither keys nor clocks: Unix time is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from relaymesh.access.refusal import AccessRefused
from relaymesh.protocol.ids import is_name

ANY_NAME = "*"
LEEWAY = 10.0  # s; clocks of issuers and nodes may differ by so much
MAX_UNIX_TIME = 2.0**53  # s; whatever is later is no time, and JSON's numbers are exact up to here
Source = Literal["camera", "microphone", "screen", "screen-audio"]
Kind = Literal["audio", "video"]
SOURCES: tuple[Source, ...] = get_args(Source)
KINDS: dict[Source, Kind] = {
    "camera": "video",
    "microphone": "audio",
    "screen": "video",
    "screen-audio": "audio",
}
ALL_SOURCES = frozenset(SOURCES)


class _Claims(Struct):
    """Claims as they travel; those of other names are none of ours and ignored (RFC 7519 §4)."""

    room: str
    sub: str
    exp: float
    nbf: float | None = None
    join: bool = False
    publish: bool | Annotated[list[Source], Meta(max_length=len(SOURCES))] = False
    subscribe: bool = False
    data: bool = False
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Grants:
    """What one token allows."""

    room: str
    name: str | None  # of the participant; None: any
    expires_at: float  # Unix time, seconds
    not_before: float | None = None  # Unix time, seconds; None: at once
    join: bool = False  # be in the room at all; without it none of publish, subscribe and data is of use
    publish: frozenset[Source] = frozenset()
    subscribe: bool = False
    data: bool = False
    admin: bool = False  # act upon others in the room

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of media of all sources that may be published."""
        return frozenset(KINDS[source] for source in self.publish)

    def claims(self) -> dict[str, Any]:
        """The claims of a token that says this."""
        publish = True if self.publish == ALL_SOURCES else [s for s in SOURCES if s in self.publish]
        said: dict[str, Any] = {
            "join": self.join,
            "publish": publish,
            "subscribe": self.subscribe,
            "data": self.data,
            "admin": self.admin,
        }
        claims: dict[str, Any] = {
            "room": self.room,
            "sub": self.name or ANY_NAME,
            "exp": int(self.expires_at),
        }
        if self.not_before is not None:
            claims["nbf"] = int(self.not_before)
        return claims | {name: value for name, value in said.items() if value}

    def check_time(self, unix_time: float) -> None:
        """Refuse before and after the token's time, :data:`LEEWAY` aside.

        Raises:
            AccessRefused: ``expired`` or ``not_yet``.
        """
        if unix_time >= self.expires_at + LEEWAY:
            raise AccessRefused("expired", "the token has expired")
        if self.not_before is not None and unix_time < self.not_before - LEEWAY:
            raise AccessRefused("not_yet", "the token is not valid yet")

    def check_publish(self, room: str, participant: str) -> None:
        """Refuse who may not publish as *participant* in *room*.

        Raises:
            AccessRefused: ``room``, ``participant`` or ``grant``.
        """
        self._check_joins(room)
        if self.name is not None and self.name != participant:
            raise AccessRefused("participant", f"the token is for {self.name}, not for {participant}")
        if not self.publish:
            raise AccessRefused("grant", "the token does not grant publishing")

    def check_kinds(self, kinds: Iterable[str]) -> None:
        """Refuse who may not publish media of one of these *kinds* (``audio``, ``video``).

        Raises:
            AccessRefused: ``grant``.
        """
        missing = sorted(set(kinds) - self.kinds)
        if missing:
            raise AccessRefused("grant", f"the token does not grant publishing {' and '.join(missing)}")

    def check_subscribe(self, room: str) -> None:
        """Refuse who may not play what is published in *room*.

        Raises:
            AccessRefused: ``room`` or ``grant``.
        """
        self._check_joins(room)
        if not self.subscribe:
            raise AccessRefused("grant", "the token does not grant subscribing")

    def _check_joins(self, room: str) -> None:
        if self.room != room:
            raise AccessRefused("room", f"the token is for the room {self.room}, not for {room}")
        if not self.join:
            raise AccessRefused("grant", "the token does not grant joining the room")


def read_grants(claims: dict[str, Any]) -> Grants:
    """The grants that *claims* state.

    Raises:
        AccessRefused: ``malformed``, when they are missing, of other types, or name what cannot be.
    """
    try:
        read = msgspec.convert(claims, _Claims)
    except (msgspec.ValidationError, OverflowError, RecursionError):
        raise AccessRefused("malformed", "the claims of the token are missing or have wrong types") from None
    if not is_name(read.room) or not (read.sub == ANY_NAME or is_name(read.sub)):
        raise AccessRefused("malformed", "the token names no room or no participant that there can be")
    for time in (read.exp, read.nbf or 0.0):
        if not (math.isfinite(time) and abs(time) <= MAX_UNIX_TIME):
            raise AccessRefused("malformed", "the times of the token are none")
    if isinstance(read.publish, bool):
        publish = ALL_SOURCES if read.publish else frozenset()
    else:
        publish = frozenset(read.publish)
    return Grants(
        room=read.room,
        name=None if read.sub == ANY_NAME else read.sub,
        expires_at=read.exp,
        not_before=read.nbf,
        join=read.join,
        publish=publish,
        subscribe=read.subscribe,
        data=read.data,
        admin=read.admin,
    )
