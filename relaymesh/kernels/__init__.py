"""Kernels: the work for each byte and each copy, behind Python that decides.

`aead` seals and opens the relay's datagrams, `srtp` those of browsers, `gf256`
computes the erasure code, `udp` reads and sends batches, `fan_out` does what one
packet needs for all its subscribers. Each has a readable `<name>_reference` in
Python; where the package `relaymesh-native` is installed, its compiled twin
takes its place. Which one serves is settled once, at import: see :mod:`.choice`.

A kernel knows no room, no session and no time but what it is given. Imports
nothing of relaymesh.
"""

from .choice import VARIABLE, Choice, chosen

__all__ = ["VARIABLE", "Choice", "chosen"]
