//! A session's way out and the streams on it: what a packet is assigned to. The gate and the numbers are as in
//! `relaymesh/kernels/fan_out_reference.py`, in the same order of floating-point operations.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use nix::sys::socket::SockaddrStorage;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::datagrams::parse;
use crate::srtp::{Sender, SrtpSender};

const BURST_S: f64 = 0.005; // what the gate lets through at once, in seconds of its rate
const DEBT_S: f64 = 2.0; // how far urgent packets may overdraw it
const LOG_ENTRIES: usize = 8192;

/// One session's way out.
#[pyclass(module = "relaymesh_native.fan_out")]
pub struct Path {
    sender: Option<Py<SrtpSender>>,
    address: Option<Py<PyTuple>>,
    #[pyo3(get, set)]
    is_open: bool,
    #[pyo3(get, set)]
    dropped: u64,
    #[pyo3(get, set)]
    pub number: u16,
    #[pyo3(get, set)]
    gated: bool,
    #[pyo3(get, set)]
    is_behind: bool,
    #[pyo3(get, set)]
    allowance: f64,
    #[pyo3(get, set)]
    rate: f64,
    #[pyo3(get, set)]
    least_burst: f64,
    #[pyo3(get, set)]
    at: f64,
    sent: VecDeque<(Option<u16>, u64, f64)>,
    target: Option<SockaddrStorage>,
    /// Counts changes of sender and address: packets that were assigned before go where they were to go.
    version: u64,
    /// The bucket of a fan-out's batch that its packets wait in: (batch, version, which).
    bucket: (u64, u64, usize),
}

/// Where assigned packets go, and by which keys.
pub struct Exit {
    pub sender: Option<Arc<Mutex<Sender>>>,
    pub target: Option<SockaddrStorage>,
    pub address: Py<PyTuple>,
}

#[pymethods]
impl Path {
    #[new]
    #[pyo3(signature = (sender=None))]
    fn new(sender: Option<Py<SrtpSender>>) -> Self {
        Self {
            sender,
            address: None,
            is_open: false,
            dropped: 0,
            number: 0,
            gated: false,
            is_behind: false,
            allowance: 0.0,
            rate: 0.0,
            least_burst: 0.0,
            at: 0.0,
            sent: VecDeque::new(),
            target: None,
            version: 0,
            bucket: (0, 0, 0),
        }
    }

    #[getter]
    fn sender(&self, py: Python<'_>) -> Option<Py<SrtpSender>> {
        self.sender.as_ref().map(|sender| sender.clone_ref(py))
    }

    #[setter]
    fn set_sender(&mut self, sender: Option<Py<SrtpSender>>) {
        self.sender = sender;
        self.version += 1;
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }

    #[setter]
    fn set_address(&mut self, address: Option<Bound<'_, PyTuple>>) {
        self.target = address.as_ref().and_then(|address| parse(address));
        self.address = address.map(Bound::unbind);
        self.version += 1;
    }

    /// Let the allowance grow to *now*.
    pub fn refill(&mut self, now: f64) {
        if now > self.at {
            let most = self.least_burst.max(self.rate * BURST_S);
            let grown = most.min(self.allowance + (now - self.at) * self.rate);
            self.allowance = self.allowance.max(grown);
            self.at = now;
        }
    }

    /// What was sent since the last call: (transport-wide number or None, bytes, when).
    fn take_sent(&mut self) -> Vec<(Option<u16>, u64, f64)> {
        self.sent.drain(..).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sender)?;
        visit.call(&self.address)
    }

    fn __clear__(&mut self) {
        self.sender = None;
        self.address = None;
    }
}

impl Path {
    /// Whether a packet of a stream may go now; opens the account for `now`.
    pub fn admits(&mut self, urgent: bool, now: f64) -> bool {
        if !self.gated {
            return true;
        }
        self.refill(now);
        urgent || !(self.is_behind || self.allowance <= 0.0)
    }

    /// The bucket of the batch `batch` that packets of this path wait in, if there is one.
    pub fn bucket_in(&self, batch: u64) -> Option<usize> {
        (self.bucket.0 == batch && self.bucket.1 == self.version).then_some(self.bucket.2)
    }

    /// Let packets wait in the bucket `which` of the batch `batch`.
    pub fn use_bucket(&mut self, batch: u64, which: usize) {
        self.bucket = (batch, self.version, which);
    }

    /// Whether a packet goes anywhere; one that does not is counted.
    pub fn leaves(&mut self) -> bool {
        let leaves = self.is_open && self.address.is_some();
        self.dropped += u64::from(!leaves);
        leaves
    }

    /// Book a packet of `size` bytes; whether it goes anywhere.
    pub fn book(&mut self, number: Option<u16>, size: u64, now: f64) -> bool {
        if self.gated {
            self.allowance = (self.allowance - size as f64).max(-self.rate * DEBT_S);
            if self.sent.len() == LOG_ENTRIES {
                self.sent.pop_front();
            }
            self.sent.push_back((number, size, now));
        }
        self.leaves()
    }

    /// The way out as it is now; only where there is an address.
    pub fn exit(&self, py: Python<'_>) -> Option<Exit> {
        Some(Exit {
            sender: self.sender.as_ref().map(|sender| sender.get().state.clone()),
            target: self.target,
            address: self.address.as_ref()?.clone_ref(py),
        })
    }
}

/// One sender's copy of an encoding.
#[pyclass(module = "relaymesh_native.fan_out")]
pub struct Stream {
    path: Py<Path>,
    owner: Option<Py<PyAny>>,
    #[pyo3(get)]
    pub ssrc: u32,
    #[pyo3(get)]
    pub payload_type: u8,
    #[pyo3(get)]
    pub profile: usize,
    #[pyo3(get)]
    pub has_number: bool,
    #[pyo3(get)]
    pub urgent: bool,
    pub sequence_offset: u16,
    pub timestamp_offset: u32,
    #[pyo3(get, set)]
    pub spatial: i64,
    #[pyo3(get, set)]
    pub temporal: i64,
    // Added to what decoders count pictures by, modulo the width of each.
    pub picture_offset: u16,
    pub tl0_offset: u8,
    pub frame_offset: u16,
}

#[pymethods]
impl Stream {
    #[new]
    #[pyo3(signature = (path, owner, *, ssrc, payload_type, profile, has_number, urgent, sequence_offset,
                        timestamp_offset, spatial, temporal, picture_offset=0, tl0_offset=0, frame_offset=0))]
    #[allow(clippy::too_many_arguments)] // keyword arguments, as the reference has
    fn new(
        path: Py<Path>,
        owner: Py<PyAny>,
        ssrc: u32,
        payload_type: u8,
        profile: usize,
        has_number: bool,
        urgent: bool,
        sequence_offset: &Bound<'_, PyAny>,
        timestamp_offset: &Bound<'_, PyAny>,
        spatial: i64,
        temporal: i64,
        picture_offset: i64,
        tl0_offset: i64,
        frame_offset: i64,
    ) -> PyResult<Self> {
        Ok(Self {
            path,
            owner: Some(owner),
            ssrc,
            payload_type,
            profile,
            has_number,
            urgent,
            // Whatever int it is, only the low bits of a sum count.
            sequence_offset: sequence_offset.call_method1("__and__", (0xFFFF,))?.extract()?,
            timestamp_offset: timestamp_offset.call_method1("__and__", (0xFFFF_FFFF_u32,))?.extract()?,
            spatial,
            temporal,
            picture_offset: picture_offset as u16,
            tl0_offset: tl0_offset as u8,
            frame_offset: frame_offset as u16,
        })
    }

    #[getter]
    fn path(&self, py: Python<'_>) -> Py<Path> {
        self.path.clone_ref(py)
    }

    #[getter]
    pub fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.path)?;
        visit.call(&self.owner)
    }

    fn __clear__(&mut self) {
        self.owner = None; // an owner holds its stream: the one cycle there can be
    }
}

impl Stream {
    pub fn path_of<'py>(&self, py: Python<'py>) -> PyRefMut<'py, Path> {
        self.path.bind(py).borrow_mut()
    }
}
