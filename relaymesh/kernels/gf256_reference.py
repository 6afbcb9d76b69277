"""GF(256) products over whole packets: the reference kernel of the erasure code.

The field is that of ``reedsolo``: polynomial 0x11d, generator 2. A product of a
packet with one coefficient is a ``bytes.translate`` by that coefficient's table;
a sum is an XOR of big integers. In: bytes and coefficients (0..255); out: bytes.
Knows no packets and no blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

POLYNOMIAL = 0x11D


def _tables() -> tuple[list[int], list[int]]:
    exp, log = [0] * 510, [0] * 256
    value = 1
    for power in range(255):
        exp[power] = exp[power + 255] = value
        log[value] = power
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL
    return exp, log


_EXP, _LOG = _tables()


def multiply(one: int, other: int) -> int:
    """The product of two field elements."""
    if not one or not other:
        return 0
    return _EXP[_LOG[one] + _LOG[other]]


def invert(element: int) -> int:
    """The inverse of *element*, which must not be 0."""
    if not element:
        raise ZeroDivisionError("0 has no inverse in a field")
    return _EXP[255 - _LOG[element]]


# The table of coefficient c maps each byte to its product with c: 64 KiB in all.
_TIMES = [bytes(multiply(factor, byte) for byte in range(256)) for factor in range(256)]


def combine(coefficients: Sequence[int], packets: Sequence[bytes], size: int) -> bytes:
    """The sum of *packets*, each times its coefficient, as *size* bytes; shorter ones count as padded.

    Raises:
        OverflowError: a packet is longer than *size* (and does not end in zeros).
    """
    total = 0
    for coefficient, packet in zip(coefficients, packets, strict=True):
        if coefficient == 1:
            total ^= int.from_bytes(packet, "little")
        elif coefficient:
            total ^= int.from_bytes(packet.translate(_TIMES[coefficient]), "little")
    return total.to_bytes(size, "little")


def invert_matrix(matrix: Sequence[Sequence[int]]) -> list[list[int]]:
    """The inverse of a small square matrix, by Gauss and Jordan.

    Raises:
        ValueError: it is singular.
    """
    size = len(matrix)
    rows = [[*row, *(int(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column]), None)
        if pivot is None:
            raise ValueError("the matrix is singular")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = invert(rows[column][column])
        rows[column] = [multiply(scale, value) for value in rows[column]]
        for r in range(size):
            factor = rows[r][column]
            if r != column and factor:
                rows[r] = [
                    value ^ multiply(factor, other)
                    for value, other in zip(rows[r], rows[column], strict=True)
                ]
    return [row[size:] for row in rows]
