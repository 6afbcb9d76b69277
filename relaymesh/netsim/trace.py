"""A running hash over every delivery of a virtual run: two runs are the same if it is the same.

In: time, both addresses, size, and for datagrams the payload. The payload of
streams stays out: WebSocket masks and TLS draw from the operating system. Their
sizes are in it, and those of an ECDSA handshake differ by a byte or two from run
to run: a run that must be repeatable uses plain streams, or RSA certificates.
"""

from __future__ import annotations

import hashlib
from struct import Struct

from relaymesh.runtime.udp import Address

_HEAD = Struct("!dI")  # time in seconds, size in bytes on the wire


def way_name(source: Address, target: Address) -> bytes:
    """What the trace calls the way from one address to another."""
    return f"{source[0]}|{source[1]}|{target[0]}|{target[1]}|".encode()


class Trace:
    """SHA-256 over deliveries."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, when: float, way: bytes, size: int, payload: bytes = b"") -> None:
        """One packet was delivered at *when* (seconds); *size* is in bytes on the wire."""
        self._hash.update(way + _HEAD.pack(when, size) + payload)

    def sha256(self) -> str:
        """The hash so far, as 64 hexadecimal digits."""
        return self._hash.hexdigest()
