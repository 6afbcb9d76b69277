"""The field and its products: the reference against `reedsolo`, the native kernel against the reference."""

from typing import Any

import pytest
import reedsolo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaymesh.kernels import gf256
from tests.kernels.both import native, over_both, reference

kernel = over_both("gf256")
over_kernels = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

elements = st.integers(0, 255)


def test_the_field_is_that_of_reedsolo() -> None:
    reedsolo.init_tables(prim=gf256.POLYNOMIAL, generator=2)
    for one in range(256):
        for other in range(0, 256, 7):
            assert gf256.multiply(one, other) == reedsolo.gf_mul(one, other)


@given(st.integers(1, 255))
def test_inverses(element: int) -> None:
    assert gf256.multiply(element, gf256.invert(element)) == 1


def test_0_has_no_inverse() -> None:
    with pytest.raises(ZeroDivisionError):
        gf256.invert(0)


@over_kernels
@given(terms=st.lists(st.tuples(elements, st.binary(max_size=20)), max_size=6))
def test_combine_is_the_sum_of_products_byte_by_byte(kernel: Any, terms: list[tuple[int, bytes]]) -> None:
    expected = bytearray(20)
    for coefficient, packet in terms:
        for i, byte in enumerate(packet):
            expected[i] ^= gf256.multiply(coefficient, byte)
    assert kernel.combine([c for c, _ in terms], [p for _, p in terms], 20) == bytes(expected)


def test_every_product_of_two_elements(kernel: Any) -> None:
    every = bytes(range(256))
    for coefficient in range(256):
        expected = bytes(gf256.multiply(coefficient, byte) for byte in every)
        assert kernel.combine([coefficient], [every], 256) == expected


def test_packets_of_other_lengths(kernel: Any) -> None:
    assert kernel.combine([], [], 3) == bytes(3)
    assert kernel.combine([1, 1], [b"ab", b"\0\0c"], 4) == b"abc\0"
    assert kernel.combine([1, 3], [b"ab\0\0", b""], 2) == b"ab"  # what is cut off is zeros
    assert kernel.combine([0], [b"long"], 2) == bytes(2)
    assert kernel.combine([7, 7], [b"long", b"long"], 1) == bytes(1)  # they cancel out
    with pytest.raises(OverflowError):
        kernel.combine([1], [b"abc"], 2)
    with pytest.raises(ValueError, match="argument 2 is"):
        kernel.combine([1, 2], [b"abc"], 3)


@given(st.lists(st.tuples(elements, st.binary(max_size=1500)), max_size=33), st.integers(0, 1500))
def test_both_kernels_give_the_same_bytes(terms: list[tuple[int, bytes]], size: int) -> None:
    arguments = [c for c, _ in terms], [p for _, p in terms], size
    try:
        expected = reference("gf256").combine(*arguments)
    except OverflowError:
        with pytest.raises(OverflowError):
            native("gf256").combine(*arguments)
        return
    assert native("gf256").combine(*arguments) == expected


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(elements, min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_a_matrix_times_its_inverse_is_one(matrix: list[list[int]]) -> None:
    try:
        inverse = gf256.invert_matrix(matrix)
    except ValueError:
        return
    size = len(matrix)
    for i in range(size):
        for j in range(size):
            total = 0
            for k in range(size):
                total ^= gf256.multiply(matrix[i][k], inverse[k][j])
            assert total == (i == j)


def test_a_singular_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        gf256.invert_matrix([[1, 2], [1, 2]])
