"""One datagram sealed or opened by itself, through the batches the product has."""

from __future__ import annotations

from relaymesh.kernels.aead import Opener, Sealer, open_batch, seal_batch
from relaymesh.protocol.datagram import seal_job
from relaymesh.protocol.errors import ProtocolError


def seal(key: bytes, epoch: int, sender: int, number: int, plaintext: bytes) -> bytes:
    """The datagram that carries *plaintext*. Raises ``ProtocolError`` (oversized)."""
    return seal_batch([seal_job(Sealer(key), epoch, sender, number, plaintext)])[0]


def unseal(key: bytes, datagram: bytes) -> bytes:
    """Its plaintext. Raises ``ProtocolError`` (unauthentic)."""
    [plaintext] = open_batch([(Opener(key), datagram)])
    if plaintext is None:
        raise ProtocolError("unauthentic")
    return plaintext
