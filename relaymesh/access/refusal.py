"""Why a token does not open a door: the one error of this package's way from a token to a yes."""

from __future__ import annotations

from typing import Literal, get_args

Code = Literal[
    "malformed",  # no JWT of ours: too long, not three parts, claims of other types
    "unknown_key",  # signed by no key of the ring, or by one that it does not name
    "signature",  # forged, or changed on the way
    "audience",  # for another purpose, a join token for instance
    "expired",
    "not_yet",
    "room",  # for another room
    "participant",  # for another participant
    "grant",  # good, but does not say that it may do this
]
CODES: tuple[Code, ...] = get_args(Code)


class AccessRefused(Exception):
    """The bearer's fault: ``code`` is for counters, ``reason`` for people, ASCII without quotation marks.

    Neither holds any part of a token that no key of ours has signed.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code: Code = code
        self.reason = reason
