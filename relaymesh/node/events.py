"""What a node's core tells its ring, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SubscribeAnswered:
    """The controller answered our :class:`~relaymesh.protocol.messages.Subscribe`."""

    request: int
    found: bool


@dataclass(frozen=True, slots=True)
class PublishAnswered:
    """The controller answered our :class:`~relaymesh.protocol.messages.Publish`."""

    request: int
    reason: str  # empty = accepted


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link came up or went down."""

    peer: str
    up: bool


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over."""

    session: str
    role: str
    room: str
    participant: str
    reason: str


CoreEvent = SubscribeAnswered | PublishAnswered | LinkChanged | SessionEnded
