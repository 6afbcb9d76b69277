"""The gate of a node's HTTP: who may publish and play, by room tokens (ADR 0028).

In: two headers of a request, Authorization (RFC 6750) and Host, what it asks for, and for publishers the
offer. Out: an :class:`Admitted`, or :class:`~relaymesh.node.refusals.SignallingError` with a sentence and,
where a better token would help, a challenge. No part of a token is kept, told or logged.

It decides when a session begins. What comes later asks for the session's URL, which cannot be guessed
(RFC 9725 §5).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from relaymesh.access.grants import KINDS, Grants
from relaymesh.access.refusal import AccessRefused, Code
from relaymesh.access.tokens import verify_room_token
from relaymesh.node.refusals import SignallingError, sends
from relaymesh.node.room_keys import RoomKeys
from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.messages import ParticipantName
from relaymesh.runtime.settings import is_loopback
from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp import parse_offer

CREDENTIAL_BYTES = 16
CHALLENGE = 'Bearer realm="relaymesh"'
# RFC 6750 §3.1: another token may do (401), or this one is good and does not grant it (403).
FORBIDDEN: tuple[Code, ...] = ("room", "participant", "grant")
ALL_KINDS = frozenset(KINDS.values())
Refused = Code | Literal["missing", "no_keys", "not_loopback"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody whom the gate let in."""

    grants: Grants | None  # None: there are no keys, and anybody may do anything
    credential: bytes  # who has the same one is the same publisher; empty: nobody else is


class Gate:
    """Lets requests in or refuses them, and counts what it refused."""

    def __init__(
        self, keys: RoomKeys | None, *, open_rooms: bool, unix_time: Callable[[], float] = time.time
    ) -> None:
        """Without *keys*: only who names a loopback host, unless *open_rooms*."""
        self._keys = keys
        self._open_rooms = open_rooms
        self._unix_time = unix_time
        self.refused: Counter[Refused] = Counter()
        if keys is not None:
            keys.ring()  # said in the log at the start, and not when the first client comes

    @classmethod
    def of_settings(cls, settings: NodeSettings) -> Gate:
        keys = None if settings.room_keys is None else RoomKeys(settings.room_keys)
        return cls(keys, open_rooms=settings.open_rooms)

    def admit_publisher(self, authorization: str, host: str, name: ParticipantName) -> Admitted:
        """Let in who may publish as *name*.

        Raises:
            SignallingError: 401, 403, or 503 while there is no key.
        """
        try:
            grants = self._grants(authorization, host)
            if grants is None:
                return Admitted(None, credential_of(authorization))
            grants.check_publish(name.room, name.participant)
        except AccessRefused as error:
            raise self._refusal(error) from None
        # Whoever may be anybody, perhaps one of many with the same token, is nobody's successor.
        return Admitted(grants, b"" if grants.name is None else _credential_of_name(name))

    def admit_player(self, authorization: str, host: str, name: ParticipantName) -> Admitted:
        """Let in who may play what *name* publishes.

        Raises:
            SignallingError: 401, 403, or 503 while there is no key.
        """
        try:
            grants = self._grants(authorization, host)
            if grants is not None:
                grants.check_subscribe(name.room)
        except AccessRefused as error:
            raise self._refusal(error) from None
        return Admitted(grants, b"")

    def check_offer(self, admitted: Admitted, offer: str) -> None:
        """Refuse an *offer* that sends what its publisher may not.

        Raises:
            SignallingError: 400 for what is no offer; 403.
        """
        grants = admitted.grants
        if grants is None or grants.kinds == ALL_KINDS:
            return
        try:
            kinds = {section.kind for section in parse_offer(offer).media if sends(section)}
        except SdpError as error:
            raise SignallingError(400, f"this SDP offer cannot be answered: {error}") from None
        try:
            grants.check_kinds(kinds)
        except AccessRefused as error:
            raise self._refusal(error) from None

    def _grants(self, authorization: str, host: str) -> Grants | None:
        """What the bearer may do; ``None``: anything."""
        if self._keys is None:
            if not self._open_rooms and not is_loopback(_host_name(host)):
                # By a proxy on this machine, or by a page whose name leads here.
                self.refused["not_loopback"] += 1
                raise SignallingError(
                    403,
                    "this node has no room keys and serves loopback only, "
                    "and this request is for another host; see its --room-keys and --open-rooms",
                )
            return None
        token = bearer_of(authorization)
        if not token:
            self.refused["missing"] += 1
            raise SignallingError(
                401, "a room token is needed, as Authorization: Bearer TOKEN", challenge=CHALLENGE
            )
        ring = self._keys.ring()
        if ring is None:
            self.refused["no_keys"] += 1
            raise SignallingError(503, "this node cannot check tokens: its room keys cannot be read")
        return verify_room_token(ring, token, unix_time=self._unix_time())

    def _refusal(self, error: AccessRefused) -> SignallingError:
        self.refused[error.code] += 1
        status, word = (403, "insufficient_scope") if error.code in FORBIDDEN else (401, "invalid_token")
        challenge = f'{CHALLENGE}, error="{word}", error_description="{error.reason}"'
        return SignallingError(status, error.reason, challenge=challenge)


def bearer_of(authorization: str) -> str:
    """The bearer token in an Authorization header (RFC 6750 §2.1); empty without one."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _host_name(host: str) -> str:
    """The name or address in a Host header (RFC 9110 §7.2); empty where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def credential_of(authorization: str) -> bytes:
    """A digest of the bearer token in an Authorization header; empty without one.

    Where no keys say who somebody is, whoever comes with the same one is the same publisher. The token
    itself is neither kept nor logged.
    """
    token = bearer_of(authorization)
    return _digest(token, b"relaymesh-bearer") if token else b""


def _credential_of_name(name: ParticipantName) -> bytes:
    """The same for all tokens of one participant, at any node: a fresh token is the same publisher.

    It is no secret. It takes over a name only where a node with keys said it, and never equals a digest
    of a token, which has another prefix.
    """
    return _digest(f"{name.room}/{name.participant}", b"relaymesh-holder")


def _digest(text: str, purpose: bytes) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=CREDENTIAL_BYTES, person=purpose).digest()
