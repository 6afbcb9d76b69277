"""The relay's sealed datagram, in batches: AES-128-GCM by `cryptography`. The reference kernel.

In: keys, clear headers of 12 bytes and plaintexts; out: datagrams, and back. A
datagram is the header, the ciphertext and a tag of 16 bytes. The header is the
associated data; the nonce is four zero bytes and the header's last eight, the
packet number (NIST SP 800-38D § 8.2.1). Keeps no count of numbers: the caller
never uses one twice with a key, and refuses replays.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 16
HEADER_BYTES = 12
TAG_BYTES = 16
_NONCE_PREFIX = bytes(4)


class Sealer:
    """A key to seal with.

    Raises:
        ValueError: the key has not 16 bytes.
    """

    __slots__ = ("encrypt",)

    def __init__(self, key: bytes) -> None:
        self.encrypt = _key(key).encrypt


class Opener:
    """A key to open with.

    Raises:
        ValueError: the key has not 16 bytes.
    """

    __slots__ = ("decrypt",)

    def __init__(self, key: bytes) -> None:
        self.decrypt = _key(key).decrypt


def seal_batch(jobs: Sequence[tuple[Sealer, bytes, bytes]]) -> list[bytes]:
    """The datagrams of *jobs* (key, header, plaintext), in order.

    Raises:
        ValueError: a header has not 12 bytes.
    """
    sealed = []
    for sealer, header, plaintext in jobs:
        if len(header) != HEADER_BYTES:
            raise ValueError("a header has 12 bytes")
        sealed.append(header + sealer.encrypt(_NONCE_PREFIX + header[4:], plaintext, header))
    return sealed


def open_batch(jobs: Sequence[tuple[Opener, bytes]]) -> list[bytes | None]:
    """The plaintexts of *jobs* (key, datagram), in order; None for what was not sealed with the key."""
    opened: list[bytes | None] = []
    for opener, datagram in jobs:
        if len(datagram) < HEADER_BYTES + TAG_BYTES:
            opened.append(None)
            continue
        header = datagram[:HEADER_BYTES]
        try:
            opened.append(opener.decrypt(_NONCE_PREFIX + header[4:], datagram[HEADER_BYTES:], header))
        except InvalidTag:
            opened.append(None)
    return opened


def _key(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 16 bytes")
    return AESGCM(key)
