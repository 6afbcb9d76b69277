"""One datagram sealed or opened by itself, through the batches the product has."""

from __future__ import annotations

from relaymesh.kernels.aead import Opener, Sealer, open_batch
from relaymesh.protocol.datagram import open_job, read_header, seal_job, seal_jobs
from relaymesh.protocol.errors import ProtocolError


def seal(key: bytes, epoch: int, sender: int, number: int, plaintext: bytes, *, short: bool = False) -> bytes:
    """The datagram that carries *plaintext*. Raises ``ProtocolError`` (oversized)."""
    return seal_jobs([seal_job(Sealer(key), epoch, sender, number, plaintext, short=short)])[0]


def unseal(key: bytes, datagram: bytes, number: int | None = None) -> bytes:
    """Its plaintext; a short header needs the *number*. Raises ``ProtocolError`` (unauthentic)."""
    told = read_header(datagram)[2]
    [plaintext] = open_batch([open_job(Opener(key), datagram, told if number is None else number)])
    if plaintext is None:
        raise ProtocolError("unauthentic")
    return plaintext
