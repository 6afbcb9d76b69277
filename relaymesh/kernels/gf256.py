"""GF(256) products over whole packets, by the kernel that serves: see :mod:`.gf256_reference`.

Only :func:`combine` touches every byte of a packet; the rest works on small matrices and stays in Python.
"""

from typing import TYPE_CHECKING

from .choice import NATIVE
from .gf256_reference import POLYNOMIAL, invert, invert_matrix, multiply

if TYPE_CHECKING or NATIVE is None:
    from .gf256_reference import combine
else:
    combine = NATIVE.gf256.combine

__all__ = ["POLYNOMIAL", "combine", "invert", "invert_matrix", "multiply"]
