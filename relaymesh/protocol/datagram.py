"""The sealed datagram: a short clear header, then AES-128-GCM over the frames.

In: keys, header fields and plaintexts; out: datagrams, and back, a batch at a time. This
module holds no state: which key belongs to whom, which numbers were used and
seen, is the business of :mod:`relaymesh.protocol.keyring`.

    0      version (high nibble) | type (low nibble): 1 long, 2 short
    1      key epoch
    2-3    index of the sending node
    4-     packet number, from 1 with each key: all 4 bytes (long), or its last 2 (short)
    6/8-   ciphertext, then a tag of 16 bytes

The associated data is the *full* header of 12 bytes: the first four, and the packet number in eight. The
nonce is four zero bytes and the packet number: a key serves one direction of one adjacency and one
epoch, so no nonce comes twice under a key (NIST SP 800-38D § 8.2.1). Kernels seal and open what has a full
header; what leaves and arrives is cut here, and made whole again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from relaymesh.kernels.aead import Opener, Sealer, seal_batch
from relaymesh.protocol.errors import ProtocolError

VERSION = 2
TYPE_LONG, TYPE_SHORT = 1, 2
KEY_BYTES = 16
TAG_BYTES = 16
MAX_DATAGRAM_BYTES = 1452  # an Ethernet frame of 1500, less IPv6 (40) and UDP (8): never fragmented there
MAX_NUMBER = 0xFFFFFFFF

_FULL = struct.Struct("!BBHQ")
_LONG = struct.Struct("!BBHI")
_SHORT = struct.Struct("!BBHH")
LONG_HEADER_BYTES, SHORT_HEADER_BYTES = _LONG.size, _SHORT.size
_CUT_LONG, _CUT_SHORT = _FULL.size - 4, _FULL.size - 2  # where the rest of a full header begins on the wire
_COMMON_BYTES = 4  # of all headers
OVERHEAD_BYTES = LONG_HEADER_BYTES + TAG_BYTES  # around the frames, at most
SHORT_OVERHEAD_BYTES = MIN_DATAGRAM_BYTES = SHORT_HEADER_BYTES + TAG_BYTES
MAX_PLAINTEXT_BYTES = MAX_DATAGRAM_BYTES - OVERHEAD_BYTES

_FIRST_LONG, _FIRST_SHORT = VERSION << 4 | TYPE_LONG, VERSION << 4 | TYPE_SHORT
_U64 = struct.Struct("!Q")

SealJob = tuple[Sealer, bytes, bytes]  # the key, the full header, the plaintext
OpenJob = tuple[Opener, bytes]  # the key, the datagram with its full header


def read_header(datagram: bytes) -> tuple[int, int, int, bool]:
    """(key epoch, index of the sender, packet number, whether it is only the last 2 bytes of it).

    For finding the link and the key; nothing in it is to be believed before the seal opened.

    Raises:
        ProtocolError: oversized, truncated, version, or malformed (a type unknown to version 2).
    """
    size = len(datagram)
    if size > MAX_DATAGRAM_BYTES:
        raise ProtocolError("oversized", f"{size} bytes")
    if size < MIN_DATAGRAM_BYTES:
        raise ProtocolError("truncated", f"{size} bytes")
    first, epoch, sender, number = _SHORT.unpack_from(datagram)
    if first == _FIRST_SHORT:
        return epoch, sender, number, True
    if first >> 4 != VERSION:
        raise ProtocolError("version", f"{first >> 4}")
    if first != _FIRST_LONG:
        raise ProtocolError("malformed", f"datagram type {first & 15}")
    if size < OVERHEAD_BYTES:
        raise ProtocolError("truncated", f"{size} bytes")
    _, _, _, number = _LONG.unpack_from(datagram)
    return epoch, sender, number, False


def open_job(opener: Opener, datagram: bytes, number: int) -> OpenJob:
    """What is to be opened: a *datagram* whose header :func:`read_header` accepted, of packet *number*."""
    begin = SHORT_HEADER_BYTES if datagram[0] == _FIRST_SHORT else LONG_HEADER_BYTES
    return opener, datagram[:_COMMON_BYTES] + _U64.pack(number) + datagram[begin:]


def seal_job(
    sealer: Sealer, epoch: int, sender: int, number: int, plaintext: bytes, *, short: bool = False
) -> SealJob:
    """The datagram that is to carry *plaintext*; *number* must never be used again with *sealer*.

    *short*: the peer knows a number so near that the last 2 bytes tell this one.

    Raises:
        ProtocolError: oversized, when the datagram would be larger than :data:`MAX_DATAGRAM_BYTES`.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise ProtocolError("oversized", f"{len(plaintext)} bytes of frames")
    return sealer, _FULL.pack(_FIRST_SHORT if short else _FIRST_LONG, epoch, sender, number), plaintext


def size_of(job: SealJob) -> int:
    """Bytes of the datagram that *job* will be."""
    header = SHORT_HEADER_BYTES if job[1][0] == _FIRST_SHORT else LONG_HEADER_BYTES
    return header + len(job[2]) + TAG_BYTES


def seal_jobs(jobs: Sequence[SealJob]) -> list[bytes]:
    """The datagrams of *jobs*, in order."""
    return [
        data[:_COMMON_BYTES] + data[_CUT_SHORT if data[0] == _FIRST_SHORT else _CUT_LONG :]
        for data in seal_batch(jobs)
    ]
