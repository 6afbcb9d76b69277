"""Sets of nodes as bit strings: bit *i* is the node whose index is *i*.

In memory a set is a Python ``int``; on the wire and on the control channel it
is little-endian bytes, so that bit *i* sits in byte ``i >> 3`` (the idea of
BIER, RFC 8279). In go integers or bytes, out comes the other; nothing here
knows what the nodes are or whether they exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

MAX_SET_BYTES = 255
MAX_INDEX = MAX_SET_BYTES * 8 - 1


@lru_cache(maxsize=4096)  # on the packet path, where few sets come again and again
def encode_set(bits: int) -> bytes:
    """The set *bits* in as few bytes as hold it; the empty set is ``b""``.

    Raises:
        ValueError: *bits* is negative or names a node above :data:`MAX_INDEX`.
    """
    length = (bits.bit_length() + 7) >> 3
    if bits < 0 or length > MAX_SET_BYTES:
        raise ValueError(f"no node set: {bits:#x}")
    return bits.to_bytes(length, "little")


def decode_set(data: bytes) -> int:
    """The set that *data* holds. Every byte string is a set; zero bytes at the end add nothing."""
    return int.from_bytes(data, "little")


def members(bits: int) -> list[int]:
    """The node indices in *bits*, rising."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def set_of(indices: Iterable[int]) -> int:
    """The set of the given node indices."""
    bits = 0
    for index in indices:
        bits |= 1 << index
    return bits
