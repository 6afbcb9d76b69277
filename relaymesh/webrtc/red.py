"""Redundant audio (RFC 2198): packets that repeat the audio of those before them.

In: a RED payload. Out: its newest block alone, for players without RED, or the
payload with its blocks under another payload type, for players that number
theirs differently.
"""

from __future__ import annotations

from relaymesh.webrtc.errors import RtpError

#  |F| block PT (7) | timestamp offset (14) | block length (10) |   while F is set: a repeated block
#  |0| block PT (7) |                                              the newest block, the rest of the packet
MAX_BLOCKS = 32


def primary(payload: bytes) -> bytes:
    """The newest block of *payload*.

    Raises:
        RtpError: as :func:`_headers`.
    """
    headers, lengths = _headers(payload)
    start = headers[-1] + 1 + sum(lengths)
    if start > len(payload):
        raise RtpError("a RED block does not fit")
    return payload[start:]


def with_block_type(payload: bytes, payload_type: int) -> bytes:
    """*payload* with all of its blocks named *payload_type*; its length stays.

    Raises:
        RtpError: as :func:`_headers`.
    """
    changed = bytearray(payload)
    for at in _headers(payload)[0]:
        changed[at] = changed[at] & 0x80 | payload_type
    return bytes(changed)


def _headers(payload: bytes) -> tuple[list[int], list[int]]:
    """Where each block's header begins, and the lengths of those that are repeated.

    Raises:
        RtpError: truncated, or more than ``MAX_BLOCKS``.
    """
    headers: list[int] = []
    lengths: list[int] = []
    at = 0
    while at < len(payload) and len(headers) < MAX_BLOCKS:
        headers.append(at)
        if not payload[at] & 0x80:
            return headers, lengths
        if at + 4 > len(payload):
            break
        lengths.append((payload[at + 2] & 0x03) << 8 | payload[at + 3])
        at += 4
    raise RtpError("a RED payload ends inside its headers, or has too many blocks")
