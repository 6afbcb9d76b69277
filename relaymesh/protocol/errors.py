"""The error of bytes or messages that came from a peer.

One error type for every decoder of this package: whatever the bytes were, a
caller catches :class:`ProtocolError` and counts its ``reason``. A broken
invariant of our own is an ``assert`` with its reason, never one of these.
"""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "malformed",  # bytes that are not of the form the specification gives
    "truncated",  # shorter than their own lengths say
    "oversized",  # longer than a datagram, frame or message may be
    "version",  # a version of the protocol this build does not speak
    "unknown_sender",  # no link to the sender index in the header
    "unknown_key",  # no key of that epoch
    "unauthentic",  # the seal does not open
    "replayed",  # the packet number was seen, or is older than the window
    "misconduct",  # the link is held down for what the peer did
    "invalid",  # well-formed, but a value is out of its range
]


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow; nothing was changed by it.

    ``reason`` is a short stable word, fit as a counter's label.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail
