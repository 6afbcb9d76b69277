//! Products over whole packets in GF(256): `relaymesh/kernels/gf256_reference.py` describes the field.

use std::sync::LazyLock;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const POLYNOMIAL: u16 = 0x11D;

/// For each coefficient its products with 0..16, then with 0, 16, 32 … 240: a byte's product is the sum of two.
static HALVES: LazyLock<[[u8; 32]; 256]> = LazyLock::new(|| {
    let mut halves = [[0; 32]; 256];
    for (coefficient, row) in halves.iter_mut().enumerate() {
        for half in 0..16 {
            row[half] = multiply(coefficient as u8, half as u8);
            row[half + 16] = multiply(coefficient as u8, (half << 4) as u8);
        }
    }
    halves
});

/// The product of two field elements, bit by bit.
fn multiply(one: u8, other: u8) -> u8 {
    let (mut shifted, mut product) = (u16::from(one), 0);
    for bit in 0..8 {
        if other >> bit & 1 == 1 {
            product ^= shifted;
        }
        shifted <<= 1;
        if shifted & 0x100 != 0 {
            shifted ^= POLYNOMIAL;
        }
    }
    product as u8
}

/// Add `packet` times `coefficient` to `total`, which is at least as long.
fn add_product(total: &mut [u8], packet: &[u8], coefficient: u8) {
    let total = &mut total[..packet.len()];
    if coefficient == 1 {
        total.iter_mut().zip(packet).for_each(|(sum, byte)| *sum ^= byte);
        return;
    }
    let halves = &HALVES[usize::from(coefficient)];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        unsafe { add_product_avx2(total, packet, halves) };
        return;
    }
    add_product_by_table(total, packet, halves);
}

fn add_product_by_table(total: &mut [u8], packet: &[u8], halves: &[u8; 32]) {
    for (sum, byte) in total.iter_mut().zip(packet) {
        *sum ^= halves[usize::from(byte & 15)] ^ halves[usize::from(byte >> 4) + 16];
    }
}

/// 32 bytes at a time: PSHUFB looks 32 half bytes up in a table of 16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_product_avx2(total: &mut [u8], packet: &[u8], halves: &[u8; 32]) {
    use std::arch::x86_64::*;
    // SAFETY: each load reads 16 of the 32 bytes of `halves`; unaligned loads ask for no more.
    let (low, high) = unsafe {
        let at = halves.as_ptr().cast::<__m128i>();
        (_mm_loadu_si128(at), _mm_loadu_si128(at.add(1)))
    };
    let (low, high) = (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high));
    let mask = _mm256_set1_epi8(15);
    let mut sums = total.chunks_exact_mut(32);
    let mut bytes = packet.chunks_exact(32);
    for (sum, byte) in (&mut sums).zip(&mut bytes) {
        // SAFETY: both chunks have exactly 32 bytes, and unaligned loads and stores touch no more.
        unsafe {
            let value = _mm256_loadu_si256(byte.as_ptr().cast());
            let one = _mm256_shuffle_epi8(low, _mm256_and_si256(value, mask));
            let other = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(value, 4), mask));
            let at = sum.as_mut_ptr().cast();
            let added = _mm256_xor_si256(_mm256_loadu_si256(at), _mm256_xor_si256(one, other));
            _mm256_storeu_si256(at, added);
        }
    }
    add_product_by_table(sums.into_remainder(), bytes.remainder(), halves);
}

/// The sum of packets, each times its coefficient, as `size` bytes; shorter ones count as padded.
#[pyfunction]
pub fn combine<'py>(
    py: Python<'py>,
    coefficients: Vec<u16>,
    packets: Vec<Bound<'py, PyBytes>>,
    size: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    if coefficients.len() != packets.len() {
        let than = if packets.len() < coefficients.len() { "shorter" } else { "longer" };
        return Err(PyValueError::new_err(format!("argument 2 is {than} than argument 1")));
    }
    if coefficients.iter().any(|coefficient| *coefficient > 255) {
        return Err(PyValueError::new_err("a coefficient is a byte"));
    }
    let terms = coefficients.iter().zip(&packets).filter(|(coefficient, _)| **coefficient != 0);
    let longest = terms.clone().map(|(_, packet)| packet.as_bytes().len()).max().unwrap_or(0);
    let sum = |total: &mut [u8]| {
        terms.for_each(|(coefficient, packet)| add_product(total, packet.as_bytes(), *coefficient as u8));
    };
    if longest <= size {
        return PyBytes::new_with(py, size, |total| {
            sum(total);
            Ok(())
        });
    }
    let mut total = vec![0; longest];
    sum(&mut total);
    if total[size..].iter().any(|byte| *byte != 0) {
        return Err(PyOverflowError::new_err("a packet is longer than size"));
    }
    Ok(PyBytes::new(py, &total[..size]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_table_as_by_the_processors_own_means() {
        let packet: Vec<u8> = (0..300).map(|i| (i * 7 + 3) as u8).collect();
        for coefficient in 2..=255 {
            for size in [0, 1, 31, 32, 33, 64, 300] {
                let (mut one, mut other) = (vec![0x5A; size], vec![0x5A; size]);
                add_product(&mut one, &packet[..size], coefficient);
                add_product_by_table(&mut other, &packet[..size], &HALVES[usize::from(coefficient)]);
                assert_eq!(one, other);
            }
        }
    }
}
