"""Packets on a byte stream (RFC 4571), as ICE-TCP has them (RFC 6544 §4): two bytes of length before each.

In: bytes as they come, from anybody. Out: packets. Knows no sockets.
"""

from __future__ import annotations

from .errors import FramingError

MAX_PACKET_BYTES = 2048  # longer than any datagram that a client sends
_LENGTH = 2


def frame(packet: bytes) -> bytes:
    """*packet* as it goes on a stream; at most 65,535 bytes."""
    return len(packet).to_bytes(_LENGTH) + packet


class Deframer:
    """Takes a stream apart. Keeps less than one packet."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole with *data*; empty ones, which say nothing, are left out.

        Raises:
            FramingError: one is longer than :data:`MAX_PACKET_BYTES`. Close the stream.
        """
        data = self._left + data
        packets = []
        at = 0
        while len(data) - at >= _LENGTH:
            size = int.from_bytes(data[at : at + _LENGTH])
            if size > MAX_PACKET_BYTES:
                raise FramingError(f"a packet of {size} bytes on a stream")
            if len(data) - at - _LENGTH < size:
                break
            at += _LENGTH
            if size:
                packets.append(data[at : at + size])
            at += size
        self._left = data[at:]
        return packets
