"""The sealed datagram: a clear header of 12 bytes, then AES-128-GCM over the frames.

In: keys, header fields and plaintexts; out: datagrams, and back, a batch at a time. This
module holds no state: which key belongs to whom, which numbers were used and
seen, is the business of :mod:`relaymesh.protocol.keyring`.

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

from relaymesh.kernels.aead import Opener, Sealer
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

SealJob = tuple[Sealer, bytes, bytes]  # the key, the clear header, the plaintext
OpenJob = tuple[Opener, bytes]  # the key, the datagram: one whose header read_header() has accepted


def read_header(datagram: bytes) -> tuple[int, int, int]:
    """(key epoch, index of the sender, packet number): for finding the link and the key.

    Nothing in it is to be believed before the seal opened.

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
    return epoch, sender, number


def seal_job(sealer: Sealer, epoch: int, sender: int, number: int, plaintext: bytes) -> SealJob:
    """The datagram that is to carry *plaintext*; *number* must never be used again with *sealer*.

    Raises:
        ProtocolError: oversized, when the datagram would be larger than :data:`MAX_DATAGRAM_BYTES`.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise ProtocolError("oversized", f"{len(plaintext)} bytes of frames")
    return sealer, _HEADER.pack(_FIRST_BYTE, epoch, sender, number), plaintext
