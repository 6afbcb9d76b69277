//! The relay's sealed datagram, in batches: `relaymesh/kernels/aead_reference.py` describes it.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

const HEADER_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// A key to seal with.
#[pyclass(frozen, module = "relaymesh_native.aead")]
pub struct Sealer(LessSafeKey);

/// A key to open with.
#[pyclass(frozen, module = "relaymesh_native.aead")]
pub struct Opener(LessSafeKey);

fn key(bytes: &[u8]) -> PyResult<LessSafeKey> {
    let key =
        UnboundKey::new(&AES_128_GCM, bytes).map_err(|_| PyValueError::new_err("a key has 16 bytes"))?;
    Ok(LessSafeKey::new(key))
}

/// Four zero bytes and the packet number, which the caller never uses twice with a key.
fn nonce(header: &[u8]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&header[4..HEADER_BYTES]);
    Nonce::assume_unique_for_key(bytes)
}

#[pymethods]
impl Sealer {
    #[new]
    fn new(bytes: &[u8]) -> PyResult<Self> {
        key(bytes).map(Self)
    }
}

#[pymethods]
impl Opener {
    #[new]
    fn new(bytes: &[u8]) -> PyResult<Self> {
        key(bytes).map(Self)
    }
}

/// The datagrams of jobs (key, header, plaintext), in order.
#[pyfunction]
pub fn seal_batch<'py>(jobs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let sealed = PyList::empty(jobs.py());
    for job in jobs.try_iter()? {
        let (sealer, header, plaintext): (Bound<'py, Sealer>, Bound<'py, PyBytes>, Bound<'py, PyBytes>) =
            job?.extract()?;
        sealed.append(seal(&sealer, header.as_bytes(), plaintext.as_bytes())?)?;
    }
    Ok(sealed)
}

fn seal<'py>(sealer: &Bound<'py, Sealer>, header: &[u8], plaintext: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    if header.len() != HEADER_BYTES {
        return Err(PyValueError::new_err("a header has 12 bytes"));
    }
    PyBytes::new_with(sealer.py(), HEADER_BYTES + plaintext.len() + TAG_BYTES, |datagram| {
        let (clear, rest) = datagram.split_at_mut(HEADER_BYTES);
        let (cipher, tag) = rest.split_at_mut(plaintext.len());
        clear.copy_from_slice(header);
        sealer
            .get()
            .0
            .seal_out_of_place_scatter(nonce(header), Aad::from(header), plaintext, cipher, &[], tag)
            .map_err(|_| PyValueError::new_err("the plaintext is too long"))
    })
}

/// The plaintexts of jobs (key, datagram), in order; None for what was not sealed with the key.
#[pyfunction]
pub fn open_batch<'py>(jobs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let opened = PyList::empty(jobs.py());
    for job in jobs.try_iter()? {
        let (opener, datagram): (Bound<'py, Opener>, Bound<'py, PyBytes>) = job?.extract()?;
        opened.append(open(&opener, datagram.as_bytes()))?;
    }
    Ok(opened)
}

fn open<'py>(opener: &Bound<'py, Opener>, datagram: &[u8]) -> Option<Bound<'py, PyBytes>> {
    let size = datagram.len().checked_sub(HEADER_BYTES + TAG_BYTES)?;
    let (header, rest) = datagram.split_at(HEADER_BYTES);
    let (cipher, tag) = rest.split_at(size);
    PyBytes::new_with(opener.py(), size, |plain| {
        opener
            .get()
            .0
            .open_separate_gather(nonce(header), Aad::from(header), cipher, tag, plain)
            .map_err(|_| PyValueError::new_err("unauthentic"))
    })
    .ok()
}
