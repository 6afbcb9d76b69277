"""Addresses of clients and of ours: host and port, and whether a stream (ICE-TCP) leads there.

A datagram's address is what the socket tells. That of a client at the other end of a TCP connection has
:data:`STREAM` before its host: so the two are never the same key, though numbers may coincide, and what sends
datagrams cannot take one for the other.
"""

from __future__ import annotations

Address = tuple[str, int]
"""Host and UDP port, as the socket tells them; or what :func:`stream_address` makes."""

STREAM = "tcp:"


def stream_address(host: str, port: int) -> Address:
    """The address at the other end of a TCP connection, or where we listen for some."""
    return STREAM + host, port


def is_stream(address: Address) -> bool:
    """Whether a stream leads to *address*."""
    return address[0].startswith(STREAM)


def bare(address: Address) -> tuple[str, int]:
    """Host and port alone, as they are told to others."""
    return address[0].removeprefix(STREAM), address[1]
