import pytest
import reedsolo
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.kernels import gf256

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


@given(st.lists(st.tuples(elements, st.binary(max_size=20)), max_size=6))
def test_combine_is_the_sum_of_products_byte_by_byte(terms: list[tuple[int, bytes]]) -> None:
    expected = bytearray(20)
    for coefficient, packet in terms:
        for i, byte in enumerate(packet):
            expected[i] ^= gf256.multiply(coefficient, byte)
    assert gf256.combine([c for c, _ in terms], [p for _, p in terms], 20) == bytes(expected)


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
