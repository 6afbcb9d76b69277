"""One datagram sealed or opened by itself, through the batches the product has."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relaymesh.protocol.datagram import open_batch, seal_batch, seal_job
from relaymesh.protocol.errors import ProtocolError


def seal(key: AESGCM, epoch: int, sender: int, number: int, plaintext: bytes) -> bytes:
    """The datagram that carries *plaintext*. Raises ``ProtocolError`` (oversized)."""
    return seal_batch([seal_job(key, epoch, sender, number, plaintext)])[0]


def unseal(key: AESGCM, datagram: bytes) -> bytes:
    """Its plaintext. Raises ``ProtocolError`` (unauthentic)."""
    [plaintext] = open_batch([(key, datagram)])
    if plaintext is None:
        raise ProtocolError("unauthentic")
    return plaintext
