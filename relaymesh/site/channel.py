"""What a site's supervisor and a worker say to each other: JSON, a line each, over the worker's pipes.

    supervisor → worker   one Order on its standard input, which then stays open for as long as it is to run
    worker → supervisor   a Report now and then on its standard output

Secrets travel here, and so on no command line. What cannot be read is
:class:`ChannelError`, whatever the bytes. This module knows no pipe.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from relaymesh.node.settings import NodeSettings

MAX_LINE_BYTES = 1 << 20
Message = TypeVar("Message", "Order", "Report")


class ChannelError(ValueError):
    """A line that is none of these messages."""


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """All a worker is told, once, before it does anything."""

    settings: dict[str, object]  # of NodeSettings, its own
    site: str
    number: int  # from 1
    workers: int
    http_path: str  # where it is to listen for the router

    def __repr__(self) -> str:  # the token never reaches a log
        return f"Order(site={self.site!r}, number={self.number})"

    def node_settings(self) -> NodeSettings:
        """The settings, checked again.

        Raises:
            ValueError: they do not fit.
        """
        return NodeSettings.model_validate(self.settings)


class Report(Struct, frozen=True, forbid_unknown_fields=True):
    """How a worker fares; its first one says that it runs."""

    sessions: int
    connected: bool  # to a controller
    media: str  # HOST:PORT its sockets are bound to
    relay: str


def make_order(settings: NodeSettings, *, site: str, number: int, workers: int, http_path: str) -> Order:
    """The order for one worker with *settings* of its own."""
    plain = settings.model_dump(mode="json") | {"token": settings.token.get_secret_value()}
    return Order(plain, site, number, workers, http_path)


def encode(message: Order | Report) -> bytes:
    """*message* as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_order(line: bytes) -> Order:
    """The order in *line*.

    Raises:
        ChannelError: it is none.
    """
    return _decode(line, Order)


def decode_report(line: bytes) -> Report:
    """The report in *line*.

    Raises:
        ChannelError: it is none.
    """
    return _decode(line, Report)


def _decode(line: bytes, kind: type[Message]) -> Message:
    if len(line) > MAX_LINE_BYTES:
        raise ChannelError("a line that is too long")
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The line itself may hold a token: only where it went wrong is told.
        raise ChannelError(f"not a line of a site's channel ({type(error).__name__})") from None
