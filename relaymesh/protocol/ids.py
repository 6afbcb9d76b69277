"""Names on the control channel, numbers on the wire.

People name rooms and participants; datagrams carry 64-bit numbers made from
the names, so that every node derives the same number without asking anybody.
The numbers are not secret and not an access check.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_NAME = re.compile(NAME_PATTERN)


class ParticipantId(NamedTuple):
    """A participant of a room; also names its publication."""

    room: int  # u64, from the room's name
    participant: int  # u64, from the participant's name


class TrackId(NamedTuple):
    """One track of a publication."""

    room: int
    participant: int
    track: int  # u16, given by the ingress node, stable for the session

    @property
    def owner(self) -> ParticipantId:
        return ParticipantId(self.room, self.participant)


def is_name(text: str) -> bool:
    """Tell whether *text* may name a node, region, room or participant."""
    return _NAME.fullmatch(text) is not None  # match() would let a newline pass at the end


def name_hash(text: str) -> int:
    """The u64 by which *text* travels: the first 8 bytes of BLAKE2b, big-endian.

    At a million names the chance of any collision is below 10⁻⁷ (birthday bound).
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def participant_id(room: str, participant: str) -> ParticipantId:
    """The wire identity of *participant* in *room*."""
    return ParticipantId(name_hash(room), name_hash(participant))
