"""Seals and opens the relay's datagrams in batches, by the kernel that serves: see :mod:`.aead_reference`."""

from typing import TYPE_CHECKING

from .choice import NATIVE

if TYPE_CHECKING or NATIVE is None:
    from .aead_reference import Opener, Sealer, open_batch, seal_batch
else:
    Opener, Sealer = NATIVE.aead.Opener, NATIVE.aead.Sealer
    open_batch, seal_batch = NATIVE.aead.open_batch, NATIVE.aead.seal_batch

__all__ = ["Opener", "Sealer", "open_batch", "seal_batch"]
