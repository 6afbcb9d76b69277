"""Redundant audio (RFC 2198): packets that repeat the audio of those before them.

In: a RED payload. Out: its newest block alone, for players without RED, or the
payload with its blocks under another payload type, for players that number
theirs differently. A payload alone is RED too, with one block.
"""

from __future__ import annotations

from collections.abc import Callable

from relaymesh.webrtc.errors import RtpError

#  |F| block PT (7) | timestamp offset (14) | block length (10) |   while F is set: a repeated block
#  |0| block PT (7) |                                              the newest block, the rest of the packet
MAX_BLOCKS = 32
NAME = "red"  # of the format, in lower case


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


def alone(payload: bytes, payload_type: int) -> bytes:
    """*payload* of *payload_type* as RED that repeats nothing."""
    return bytes((payload_type,)) + payload


def converter(sent: str, taken: str, block_type: int | None) -> Callable[[bytes], bytes] | None:
    """What turns payloads of the format *sent* into those of *taken*; ``None``: they are the same.

    Formats by name, RED or what its blocks are in; *block_type*: the payload type of *taken*'s blocks,
    where it is RED. The function raises :class:`RtpError` for a payload that is not RED though *sent* is.
    """
    from_red, to_red = sent.lower() == NAME, taken.lower() == NAME
    if not to_red:
        return primary if from_red else None
    assert block_type is not None, "who takes RED has a number for its blocks"
    if from_red:
        return lambda payload: with_block_type(payload, block_type)
    return lambda payload: alone(payload, block_type)


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
