"""The sealed datagram: a clear header of 12 bytes, then AES-128-GCM over the frames.

In: a key, header fields and plaintext; out: datagram bytes, and back. This
module holds no state: which key belongs to whom, which numbers were used and
seen, is the business of :mod:`relaymesh.protocol.link`.

    0      version (high nibble) | type (low nibble)
    1      key epoch
    2-3    index of the sending node
    4-11   packet number, from 1 with each key
    12-    ciphertext, then a tag of 16 bytes

The header is the associated data. The nonce is four zero bytes and the packet
number: a key serves one direction of one adjacency and one epoch, so no nonce
comes twice under a key (NIST SP 800-38D § 8.2.1).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relaymesh.protocol.errors import ProtocolError

VERSION = 1
TYPE_SEALED = 1
KEY_BYTES = 16
TAG_BYTES = 16
MAX_DATAGRAM_BYTES = 1452  # an Ethernet frame of 1500, less IPv6 (40) and UDP (8): never fragmented there

_HEADER = struct.Struct("!BBHQ")
HEADER_BYTES = _HEADER.size
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES  # around the frames
MIN_DATAGRAM_BYTES = OVERHEAD_BYTES
MAX_PLAINTEXT_BYTES = MAX_DATAGRAM_BYTES - OVERHEAD_BYTES

_FIRST_BYTE = VERSION << 4 | TYPE_SEALED
_NONCE_PREFIX = bytes(4)


class Header(NamedTuple):
    """The clear part of a datagram; nothing in it is to be believed before the seal opened."""

    epoch: int  # 0..255
    sender: int  # node index, u16
    number: int  # packet number, u64


def read_header(datagram: bytes) -> Header:
    """The header of a version 1 sealed datagram, for finding the link and the key.

    Raises:
        ProtocolError: oversized, truncated, version, or malformed (a type unknown to version 1).
    """
    size = len(datagram)
    if size > MAX_DATAGRAM_BYTES:
        raise ProtocolError("oversized", f"{size} bytes")
    if size < MIN_DATAGRAM_BYTES:
        raise ProtocolError("truncated", f"{size} bytes")
    first, epoch, sender, number = _HEADER.unpack_from(datagram)
    if first != _FIRST_BYTE:
        if first >> 4 != VERSION:
            raise ProtocolError("version", f"{first >> 4}")
        raise ProtocolError("malformed", f"datagram type {first & 15}")
    return Header(epoch, sender, number)


def seal(key: AESGCM, epoch: int, sender: int, number: int, plaintext: bytes) -> bytes:
    """The datagram that carries *plaintext* under *key*; *number* must never be used again with it.

    Raises:
        ProtocolError: oversized, when the datagram would be larger than :data:`MAX_DATAGRAM_BYTES`.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise ProtocolError("oversized", f"{len(plaintext)} bytes of frames")
    clear = _HEADER.pack(_FIRST_BYTE, epoch, sender, number)
    return clear + key.encrypt(_NONCE_PREFIX + clear[4:], plaintext, clear)


def open_sealed(key: AESGCM, datagram: bytes) -> bytes:
    """The plaintext of *datagram*, whose header :func:`read_header` has accepted.

    Raises:
        ProtocolError: unauthentic.
    """
    try:
        return key.decrypt(
            _NONCE_PREFIX + datagram[4:HEADER_BYTES], datagram[HEADER_BYTES:], datagram[:HEADER_BYTES]
        )
    except InvalidTag:
        raise ProtocolError("unauthentic") from None
